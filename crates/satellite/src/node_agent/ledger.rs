//! What of a node's images is ours: on disk before anything is pulled, so that an end at any moment leaves no doubt.
//!
//! A record of containerd is ours if it was absent when a pull of ours began. It is known by its name and by the moment
//! at which it was made: a name that somebody removed and made again is theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use blob_store::durable;
use serde::{Deserialize, Serialize};

/// Form of the file. A file of another form is as if there were none.
const VERSION: u32 = 1;
const FILE: &str = "records.json";
/// A file larger than this is none of ours.
const LARGEST: u64 = 64 * 1024 * 1024;

/// When a record was made: seconds since the epoch, and nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Made(pub i64, pub i32);

/// A pull that began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The name that is pulled.
    pub name: String,
    /// The digest that it shall have.
    #[serde(default)]
    pub digest: String,
    /// Of the records that the pull may make, those that were there already.
    pub before: BTreeSet<String>,
}

/// What is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    version: u32,
    /// The records, by name.
    pub records: BTreeMap<String, Made>,
    /// A pull whose records are not yet told apart.
    #[serde(default)]
    pub begun: Option<Begun>,
}

/// Where the ledger is kept.
#[derive(Debug, Clone)]
pub struct LedgerFile(PathBuf);

impl LedgerFile {
    /// Below the agent's state folder.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// Reads it. What is damaged is set aside: then nothing is ours but what says so by its label.
    ///
    /// # Errors
    /// Where the disk does not let it be read.
    pub fn load(&self) -> io::Result<Ledger> {
        let bytes = match std::fs::metadata(&self.0) {
            Ok(metadata) if metadata.len() > LARGEST => Vec::new(),
            Ok(_) => std::fs::read(&self.0)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Ledger>(&bytes) {
            Ok(ledger) if ledger.version == VERSION => Ok(ledger),
            _ => {
                let aside = self.0.with_extension("damaged");
                tracing::warn!(file = %self.0.display(), aside = %aside.display(), "list of own images is damaged, set aside");
                durable::rename(&self.0, &aside)?;
                Ok(Ledger::default())
            }
        }
    }

    /// Writes it so that it outlives a power cut.
    ///
    /// # Errors
    /// Where the disk does not take it; what was there before stays.
    pub fn store(&self, ledger: &Ledger) -> io::Result<()> {
        let bytes = serde_json::to_vec(&Ledger { version: VERSION, ..ledger.clone() })?;
        durable::write_file(&self.0, &bytes, durable::PRIVATE_FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_damaged_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = LedgerFile::new(folder.path());
        assert_eq!(file.load().unwrap(), Ledger::default());
        let ledger = Ledger {
            records: BTreeMap::from([("a/b:c".to_owned(), Made(1, 2))]),
            begun: Some(Begun {
                name: "a/b:c".to_owned(),
                digest: "sha256:1".to_owned(),
                before: BTreeSet::from(["x".to_owned()]),
            }),
            ..Ledger::default()
        };
        file.store(&ledger).unwrap();
        let read = file.load().unwrap();
        assert_eq!((read.records, read.begun), (ledger.records, ledger.begun));
        durable::write_file(&folder.path().join(FILE), b"{\"version\":1", 0o600).unwrap();
        assert_eq!(file.load().unwrap(), Ledger::default());
        assert!(folder.path().join("records.damaged").try_exists().unwrap());
    }
}
