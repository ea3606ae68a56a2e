//! Programs of the machine: asked for their version, and to judge a configuration.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The most that is read of a program's output.
const MAX_OUTPUT: u64 = 4 * 1024 * 1024;

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whether it ended with 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs programs; tests have their own.
pub trait Commands {
    /// Runs a program to its end. An error means that it could not be run or took too long, not that it failed.
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Said>;
}

/// The programs of this machine, or of the one whose root is mounted at a path.
#[derive(Debug, Clone)]
pub struct HostCommands {
    root: PathBuf,
    limit: Duration,
}

impl HostCommands {
    /// Programs below this root (`/`, or where the host's is mounted: then through `chroot`), for at most 10 s each.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), limit: Duration::from_secs(10) }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What cannot be read is judged as what was said up to there.
        drop(from.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes));
        drop(send.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    receive
}

impl Commands for HostCommands {
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Said> {
        let mut command = if self.root.parent().is_none() {
            Command::new(program)
        } else {
            let mut command = Command::new("chroot");
            command.arg(&self.root).arg(program);
            command
        };
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        let said = |pipe: Option<mpsc::Receiver<String>>| match pipe {
            Some(pipe) => pipe.recv_timeout(self.limit).map_err(|_| io::Error::from(io::ErrorKind::TimedOut)),
            None => Ok(String::new()),
        };
        // A program that ends closes its pipes; one that does not is ended.
        let texts = said(stdout).and_then(|stdout| Ok((stdout, said(stderr)?)));
        let (stdout, stderr) = match texts {
            Ok(texts) => texts,
            Err(e) => {
                drop(child.kill());
                drop(child.wait());
                return Err(e);
            }
        };
        let success = child.wait()?.success();
        Ok(Said { success, stdout, stderr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_failure_and_a_program_that_hangs() {
        let commands = HostCommands { limit: Duration::from_secs(5), ..HostCommands::new("/") };
        let said = commands.run("sh", &["-c", "echo out; echo err >&2; exit 3"]).unwrap();
        assert_eq!((said.success, said.stdout.as_str(), said.stderr.as_str()), (false, "out\n", "err\n"));
        assert!(commands.run("/no/such/program", &[]).is_err());
        let short = HostCommands { limit: Duration::from_millis(50), ..commands };
        assert_eq!(short.run("sleep", &["60"]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
