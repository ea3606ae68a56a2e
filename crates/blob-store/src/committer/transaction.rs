//! The inside of a commit: what one write may see and do while it is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::Digest;

use crate::durable;
use crate::error::{StoreError, at};
use crate::index::{Tables, read};
use crate::record::Record;
use crate::shared::Shared;

/// The inside of a commit, for the decision about one write.
pub(crate) struct Transaction<'a, 't> {
    pub(crate) tables: &'a mut Tables<'t>,
    pub(crate) shared: &'a Arc<Shared>,
    /// Time of the commit, milliseconds of Unix time.
    pub(crate) at: u64,
    pub(super) records: Vec<Record>,
    pub(super) directories: BTreeSet<PathBuf>,
    /// Files that nothing knows any more once this is committed, and where they go.
    pub(super) trash: BTreeMap<Digest, PathBuf>,
    pub(super) after: Vec<After>,
}

pub(super) type After = Box<dyn FnOnce(bool) + Send>;

impl Transaction<'_, '_> {
    /// Does one change.
    pub(crate) fn push(&mut self, record: Record) -> Result<(), StoreError> {
        self.tables.apply(&record, self.at)?;
        self.records.push(record);
        Ok(())
    }

    /// Forgets a content and moves its file away after the commit, unless a later write of the same batch publishes it.
    pub(crate) fn forget(&mut self, digest: &Digest, to: PathBuf) -> Result<(), StoreError> {
        self.push(Record::Forget { digest: *digest })?;
        self.trash.insert(*digest, to);
        Ok(())
    }

    /// Calls `f` after the commit, with whether it succeeded, before anybody is answered.
    pub(crate) fn after(&mut self, f: impl FnOnce(bool) + Send + 'static) {
        self.after.push(Box::new(f));
    }

    /// Whether the content is known and its file has the right length.
    pub(crate) fn holds(&self, digest: &Digest) -> Result<bool, StoreError> {
        let content = read::content(&self.tables.contents, digest)?;
        Ok(content.is_some_and(|c| !c.lost && self.shared.file_length(digest) == Some(c.size)))
    }

    /// Gives a complete, synced file its final name, unless the content is there.
    pub(crate) fn publish(&mut self, temporary: &Path, digest: &Digest, size: u64) -> Result<(), StoreError> {
        if self.holds(digest)? {
            return Ok(());
        }
        let shard = self.shared.layout.shard(digest);
        let path = self.shared.layout.blob(digest);
        if let Err(e) = fs::rename(temporary, &path) {
            if e.kind() != std::io::ErrorKind::NotFound || shard.is_dir() {
                return Err(StoreError::io("publish", &path, e));
            }
            durable::create_dir_all(&shard).map_err(at("create", &shard))?;
            fs::rename(temporary, &path).map_err(at("publish", &path))?;
        }
        self.trash.remove(digest);
        self.directories.insert(shard);
        let at = self.at;
        self.push(Record::Content { digest: *digest, size, at })
    }
}
