//! Backup and restore of what Ground Control keeps: the SQLite database, the built-in registry, the server key.
//!
//! A backup is one tar file ([`archive`]) made beside a running server: it takes no lock that a server would wait for. The
//! order is what makes it whole. First a mark is set in the registry's journal, then the database is copied as it is at one
//! moment, then the registry is copied with all that was there at the mark or since: whatever manifest the copied database
//! names is in the copy, whatever was deleted meanwhile. Blobs are linked, and a blob that nothing names any more stays for an
//! hour, so that no collection takes one away before it has its link.
//!
//! A restore reads the whole archive into folders beside what is there, looks at all of it, brings it up to date, and only then
//! changes anything: renames, written down before the first one and carried on by whoever comes next ([`moves`]). Killed at
//! any moment it leaves the old state or the new one. The epoch of the new one is above the old one's, so that satellites
//! which have seen newer generations follow it.
//!
//! With PostgreSQL the database is dumped and put back by PostgreSQL's own programs; a backup holds the key, and a restore
//! puts it back and raises the epoch.

mod archive;
mod create;
mod error;
mod file;
mod folder;
mod key;
mod moves;
mod progress;
mod read;
mod restore;
mod stage;

pub use archive::{DatabaseKind, FORMAT, Head};
pub use create::{Created, create};
pub use error::BackupError;
pub use folder::DataFolder;
pub use progress::Progress;
pub use read::Contents;
pub use restore::{RestoreOptions, RestoredServer, restore};

use std::path::{Path, PathBuf};

/// Where an archive is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Standard output, or standard input: `-`.
    Standard,
    /// A file.
    File(PathBuf),
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        if path == Path::new("-") { Self::Standard } else { Self::File(path) }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Standard => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Reads a whole archive and checks everything in it. Blocking.
///
/// # Errors
/// [`BackupError`].
pub fn verify(place: &Place, progress: &Progress) -> Result<Contents, BackupError> {
    read::read(place, &mut read::Nowhere, progress)
}
