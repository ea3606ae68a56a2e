//! The index: what the journal says, in a form that answers questions. Derived; it can be thrown away at any time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, Table,
    TableDefinition, WriteTransaction,
};

use crate::durable::{self, DurableFile};
use crate::error::{StoreError, at};
use crate::types::Usage;

pub(crate) mod apply;
pub(crate) mod read;

type Bytes<V> = TableDefinition<'static, &'static [u8], V>;

/// digest → size in bytes, when its grace began (0 while a manifest needs it), flags.
pub(crate) const CONTENTS: Bytes<(u64, u64, u8)> = TableDefinition::new("contents");
/// when, digest → content that no manifest needs.
pub(crate) const UNREFERENCED: Bytes<()> = TableDefinition::new("unreferenced");
/// digest, repository → flags, number of manifests of the repository that name it.
pub(crate) const VISIBILITY: Bytes<(u8, u32)> = TableDefinition::new("visibility");
/// repository → manifests, tags, links.
pub(crate) const REPOSITORIES: TableDefinition<'static, &'static str, (u64, u64, u64)> =
    TableDefinition::new("repositories");
/// repository, digest → [`crate::record::ManifestRow`].
pub(crate) const MANIFESTS: Bytes<&'static [u8]> = TableDefinition::new("manifests");
/// repository, tag → digest.
pub(crate) const TAGS: Bytes<&'static [u8]> = TableDefinition::new("tags");
/// repository, digest, tag.
pub(crate) const TAGGED: Bytes<()> = TableDefinition::new("tagged");
/// repository, subject, referrer.
pub(crate) const REFERRERS: Bytes<()> = TableDefinition::new("referrers");
/// Where in the journal the index stands, and the totals.
const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");

/// The file of a content is gone or damaged.
pub(crate) const LOST: u8 = 1;
/// The blob was pushed or mounted here.
pub(crate) const LINKED: u8 = 1;
/// The content is a manifest here.
pub(crate) const MANIFEST: u8 = 2;

/// Changes with every change of the tables' meaning: another one is rebuilt from the journal.
const FORMAT: u32 = 1;
/// How long an index that has to be opened again waits for those who read.
const READERS_END: Duration = Duration::from_secs(2);

/// Up to where in which journal the index has been brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) journal: [u8; 16],
    pub(crate) offset: u64,
}

/// The open index. It is behind a lock because an I/O error makes redb unusable until it is opened again.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    cache: usize,
    database: RwLock<Option<Database>>,
}

/// For `map_err`: any error of redb.
pub(crate) fn failed<E: Into<redb::Error>>(error: E) -> StoreError {
    let error: redb::Error = error.into();
    if let redb::Error::Io(source) = error {
        return StoreError::io("use", Path::new("index.redb"), source);
    }
    StoreError::Index { reason: error.to_string() }
}

impl Index {
    /// Opens an index that is there; an error means that it has to be rebuilt.
    pub(crate) fn open(path: &Path, cache: usize) -> Result<Self, StoreError> {
        let database = Database::builder().set_cache_size(cache).open(path).map_err(failed)?;
        let index = Self { path: path.to_owned(), cache, database: RwLock::new(Some(database)) };
        index.position()?;
        Ok(index)
    }

    /// Makes an empty index. Under a temporary name first: redb cannot open a file that a power cut left half created.
    pub(crate) fn create(path: &Path, cache: usize, position: Position) -> Result<Self, StoreError> {
        let temporary = path.with_extension("redb.new");
        durable::remove_file(&temporary).map_err(at("remove", &temporary))?;
        let file =
            DurableFile::create(&temporary, durable::PRIVATE_FILE).map_err(at("create", &temporary))?;
        let file = file.file().try_clone().map_err(at("create", &temporary))?;
        let database = Database::builder().set_cache_size(cache).create_file(file).map_err(failed)?;
        let index = Self { path: temporary.clone(), cache, database: RwLock::new(Some(database)) };
        index.write(true, |tables| tables.finish(position))?;
        drop(index);
        durable::publish(&temporary, path).map_err(at("create", path))?;
        Self::open(path, cache)
    }

