//! A service of a machine that has no service manager: a script starts it, ends it and starts it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, command, files};

const SCRIPT: &str = include_str!("service.sh");

/// A service. It ends with its machine.
#[derive(Debug)]
pub struct Service {
    place: PathBuf,
    script: PathBuf,
}

impl Service {
    pub(super) fn new(
        folder: &Path,
        name: &str,
        command: &[&str],
        environment: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let place = folder.join("services").join(name);
        let script = folder.join("services/service");
        files::write(&script, SCRIPT)?;
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let mut text = String::new();
        for (name, value) in environment {
            text += &format!("export {name}={}\n", quoted(value));
        }
        let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        text += &format!("exec {}\n", words.join(" "));
        files::write(&place.with_extension("sh"), text)?;
        Ok(Self { place, script })
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Errors
    /// Where the script fails.
    pub async fn start(&self) -> Result<()> {
        self.tell("start").await
    }

    /// Ends it, and waits until it has ended.
    ///
    /// # Errors
    /// Where the script fails.
    pub async fn stop(&self) -> Result<()> {
        self.tell("stop").await
    }

    async fn tell(&self, verb: &str) -> Result<()> {
        let mut shell = Command::new("sh");
        shell.arg(&self.script).arg(&self.place).arg(verb);
        command::run(shell).await.map(drop)
    }

    /// What an operator would give as `--restart-command`, for every service that is called as its runtime is.
    pub fn restart_command(&self) -> String {
        let folder = self.place.parent().unwrap_or(&self.place);
        format!("sh {} {}/\"$1\" \"$2\"", self.script.display(), folder.display())
    }

    /// What it was asked to do so far: `start`, `restart`, `reload`, `stop`.
    pub fn asked(&self) -> Vec<String> {
        let said = std::fs::read_to_string(self.place.with_extension("asked")).unwrap_or_default();
        said.lines().map(str::to_owned).collect()
    }

    /// Its process.
    pub fn id(&self) -> Option<u32> {
        std::fs::read_to_string(self.place.with_extension("pid")).ok()?.trim().parse().ok()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        files::tail(&self.place.with_extension("log"), 40)
    }
}
