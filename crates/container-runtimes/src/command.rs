//! Programs of the machine: asked for their version, to judge a configuration, to reload or restart a service.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

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

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin:/snap/bin:/var/lib/rancher/rke2/bin";
/// How long the end of a program's output is waited for after the program's own: something that it started may hold it.
const REST_OF_OUTPUT: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// The programs of this machine, or of the one whose root is mounted at a path. They are given nothing of our own
/// environment, which may hold credentials.
#[derive(Debug, Clone)]
pub struct HostCommands {
    root: PathBuf,
    enter: Vec<OsString>,
    limit: Duration,
}

impl HostCommands {
    /// Programs below this root (`/`, or where the host's is mounted: then through `chroot`), for at most 10 s each.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), enter: vec!["chroot".into()], limit: Duration::from_secs(10) }
    }

    /// The same with another program (and its first arguments) in the place of `chroot`: an image with one binary has
    /// none. It is followed by the root, the program to run there, and that one's arguments.
    #[must_use]
    pub fn entered_by<W: Into<OsString>>(self, words: impl IntoIterator<Item = W>) -> Self {
        Self { enter: words.into_iter().map(Into::into).collect(), ..self }
    }

    /// The same with another limit.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Whether they are those of the machine that we run on, whose processes we see.
    pub(crate) fn are_here(&self) -> bool {
        self.root.parent().is_none()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = if self.are_here() {
            Command::new(program)
        } else {
            let mut words = self.enter.iter();
            let mut command = Command::new(words.next().map_or("chroot".as_ref(), OsString::as_os_str));
            command.args(words).arg(&self.root).arg(program);
            command
        };
        command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LC_ALL", "C");
        if !self.are_here() {
            // In a changed root systemctl does nothing and calls that a success, unless it is told that this is meant.
            command.env("SYSTEMD_IGNORE_CHROOT", "1");
        }
        command
    }
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What cannot be read is judged as what was said up to there.
        drop(from.by_ref().take(MAX_OUTPUT).read_to_end(&mut bytes));
        // A program that says more than that must not wait for somebody who listens.
        drop(io::copy(&mut from, &mut io::sink()));
        drop(send.send(String::from_utf8_lossy(&bytes).into_owned()));
    });
    receive
}

/// Waits for the end of a program, or ends it.
fn wait(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() >= end {
            drop(child.kill());
            drop(child.wait());
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(LOOK);
    }
}

impl Commands for HostCommands {
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<Said> {
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        let success = wait(&mut child, self.limit)?;
        let said = |pipe: Option<mpsc::Receiver<String>>| {
            pipe.and_then(|pipe| pipe.recv_timeout(REST_OF_OUTPUT).ok()).unwrap_or_default()
        };
        Ok(Said { success, stdout: said(stdout), stderr: said(stderr) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_root_is_entered_by_the_program_that_is_named() {
        let commands = HostCommands::new("/r").entered_by(["sh", "-c", "echo \"$@\"", "enter"]);
        let said = commands.run("/usr/bin/containerd", &["--version"]).unwrap();
        assert_eq!(said.stdout, "/r /usr/bin/containerd --version\n");
    }

    #[test]
    fn output_failure_and_a_program_that_hangs() {
        let commands = HostCommands::new("/").with_limit(Duration::from_secs(5));
        let said = commands.run("sh", &["-c", "echo out; echo err >&2; exit 3"]).unwrap();
        assert_eq!((said.success, said.stdout.as_str(), said.stderr.as_str()), (false, "out\n", "err\n"));
        assert!(commands.run("/no/such/program", &[]).is_err());
        let short = commands.clone().with_limit(Duration::from_millis(50));
        assert_eq!(short.run("sleep", &["60"]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let said = commands.run("sh", &["-c", "sleep 5 & echo started"]).unwrap();
        assert!(said.success, "what it leaves behind is not waited for");
        let said = commands.run("sh", &["-c", "env"]).unwrap();
        assert!(!said.stdout.contains("CARGO"), "nothing of our environment is passed on");
    }
}