    /// Closes and opens again, after an I/O error.
    pub(crate) fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        let begun = Instant::now();
        loop {
            match Database::builder().set_cache_size(self.cache).open(&self.path) {
                // A reader still holds the old state; nobody can begin to read while this waits.
                Err(DatabaseError::DatabaseAlreadyOpen) if begun.elapsed() < READERS_END => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => {
                    *database = Some(opened.map_err(failed)?);
                    return Ok(());
                }
            }
        }
    }

    /// Runs `f` on the state of this moment.
    pub(crate) fn read<T>(
        &self,
        f: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        f(&self.snapshot()?)
    }

    /// The state of this moment, for as long as it is held.
    pub(crate) fn snapshot(&self) -> Result<ReadTransaction, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database =
            database.as_ref().ok_or_else(|| StoreError::Index { reason: "it is closed".into() })?;
        database.begin_read().map_err(failed)
    }

    /// Runs `f` and commits what it did; nothing of it stays where it fails. With `durable` it is on the disk after
    /// that, and all that was committed before.
    pub(crate) fn write<T>(
        &self,
        durable: bool,
        f: impl FnOnce(&mut Tables<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database =
            database.as_ref().ok_or_else(|| StoreError::Index { reason: "it is closed".into() })?;
        let mut transaction = database.begin_write().map_err(failed)?;
        if durable {
            // Opening after a kill takes a millisecond instead of a walk through the whole file.
            transaction.set_quick_repair(true);
        } else {
            transaction.set_durability(Durability::None).map_err(failed)?;
        }
        let result = {
            let mut tables = Tables::open(&transaction)?;
            f(&mut tables)
        };
        match result {
            Ok(value) => {
                transaction.commit().map_err(failed)?;
                Ok(value)
            }
            Err(e) => {
                transaction.abort().map_err(failed)?;
                Err(e)
            }
        }
    }

    /// Where the index stands; an error where it is of another format.
    pub(crate) fn position(&self) -> Result<Position, StoreError> {
        let wrong = || StoreError::Index { reason: "it has another format".into() };
        self.read(|t| {
            let meta = t.open_table(META).map_err(failed)?;
            let row = meta.get("position").map_err(failed)?.ok_or_else(wrong)?;
            let mut d = crate::codec::Decoder(row.value());
            if d.u32() != Some(FORMAT) {
                return Err(wrong());
            }
            let journal = d.take(16).and_then(|b| b.try_into().ok()).ok_or_else(wrong)?;
            Ok(Position { journal, offset: d.u64().ok_or_else(wrong)? })
        })
    }

    /// The totals.
    pub(crate) fn usage(&self) -> Result<Usage, StoreError> {
        self.read(|t| {
            let meta = t.open_table(META).map_err(failed)?;
            Ok(meta
                .get("usage")
                .map_err(failed)?
                .and_then(|row| decode_usage(row.value()))
                .unwrap_or_default())
        })
    }

    /// Moves a damaged index out of the way; the last one set aside is kept for whoever wants to know.
    pub(crate) fn set_aside(path: &Path) -> Result<(), StoreError> {
        match fs::rename(path, path.with_extension("redb.damaged")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("set aside", path, e)),
            _ => Ok(()),
        }
    }
}

fn decode_usage(bytes: &[u8]) -> Option<Usage> {
    let mut d = crate::codec::Decoder(bytes);
    Some(Usage {
        bytes: d.u64()?,
        contents: d.u64()?,
        manifests: d.u64()?,
        tags: d.u64()?,
        repositories: d.u64()?,
    })
}

/// All tables, open for writing.
pub(crate) struct Tables<'t> {
    pub(crate) contents: Table<'t, &'static [u8], (u64, u64, u8)>,
    pub(crate) unreferenced: Table<'t, &'static [u8], ()>,
    pub(crate) visibility: Table<'t, &'static [u8], (u8, u32)>,
    pub(crate) repositories: Table<'t, &'static str, (u64, u64, u64)>,
    pub(crate) manifests: Table<'t, &'static [u8], &'static [u8]>,
    pub(crate) tags: Table<'t, &'static [u8], &'static [u8]>,
    pub(crate) tagged: Table<'t, &'static [u8], ()>,
    pub(crate) referrers: Table<'t, &'static [u8], ()>,
    meta: Table<'t, &'static str, &'static [u8]>,
    pub(crate) usage: Usage,
}

impl<'t> Tables<'t> {
    fn open(t: &'t WriteTransaction) -> Result<Self, StoreError> {
        let meta = t.open_table(META).map_err(failed)?;
        let usage =
            meta.get("usage").map_err(failed)?.and_then(|row| decode_usage(row.value())).unwrap_or_default();
        Ok(Self {
            contents: t.open_table(CONTENTS).map_err(failed)?,
            unreferenced: t.open_table(UNREFERENCED).map_err(failed)?,
            visibility: t.open_table(VISIBILITY).map_err(failed)?,
            repositories: t.open_table(REPOSITORIES).map_err(failed)?,
            manifests: t.open_table(MANIFESTS).map_err(failed)?,
            tags: t.open_table(TAGS).map_err(failed)?,
            tagged: t.open_table(TAGGED).map_err(failed)?,
            referrers: t.open_table(REFERRERS).map_err(failed)?,
            meta,
            usage,
        })
    }

    /// Writes down up to where the journal was applied; the last thing in each transaction.
    pub(crate) fn finish(&mut self, position: Position) -> Result<(), StoreError> {
        let mut e = crate::codec::Encoder::default();
        e.u32(FORMAT);
        e.0.extend_from_slice(&position.journal);
        e.u64(position.offset);
        self.meta.insert("position", e.0.as_slice()).map_err(failed)?;
        let u = self.usage;
        let mut e = crate::codec::Encoder::default();
        e.u64(u.bytes).u64(u.contents).u64(u.manifests).u64(u.tags).u64(u.repositories);
        self.meta.insert("usage", e.0.as_slice()).map_err(failed)?;
        Ok(())
    }
}
