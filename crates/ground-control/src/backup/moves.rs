//! The renames that put what was restored in the place of what was there: written down before the first, carried on by whoever
//! comes next, so that a kill between any two leaves the old state (nothing written down) or leads to the new one.

use std::io;
use std::path::{Path, PathBuf};

use blob_store::durable;
use serde::{Deserialize, Serialize};

use super::error::{BackupError, at};
use super::folder::remove_all;

/// The file with what is to be done, in the data folder.
const FILE: &str = "restore.json";

/// One place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Move {
    /// What comes there; `None`: nothing.
    pub(super) from: Option<PathBuf>,
    /// The place.
    pub(super) to: PathBuf,
    /// Where goes what is there.
    pub(super) aside: PathBuf,
}

/// All of them, in their order. Paths are relative to the data folder, or absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moves {
    pub(super) moves: Vec<Move>,
    /// What is removed at the end.
    pub(super) remove: Vec<PathBuf>,
}

impl Moves {
    /// Where they are written down.
    pub(super) fn file(folder: &Path) -> PathBuf {
        folder.join(FILE)
    }

    /// What is written down; `None` where nothing is to be done.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>, BackupError> {
        let path = Self::file(folder);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| BackupError::Failed(format!("{} cannot be read: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("read", &path)(error)),
        }
    }

    /// Writes them down: from here on the new state is what there will be.
    pub(super) fn commit(&self, folder: &Path) -> Result<(), BackupError> {
        let path = Self::file(folder);
        let text = serde_json::to_vec_pretty(self).map_err(|error| BackupError::Failed(error.to_string()))?;
        durable::write_file(&path, &text, durable::PRIVATE_FILE).map_err(at("write", &path))
    }

    /// Does what is not done yet, then forgets them.
    pub(super) fn carry_out(&self, folder: &Path) -> Result<(), BackupError> {
        for step in &self.moves {
            step.carry_out(folder)?;
        }
        let path = Self::file(folder);
        durable::remove_file(&path).map_err(at("remove", &path))?;
        for rest in &self.remove {
            if let Err(error) = remove_all(&folder.join(rest)) {
                tracing::warn!(%error, "folder of the restore not removed, the next start removes it");
            }
        }
        Ok(())
    }
}

impl Move {
    fn carry_out(&self, folder: &Path) -> Result<(), BackupError> {
        let (to, aside) = (folder.join(&self.to), folder.join(&self.aside));
        let from = self.from.as_ref().map(|from| folder.join(from));
        match from {
            // It is in its place already.
            Some(from) if !there(&from)? => Ok(()),
            Some(from) => {
                if there(&to)? {
                    rename(&to, &aside)?;
                }
                rename(&from, &to)
            }
            None if there(&to)? => rename(&to, &aside),
            None => Ok(()),
        }
    }
}

fn there(path: &Path) -> Result<bool, BackupError> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at("look at", path)(error)),
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), BackupError> {
    if let Some(parent) = to.parent() {
        durable::create_dir_all(parent).map_err(at("make", parent))?;
    }
    durable::rename(from, to).map_err(at("rename", from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        durable::create_dir_all(path.parent().unwrap()).unwrap();
        durable::write_file(path, text.as_bytes(), 0o600).unwrap();
    }

    fn moves() -> Moves {
        let step = |from: Option<&str>, to: &str| Move {
            from: from.map(|from| Path::new("restore").join(from)),
            to: to.into(),
            aside: Path::new("before").join(to),
        };
        Moves {
            moves: vec![
                step(None, "db-wal"),
                step(Some("db"), "db"),
                step(Some("blobs"), "registry/blobs"),
                step(Some("key"), "key"),
            ],
            remove: vec!["restore".into()],
        }
    }

    fn prepare(dir: &Path) {
        for (path, text) in [
            ("db", "old"),
            ("db-wal", "old log"),
            ("registry/blobs/x", "old blob"),
            ("restore/db", "new"),
            ("restore/blobs/y", "new blob"),
            ("restore/key", "new key"),
        ] {
            write(&dir.join(path), text);
        }
    }

    fn check(dir: &Path) {
        let read = |path: &str| std::fs::read_to_string(dir.join(path)).ok();
        let is = |path: &str, text: &str| assert_eq!(read(path).as_deref(), Some(text), "{path}");
        is("db", "new");
        is("registry/blobs/y", "new blob");
        is("key", "new key");
        is("before/db", "old");
        is("before/db-wal", "old log");
        is("before/registry/blobs/x", "old blob");
        for gone in ["db-wal", "registry/blobs/x", "restore", FILE] {
            assert!(!dir.join(gone).try_exists().unwrap(), "{gone}");
        }
    }

    #[test]
    fn cut_off_after_any_step_they_lead_to_the_new_state() {
        for steps in 0..=moves().moves.len() {
            for half in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                prepare(dir.path());
                let moves = moves();
                moves.commit(dir.path()).unwrap();
                for step in &moves.moves[..steps] {
                    step.carry_out(dir.path()).unwrap();
                }
                // Between the two renames of the next one.
                if let Some(Move { to, aside, .. }) = moves.moves.get(steps).filter(|_| half)
                    && there(&dir.path().join(to)).unwrap()
                {
                    rename(&dir.path().join(to), &dir.path().join(aside)).unwrap();
                }
                Moves::read(dir.path()).unwrap().unwrap().carry_out(dir.path()).unwrap();
                check(dir.path());
                assert_eq!(Moves::read(dir.path()).unwrap(), None);
            }
        }
    }
}
