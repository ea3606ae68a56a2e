//! Commands that run to their end, with a limit on the time they take.

use std::process::{Output, Stdio};
use std::time::Duration;

use crate::{Error, Result};

/// The longest that a command of a test takes.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Runs a command and gives what it printed to its standard output; everything that it printed is in the error.
pub async fn run(command: std::process::Command) -> Result<String> {
    run_within(command, LIMIT).await
}

/// Like [`run`], with a limit of its own.
pub async fn run_within(command: std::process::Command, limit: Duration) -> Result<String> {
    let text = describe(&command);
    let output = output_within(command, limit).await?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Error::Command { command: text, status: output.status, output: format!("{stdout}{stderr}") })
}

/// Runs a command and gives how it ended and what it printed.
pub async fn output(command: std::process::Command) -> Result<Output> {
    output_within(command, LIMIT).await
}

async fn output_within(command: std::process::Command, limit: Duration) -> Result<Output> {
    let text = describe(&command);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(source)) if source.kind() == std::io::ErrorKind::NotFound => Err(Error::Missing {
            what: format!("the program {program}"),
            remedy: "install the package that holds it".into(),
        }),
        Ok(Err(source)) => Err(Error::Io { what: format!("cannot run `{text}`"), source }),
        Err(_) => Err(Error::Late {
            what: format!("the end of `{text}`"),
            seconds: limit.as_secs(),
            log: String::new(),
        }),
    }
}

/// Where a program of this name is: in `PATH`, or in the system folders that a person's `PATH` lacks.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Into::into))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Like [`find`], with the Debian package in the error.
pub fn need(program: &str, package: &str) -> Result<std::path::PathBuf> {
    find(program).ok_or_else(|| Error::Missing {
        what: format!("the program {program}"),
        remedy: format!("install the Debian package {package}"),
    })
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An error where this process is not root's.
pub fn need_root(what: &str) -> Result<()> {
    if is_root() {
        return Ok(());
    }
    Err(Error::Missing {
        what: "root".into(),
        remedy: format!("{what} starts only for root: run this as root"),
    })
}

fn describe(command: &std::process::Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
