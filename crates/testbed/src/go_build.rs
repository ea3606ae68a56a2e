//! Go programs of this crate, each a module in a folder beside `src`: independent implementations as judges.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Error, Result, command, files, machine};

/// The first build fetches and compiles what a module needs.
const LIMIT: Duration = Duration::from_secs(300);

/// Builds the program of a folder, once for each build folder: what is up to date is not built again.
pub(crate) async fn build(module: &str, name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(Error::io("cannot tell where the tests are"))?;
    let built = own.ancestors().nth(2).map_or_else(std::env::temp_dir, Path::to_owned).join("go-peer");
    let program = built.join(name);
    // There is no network in there: the run outside has built it.
    if machine::is_inside() && program.is_file() {
        return Ok(program);
    }
    let go = command::find("go")
        .or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|path| path.is_file()))
        .ok_or_else(|| Error::Missing { what: "Go".into(), remedy: "install Go 1.24 or later".into() })?;
    files::create_dir(&built)?;
    let lock = std::fs::File::create(built.join("lock")).map_err(Error::io("cannot create a lock"))?;
    // Other tests of the same process build beside this one: their runtime must not stand still meanwhile.
    let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .map_err(|error| Error::Content(error.to_string()))?
        .map_err(Error::io("cannot take the lock of the build"))?;
    let mut build = Command::new(go);
    build
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg(".")
        .env("CGO_ENABLED", "0")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(module));
    command::run_within(build, LIMIT).await?;
    Ok(program)
}
