//! What we wrote and what was there before, in a folder of our own: `state.json`, and `backups/<sha256>` with the texts.
//!
//! The state is written before the file that it tells of: after a crash between the two the file still holds what the
//! state calls the text before us, and is treated so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::host::Host;
use crate::plan::{FileEdit, Group};
use crate::reload::Means;
use crate::runtime::Runtime;

/// The present format.
const VERSION: u32 = 1;

/// One file that we changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Digest of the text before us, whose backup it names; none where there was no file.
    pub before: Option<String>,
    /// Digest of the text that we wrote.
    pub written: String,
    /// Digest of the text that we wrote before that, and that the file still holds after a crash between the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// What we meant.
    pub edit: FileEdit,
    /// The runtimes whose parser judges it.
    pub group: Group,
    /// The runtimes that it was written for.
    #[serde(default)]
    pub runtimes: Vec<Runtime>,
}

impl Record {
    /// The record of a file of which this text is about to be written.
    pub(crate) fn rewritten(self, written: String, old: Option<&Self>) -> Self {
        let previous = match old {
            Some(old) if old.written == written => old.previous.clone(),
            Some(old) => Some(old.written.clone()),
            None => None,
        };
        Self { written, previous, ..self }
    }

    /// Whether a text is ours, byte for byte.
    pub(crate) fn is_ours(&self, text: &str) -> bool {
        let digest = digest(text);
        digest == self.written || Some(digest) == self.previous
    }
}

/// A runtime that has not seen its changed files yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// By which means it sees them.
    pub means: Means,
    /// The run of it that has not; another one read them at its start.
    pub instance: String,
}

/// An edit that was taken back because the runtime did not come up with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// Digest of what was tried, and on what.
    pub tried: String,
    /// What was seen.
    pub why: String,
}

/// Who decides what the files are to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// A person, by a command.
    Hand,
    /// A satellite that runs, by its configuration.
    Satellite,
    /// The agent of a cluster's node, by its flags.
    NodeAgent,
}

/// All files that we changed, by their path on the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The records.
    pub files: BTreeMap<String, Record>,
    /// Folders that we made, which go once nothing of ours is in them.
    pub folders: BTreeSet<String>,
    /// Who decides; nobody while nothing of ours is there.
    #[serde(default)]
    pub owner: Option<Owner>,
    /// What runtimes have not seen yet.
    #[serde(default)]
    pub pending: BTreeMap<Runtime, Pending>,
    /// What is not tried again by itself.
    #[serde(default)]
    pub failed: BTreeMap<Runtime, Failed>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            owner: None,
            pending: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }
}

/// The folder of the state.
#[derive(Debug, Clone)]
pub struct StateFolder {
    files: Host,
}

/// The digest by which texts are compared and backups named.
pub fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

impl StateFolder {
    /// The state in this folder (not below the host root). It is made at the first write.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { files: Host::new(folder) }
    }

    /// Keeps every other program that changes these files out, for as long as the answer lives. Where another one does
    /// that at this moment, the error is [`io::ErrorKind::WouldBlock`].
    pub fn lock(&self) -> io::Result<File> {
        let file = self.files.open_to_lock("/lock")?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Reads it; nothing was changed by us where there is none. One that is damaged or newer is an error: guessing could
    /// lose what an operator had.
    pub fn load(&self) -> io::Result<State> {
        let place = self.files.path("/state.json");
        let place = place.display();
        let text = self.files.read("/state.json");
        let text = text.map_err(|error| io::Error::new(error.kind(), format!("{place}: {error}")))?;
        let Some(text) = text else { return Ok(State::default()) };
        let state: State = serde_json::from_str(&text).map_err(|error| {
            io::Error::other(format!(
                "{place} is damaged ({error}); what was in the files before is in `backups` beside it: put that back by hand, then move the folder away"
            ))
        })?;
        if state.version == VERSION {
            Ok(state)
        } else {
            Err(io::Error::other(format!(
                "{place} has version {}, and this program knows {VERSION}: use the program that wrote it, or a newer one",
                state.version
            )))
        }
    }

    /// Writes it.
    pub fn save(&self, state: &State) -> io::Result<()> {
        let text = serde_json::to_string_pretty(state).map_err(io::Error::other)?;
        self.files.write("/state.json", &text, 0o600).map(drop)
    }

    /// Keeps a text; once, whatever comes later.
    pub fn back_up(&self, text: &str) -> io::Result<String> {
        let name = digest(text);
        let path = format!("/backups/{name}");
        if self.files.read(&path)?.as_deref() != Some(text) {
            self.files.write(&path, text, 0o600)?;
        }
        Ok(name)
    }

    /// A text that was kept.
    pub fn backup(&self, name: &str) -> io::Result<String> {
        let text = self.files.read(&format!("/backups/{name}"))?;
        text.filter(|text| digest(text) == name)
            .ok_or_else(|| io::Error::other(format!("the backup {name} is missing or damaged")))
    }

    /// What was in a file before us.
    pub fn before(&self, record: &Record) -> io::Result<Option<String>> {
        record.before.as_deref().map(|name| self.backup(name)).transpose()
    }

    /// Removes backups that no record names.
    pub fn forget_unused(&self, state: &State) -> io::Result<()> {
        let used: Vec<&String> = state.files.values().filter_map(|record| record.before.as_ref()).collect();
        for name in self.files.list("/backups").into_iter().filter(|name| !used.contains(&name)) {
            self.files.remove(&format!("/backups/{name}"))?;
        }
        Ok(())
    }
}
