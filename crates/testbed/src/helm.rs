//! Helm, which no package of the distribution holds: built by Go once, into a folder of the person's cache that carries the
//! version.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::{Error, Result, command, files};

const VERSION: &str = "v3.22.0";

/// The longest that it takes to build on a machine with other things to do.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The program, which is built where it is not there.
///
/// # Errors
/// Where Go is not there, or fails.
pub async fn program() -> Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = named.or_else(home).ok_or_else(|| Error::Missing {
        what: "a folder for built programs".into(),
        remedy: "set XDG_CACHE_HOME or HOME".into(),
    })?;
    let folder = cache.join("harbor-satellite").join(format!("helm-{VERSION}"));
    let program = folder.join("helm");
    if program.is_file() {
        return Ok(program);
    }
    files::create_dir(&folder)?;
    let lock = std::fs::File::create(folder.join("lock")).map_err(Error::io("cannot create a lock"))?;
    // Another test may build it: this one waits, and its runtime goes on meanwhile.
    let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .map_err(|error| Error::Content(error.to_string()))?
        .map_err(Error::io("cannot take the lock of the build"))?;
    let go = command::find("go")
        .or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.is_file()))
        .ok_or_else(|| Error::Missing { what: "Go".into(), remedy: "install Go 1.24 or later".into() })?;
    let mut install = Command::new(go);
    // Go renames it into its place when it is whole.
    install.args(["install", "-trimpath", "-ldflags=-s -w", &format!("helm.sh/helm/v3/cmd/helm@{VERSION}")]);
    install.env("CGO_ENABLED", "0").env("GOBIN", &folder).current_dir(&folder);
    command::run_within(install, LIMIT).await?;
    Ok(program)
}
