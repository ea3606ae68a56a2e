//! Who works in a data folder: any number of servers and backups, or one restore.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use blob_store::durable::{self, DurableFile, PRIVATE_FILE};
use rustix::fs::{FlockOperation, flock};

use super::error::{BackupError, at};
use super::moves::Moves;

/// Held by servers and backups together, or by a restore alone.
const LOCK: &str = "lock";
/// Held by the one backup.
const BACKUP_LOCK: &str = "backup.lock";
/// Where a restore puts what is not looked through yet.
pub(super) const STAGING: &str = "restore";
/// Where a backup puts what it reads from.
pub(super) const COPY: &str = "backup";

/// The right to work in a data folder, for as long as it is kept.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _locks: Vec<File>,
}

impl DataFolder {
    /// For a server, or anything else that only needs that nobody takes the data away: makes the folder where there is none,
    /// and carries on a restore that was killed.
    ///
    /// # Errors
    /// [`BackupError::BeingRestored`].
    pub fn enter(path: &Path) -> Result<Self, BackupError> {
        durable::create_dir_all(path).map_err(at("make", path))?;
        let pending = pending(path)?;
        if pending {
            match Self::alone(path) {
                Ok(folder) => drop(folder),
                Err(BackupError::InUse(_)) => return Err(BackupError::BeingRestored(path.to_owned())),
                Err(error) => return Err(error),
            }
        }
        let lock = take(&path.join(LOCK), FlockOperation::NonBlockingLockShared)?
            .ok_or_else(|| BackupError::BeingRestored(path.to_owned()))?;
        let folder = Self { path: path.to_owned(), _locks: vec![lock] };
        folder.remove_dead_copies()?;
        Ok(folder)
    }

    /// Removes what a backup that was killed left: its links would keep the space of content that is collected.
    fn remove_dead_copies(&self) -> Result<(), BackupError> {
        for copy in [self.path.join(COPY), self.registry().join(COPY)] {
            if copy.try_exists().map_err(at("look at", &copy))?
                && let Some(_alone) =
                    take(&self.path.join(BACKUP_LOCK), FlockOperation::NonBlockingLockExclusive)?
            {
                remove_all(&copy)?;
            }
        }
        Ok(())
    }

    /// For the one backup.
    pub(super) fn for_backup(path: &Path) -> Result<Self, BackupError> {
        if !path.is_dir() {
            return Err(BackupError::Nothing(path.to_owned()));
        }
        let own = take(&path.join(BACKUP_LOCK), FlockOperation::NonBlockingLockExclusive)?
            .ok_or_else(|| BackupError::AnotherBackup(path.to_owned()))?;
        let mut folder = Self::enter(path)?;
        folder._locks.push(own);
        Ok(folder)
    }

    /// For a restore: nobody else works here. One that was killed is carried on, or what it left is removed.
    pub(super) fn alone(path: &Path) -> Result<Self, BackupError> {
        durable::create_dir_all(path).map_err(at("make", path))?;
        let lock = take(&path.join(LOCK), FlockOperation::NonBlockingLockExclusive)?
            .ok_or_else(|| BackupError::InUse(path.to_owned()))?;
        let folder = Self { path: path.to_owned(), _locks: vec![lock] };
        // A server of an earlier program has no lock of the folder.
        let registry = folder.registry();
        if blob_store::export::is_open(&registry)? {
            return Err(BackupError::InUse(registry));
        }
        if let Some(moves) = Moves::read(path)? {
            tracing::info!(folder = %path.display(), "a restore was not finished, it is carried on");
            moves.carry_out(path)?;
        }
        for rest in [folder.staging(), folder.registry_staging()] {
            remove_all(&rest)?;
        }
        Ok(folder)
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The built-in registry.
    pub(super) fn registry(&self) -> PathBuf {
        self.path.join("registry")
    }

    /// Where a restore puts what is not looked through yet.
    pub(super) fn staging(&self) -> PathBuf {
        self.path.join(STAGING)
    }

    /// The same for the registry, which may be on a disk of its own.
    pub(super) fn registry_staging(&self) -> PathBuf {
        self.registry().join(STAGING)
    }
}

/// Whether a restore has left something to do.
fn pending(path: &Path) -> Result<bool, BackupError> {
    let there = |path: PathBuf| path.try_exists().map_err(at("look at", &path));
    Ok(there(Moves::file(path))? || there(path.join(STAGING))? || there(path.join("registry").join(STAGING))?)
}

/// A lock, unless another process holds it.
fn take(path: &Path, operation: FlockOperation) -> Result<Option<File>, BackupError> {
    let file = DurableFile::open_or_create(path, PRIVATE_FILE).map_err(at("open", path))?;
    let file = file.file().try_clone().map_err(at("open", path))?;
    match flock(&file, operation) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(at("lock", path)(error.into())),
    }
}

/// Removes a folder or a file with all that is in it; that it was not there is no error.
pub(super) fn remove_all(path: &Path) -> Result<(), BackupError> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A folder that goes with its owner.
#[derive(Debug)]
pub(super) struct Temporary(PathBuf);

impl Temporary {
    /// Makes it, in the place of what an earlier owner left.
    pub(super) fn new(path: PathBuf) -> Result<Self, BackupError> {
        remove_all(&path)?;
        durable::create_dir_all(&path).map_err(at("make", &path))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = remove_all(&self.0) {
            tracing::warn!(%error, "temporary folder not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_a_backup_share_it_and_a_restore_has_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) =
            (DataFolder::enter(dir.path()).unwrap(), DataFolder::enter(dir.path()).unwrap());
        let backup = DataFolder::for_backup(dir.path()).unwrap();
        assert!(matches!(DataFolder::for_backup(dir.path()), Err(BackupError::AnotherBackup(_))));
        drop((first, second));
        assert!(matches!(DataFolder::alone(dir.path()), Err(BackupError::InUse(_))));
        drop(backup);
        let restore = DataFolder::alone(dir.path()).unwrap();
        assert!(matches!(DataFolder::enter(dir.path()), Err(BackupError::BeingRestored(_))));
        assert!(matches!(DataFolder::alone(dir.path()), Err(BackupError::InUse(_))));
        drop(restore);
        DataFolder::enter(dir.path()).unwrap();
    }

    #[test]
    fn what_a_killed_backup_left_goes_at_the_next_start_and_a_living_one_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("registry").join(COPY);
        let backup = DataFolder::for_backup(dir.path()).unwrap();
        durable::create_dir_all(&copy).unwrap();
        DataFolder::enter(dir.path()).unwrap();
        assert!(copy.try_exists().unwrap());
        drop(backup);
        DataFolder::enter(dir.path()).unwrap();
        assert!(!copy.try_exists().unwrap());
    }

    #[test]
    fn what_a_killed_restore_left_goes_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let staging = dir.path().join(STAGING);
        durable::create_dir_all(&staging.join("deep")).unwrap();
        DataFolder::enter(dir.path()).unwrap();
        assert!(!staging.try_exists().unwrap());
    }
}
