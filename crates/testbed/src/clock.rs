//! A clock that programs go by and that can be moved while they run: Debian's libfaketime, loaded into them.
//!
//! Only the time of day moves; timers go on as they would. Programs without the C library (Go's) do not see it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::{Error, Result, files};

/// A clock; clones are the same one.
#[derive(Clone, Debug)]
pub struct Clock {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    dir: TempDir,
    library: PathBuf,
    ahead: Mutex<Duration>,
}

impl Clock {
    /// A clock that shows the machine's time until it is moved.
    pub fn new() -> Result<Self> {
        let clock = Self {
            state: Arc::new(State {
                dir: files::scratch("clock")?,
                library: library()?,
                ahead: Mutex::new(Duration::ZERO),
            }),
        };
        clock.show(Duration::ZERO)?;
        Ok(clock)
    }

    /// Has a program go by this clock.
    pub fn apply(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.state.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            // Every look at the clock reads the file: a move is seen at once.
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_RESET", "1")
            .env("NO_FAKE_STAT", "1")
            // A program that is killed would leave the shared memory behind.
            .env("FAKETIME_DISABLE_SHM", "1");
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) -> Result<()> {
        let ahead = {
            let mut ahead = self.state.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            *ahead += by;
            *ahead
        };
        self.show(ahead)
    }

    /// What it shows.
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + *self.state.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> PathBuf {
        self.state.dir.path().join("offset")
    }

    fn show(&self, ahead: Duration) -> Result<()> {
        let fresh = self.state.dir.path().join("offset.new");
        files::write(&fresh, format!("+{}\n", ahead.as_secs()))?;
        std::fs::rename(&fresh, self.file()).map_err(Error::io("cannot move the clock"))
    }
}

/// Where the Debian package puts the library for programs of several threads.
fn library() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::Missing {
            what: "libfaketime".into(),
            remedy: "install the Debian package libfaketime".into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_sees_the_clock_move() {
        let clock = Clock::new().unwrap();
        let dir = files::scratch("clock-test").unwrap();
        let log = dir.path().join("log");
        let mut watch = Command::new("sh");
        watch.args(["-c", "while :; do date +%s; sleep 0.05; done"]);
        clock.apply(&mut watch);
        let _process = crate::process::Process::spawn("watch", watch, &log).unwrap();
        let last = async |beyond: u64| {
            crate::process::wait_for("the time", Duration::from_secs(10), async || {
                let text = String::from_utf8(files::read(&log).ok()?).ok()?;
                let seen: u64 = text.lines().last()?.parse().ok()?;
                (seen >= beyond).then_some(seen)
            })
            .await
            .unwrap()
        };
        let before = last(1).await;
        clock.advance(Duration::from_secs(86_400)).unwrap();
        let after = last(before + 86_400).await;
        assert!(after < before + 86_400 + 60, "{before} {after}");
    }
}
