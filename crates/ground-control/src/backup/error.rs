//! What can go wrong with a backup, told to whoever stands before it.

use std::io;
use std::path::{Path, PathBuf};

use crate::auth::KeyError;
use crate::domain::StoreError;

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The system refused a file operation.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database failed.
    #[error("{}", crate::server::chain(.0))]
    Database(#[from] StoreError),
    /// The registry's store failed.
    #[error(transparent)]
    Registry(#[from] blob_store::StoreError),
    /// The server key cannot be had.
    #[error("SECRET_KEY_FILE: {0}")]
    Key(#[from] KeyError),
    /// A signal came.
    #[error("interrupted, nothing was changed")]
    Interrupted,
    /// There is nothing to back up.
    #[error("{0} is not there: is DATA_DIR right?")]
    Nothing(PathBuf),
    /// The file would be overwritten.
    #[error("{0} is there already, and a backup overwrites none: give another name")]
    Exists(PathBuf),
    /// An archive on a screen.
    #[error("a backup is not written to a terminal: give a file, or pipe it somewhere")]
    Terminal,
    /// Another backup is being made.
    #[error("another backup of {0} is being made")]
    AnotherBackup(PathBuf),
    /// A server, a backup or a restore works in the data folder.
    #[error("{0} is in use: stop the server (and a backup that is being made) first")]
    InUse(PathBuf),
    /// Servers are connected to the database.
    #[error("servers are connected to the database ({connections} connections): stop all replicas first")]
    Connected {
        /// How many connections they have.
        connections: u64,
    },
    /// A restore works in the data folder.
    #[error("a restore works in {0}: wait for its end")]
    BeingRestored(PathBuf),
    /// There is something where the restore would put things.
    #[error("{0} holds data: give --replace to have it set aside, or restore into an empty DATA_DIR")]
    Occupied(PathBuf),
    /// It is no backup, it is damaged, or it is not all there.
    #[error("the backup is not whole: {0}; nothing was changed")]
    Damaged(String),
    /// A newer program made it.
    #[error(
        "the backup was made by ground-control {program} (format {format}, schema {schema}), which is newer than this one (format \
         {known_format}, schema {known_schema}): use that program"
    )]
    Newer {
        /// The version of the program.
        program: String,
        /// Its format.
        format: u32,
        /// Its tables.
        schema: i64,
        /// The newest format known here.
        known_format: u32,
        /// The newest tables known here.
        known_schema: i64,
    },
    /// It is of another kind of installation than the settings are for.
    #[error(
        "the backup is of a server with {theirs}, and the settings are of one with {ours}: set {variable} as it was there"
    )]
    OtherSettings {
        /// What the backup is of.
        theirs: &'static str,
        /// What the settings say.
        ours: &'static str,
        /// The setting that says it.
        variable: &'static str,
    },
    /// The server key is needed and not there.
    #[error(
        "the server key is missing: put the one of the server that was backed up to {0} (mode 0600), or, where the backup holds \
         it, give --key-passphrase-file"
    )]
    KeyMissing(PathBuf),
    /// The server key is another one.
    #[error(
        "the server key {0} is not the one that the backup is kept under; put the right one there, or, where the backup holds \
         it, give --key-passphrase-file and --replace"
    )]
    KeyForeign(PathBuf),
    /// With PostgreSQL a backup is the key.
    #[error(
        "with PostgreSQL a backup holds the server key: give --key-passphrase-file FILE, with a passphrase under which it is \
         sealed"
    )]
    KeyWanted,
    /// The passphrase opens nothing.
    #[error("the passphrase in {0} does not open the server key of this backup")]
    Passphrase(PathBuf),
    /// The passphrase is too weak.
    #[error("the passphrase in {path} is shorter than {least} characters")]
    PassphraseShort {
        /// The file.
        path: PathBuf,
        /// The least length.
        least: usize,
    },
    /// The dump was not put back before.
    #[error(
        "the database is empty: put the dump back first (pg_restore --no-owner --dbname=… FILE), then run this command again"
    )]
    NotRestored,
    /// The dump is of another installation.
    #[error("the database is not the one that this backup belongs to: the server keys differ")]
    OtherDatabase,
    /// A bug of ours or of the machine.
    #[error("the work was given up: {0}")]
    Failed(String),
}

/// For `map_err`: tells what was tried on which file.
pub(super) fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { action, path, source }
}

/// It is not a whole backup.
pub(super) fn damaged(what: impl std::fmt::Display) -> BackupError {
    BackupError::Damaged(what.to_string())
}
