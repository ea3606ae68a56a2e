//! Programs that run until their handle is dropped, each in a process group of its own and with its output in a file.

use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use crate::{Error, Result, files};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(15);

/// A running program. Dropped, it is asked to end, given its patience, and killed with its whole process group.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    patience: Duration,
    polite: Signal,
    /// How it ended, once it was waited for: from then on its id may be somebody else's, and is not signalled.
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a program; both of its outputs are appended to `log`.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        if let Some(parent) = log.parent() {
            files::create_dir(parent)?;
        }
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .map_err(Error::io(format!("cannot open the log {}", log.display())))
        };
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?).process_group(0);
        let child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing {
                what: format!("the program {}", command.get_program().to_string_lossy()),
                remedy: "install the package that holds it".into(),
            },
            _ => Error::Io { what: format!("cannot start {name}"), source },
        })?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            patience: Duration::ZERO,
            polite: Signal::TERM,
            ended: None,
        })
    }

    /// Gives the program this long to end by itself after `signal` when the handle is dropped. Without it the program
    /// is killed at once.
    #[must_use]
    pub fn patience(mut self, signal: Signal, patience: Duration) -> Self {
        self.patience = patience;
        self.polite = signal;
        self
    }

    /// Process id, which is the id of its group too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn pid(&self) -> Option<Pid> {
        if self.ended.is_some() {
            return None;
        }
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    /// Whether it has ended. It is not reaped by this, so that its group's id stays its own.
    pub fn has_ended(&self) -> bool {
        let Some(pid) = self.pid() else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            // A program that has ended needs no signal.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Kills it with its group (`kill -9`) and waits until it is gone.
    pub fn kill(mut self) -> Result<ExitStatus> {
        self.end_now()
    }

    fn end_now(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        if let Some(pid) = self.pid() {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let status = self.child.wait().map_err(Error::io(format!("cannot wait for {}", self.name)))?;
        self.ended = Some(status);
        Ok(status)
    }

    /// Asks it to end, waits for `limit`, and tells how it ended; what is left of its group is killed.
    pub async fn stop(mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(self.polite);
        let deadline = Instant::now() + limit;
        while !self.has_ended() {
            if Instant::now() > deadline {
                return Err(self.late("the end after a request to end", limit));
            }
            tokio::time::sleep(POLL).await;
        }
        self.end_now()
    }

    /// Like [`Process::stop`], and an error with the end of its log where it does not say that all went well.
    pub async fn stop_well(self, limit: Duration) -> Result<()> {
        let (program, log) = (self.name.clone(), self.log.clone());
        let status = self.stop(limit).await?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Ended { program, status: describe(status), log: files::tail(&log, 30) })
    }

    /// Waits until it has ended by itself.
    pub async fn ended(mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        while !self.has_ended() {
            if Instant::now() > deadline {
                return Err(self.late("its end", limit));
            }
            tokio::time::sleep(POLL).await;
        }
        self.end_now()
    }

    /// Waits until `probe` says yes. Ends early, with the log, where the program dies.
    pub async fn ready<F>(&mut self, what: &str, limit: Duration, mut probe: F) -> Result<()>
    where
        F: AsyncFnMut() -> bool,
    {
        let deadline = Instant::now() + limit;
        loop {
            if probe().await {
                return Ok(());
            }
            if self.has_ended() {
                let status = self.end_now()?;
                return Err(Error::Ended {
                    program: self.name.clone(),
                    status: describe(status),
                    log: files::tail(&self.log, 30),
                });
            }
            if Instant::now() > deadline {
                return Err(self.late(what, limit));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn late(&self, what: &str, limit: Duration) -> Error {
        Error::Late {
            what: format!("{}: {what}", self.name),
            seconds: limit.as_secs(),
            log: format!("; the end of its log:\n{}", files::tail(&self.log, 30)),
        }
    }

    /// Resident memory in bytes, now (`VmRSS`).
    pub fn resident_bytes(&self) -> Option<u64> {
        resident_bytes(self.id())
    }

    /// Processor time that it has used, user and system, in seconds.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?;
        // The name in parentheses may hold spaces: fields are counted after it.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
        let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).ok()?;
        Some(f64::from(ticks) / f64::from(per_second))
    }
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

/// An exit status in words.
fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.patience.is_zero() && self.ended.is_none() {
            self.signal(self.polite);
            let deadline = Instant::now() + self.patience;
            while !self.has_ended() && Instant::now() < deadline {
                std::thread::sleep(POLL);
            }
        }
        let _ = self.end_now();
    }
}

/// Waits until `probe` gives a value, or tells what did not happen.
pub async fn wait_for<T, F>(what: &str, limit: Duration, mut probe: F) -> Result<T>
where
    F: AsyncFnMut() -> Option<T>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe().await {
            return Ok(value);
        }
        if Instant::now() > deadline {
            return Err(Error::Late { what: what.to_owned(), seconds: limit.as_secs(), log: String::new() });
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_whole_group_dies_with_the_handle() {
        let dir = files::scratch("process").unwrap();
        let pid_file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid_file.display());
        let process = Process::spawn("shell", shell(&script), &dir.path().join("log")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let child = runtime
            .block_on(wait_for("the child", Duration::from_secs(10), async || {
                std::fs::read_to_string(&pid_file).ok()?.trim().parse::<i32>().ok()
            }))
            .unwrap();
        let child = Pid::from_raw(child).unwrap();
        rustix::process::test_kill_process(child).unwrap();
        drop(process);
        // The signal is sent when `drop` returns; an orphan that it ended may still wait to be reaped by init.
        let gone = wait_for("the child's end", Duration::from_secs(10), async || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
            state
                .is_ok_and(|state| state.contains(") Z"))
                .then_some(())
                .or_else(|| rustix::process::test_kill_process(child).is_err().then_some(()))
        });
        runtime.block_on(gone).unwrap();
    }

    #[tokio::test]
    async fn a_death_before_readiness_is_told_with_the_log() {
        let dir = files::scratch("process").unwrap();
        let mut process =
            Process::spawn("shell", shell("echo out of order; exit 3"), &dir.path().join("log")).unwrap();
        let error = process.ready("never", Duration::from_secs(10), async || false).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit code 3") && text.contains("out of order"), "{text}");
    }
}
