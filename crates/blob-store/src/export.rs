//! A copy of a store that another process has open: files alone, no lock, nobody is held up.
//!
//! Content never changes once it has its name, and the journal only grows or is replaced by one that says the same. So a copy
//! is hard links of the content, which cost no bytes and keep it from a collection, and a journal of its own that says what
//! is in it.
//!
//! Whoever copies something else together with a store, such as a database that names its manifests, takes a [`Mark`]
//! first, then copies that, then begins the [`Export`]: the copy has everything that was there at the mark or since, whatever
//! was deleted in between. Content stays for the grace after nothing names it any more, which is much longer than links take.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::Digest;
use redb::ReadableTable;

use crate::durable;
use crate::error::{StoreError, at};
use crate::index::{CONTENTS, Index, LOST, Position, VISIBILITY, failed, read};
use crate::journal::{Draft, FIRST, Found, Header, Journal};
use crate::key;
use crate::layout::Layout;
use crate::record::Record;
use crate::recover::{lock, write_snapshot};

/// Records that are applied to the copy's index at once.
const CHUNK: usize = 10_000;
/// Memory for pages of the copy's index, in bytes.
const CACHE: usize = 8 << 20;

/// What a store held at one moment: kept readable, whatever becomes of the store.
#[derive(Debug)]
pub struct Mark(Option<Journal>);

impl Mark {
    /// Takes note of what the store in `root` holds now; of nothing where there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`], or [`StoreError::Version`] where a newer program wrote it.
    pub fn take(root: &Path) -> Result<Self, StoreError> {
        match Journal::open(&Layout::new(root).journal())? {
            Found::Nothing => Ok(Self(None)),
            Found::Journal(journal) => Ok(Self(Some(journal))),
            Found::Headless(journal) => Err(damaged(journal.path())),
        }
    }
}

/// A copy being made.
#[derive(Debug)]
pub struct Export {
    from: Layout,
    to: Layout,
    index: Index,
}

/// One content of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its digest.
    pub digest: Digest,
    /// Bytes of its file.
    pub size: u64,
}

impl Export {
    /// Links what the store in `root` has now, and had at the mark, into `staging`, which must be a new folder on the same file
    /// system. Blocking.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Index`] where the journal is damaged, which the store repairs when it is opened.
    pub fn begin(root: &Path, staging: &Path, mark: Mark) -> Result<Self, StoreError> {
        let (from, to) = (Layout::new(root), Layout::new(staging));
        to.make_directories()?;
        let index = Index::create(&to.index(), CACHE, Position { journal: [0; 16], offset: 0 })?;
        if let Some(journal) = &mark.0 {
            apply(&index, journal, |_| true)?;
        }
        match Journal::open(&from.journal())? {
            Found::Nothing => {}
            Found::Journal(journal) => apply(&index, &journal, |record| !removes(record))?,
            Found::Headless(journal) => return Err(damaged(journal.path())),
        }
        let export = Self { from, to, index };
        for Exported { digest, size } in export.known()? {
            if !export.link(&digest, size)? {
                export.leave_out(&digest)?;
            }
        }
        Ok(export)
    }

    /// What the copy has, in the order of the digests.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn contents(&self) -> Result<Vec<Exported>, StoreError> {
        self.known()
    }

    /// Where the copy's file of a content is.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.to.blob(digest)
    }

    /// Takes a content out of the copy, because it turned out to be damaged; what names it is told that it is gone.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn leave_out(&self, digest: &Digest) -> Result<(), StoreError> {
        let digest = *digest;
        self.index.write(false, |tables| {
            let gone = match read::in_use(&tables.visibility, &digest)? {
                true => Record::Lost { digest },
                false => Record::Forget { digest },
            };
            tables.apply(&gone, 0)
        })
    }

    /// What manifests name and the copy has not: it was damaged or gone in the store already.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn left_out(&self) -> Result<Vec<Digest>, StoreError> {
        let state = self.index.snapshot()?;
        let visibility = state.open_table(VISIBILITY).map_err(failed)?;
        let mut lost = Vec::new();
        for row in state.open_table(CONTENTS).map_err(failed)?.iter().map_err(failed)? {
            let (found, value) = row.map_err(failed)?;
            if let Some(digest) = key::parse_digest(found.value())
                && value.value().2 & LOST != 0
                && read::in_use(&visibility, &digest)?
            {
                lost.push(digest);
            }
        }
        Ok(lost)
    }

    /// Writes the journal of the copy and tells where it is.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Index`].
    pub fn journal(&self) -> Result<PathBuf, StoreError> {
        let path = self.to.journal();
        let snapshot = |draft: &mut Draft| write_snapshot(&self.index.snapshot()?, draft);
        Journal::create(&path, Header::fresh(), snapshot)?;
        Ok(path)
    }

    fn known(&self) -> Result<Vec<Exported>, StoreError> {
        let state = self.index.snapshot()?;
        let mut known = Vec::new();
        for row in state.open_table(CONTENTS).map_err(failed)?.iter().map_err(failed)? {
            let (found, value) = row.map_err(failed)?;
            let (size, _, flags) = value.value();
            if let Some(digest) = key::parse_digest(found.value())
                && flags & LOST == 0
            {
                known.push(Exported { digest, size });
            }
        }
        Ok(known)
    }

    /// Whether the file is there with the right length.
    fn link(&self, digest: &Digest, size: u64) -> Result<bool, StoreError> {
        let (file, name) = (self.from.blob(digest), self.to.blob(digest));
        let linked = fs::hard_link(&file, &name).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound if !self.to.shard(digest).is_dir() => {
                durable::create_dir_all(&self.to.shard(digest))?;
                fs::hard_link(&file, &name)
            }
            _ => Err(error),
        });
        match linked {
            Ok(()) => Ok(fs::metadata(&name).map_err(at("look at", &name))?.len() == size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("link", &file, error)),
        }
    }
}

/// Whether it takes something away that was there.
fn removes(record: &Record) -> bool {
    match record {
        Record::Lost { .. }
        | Record::Forget { .. }
        | Record::Unlink { .. }
        | Record::DeleteManifest { .. }
        | Record::DeleteTag { .. } => true,
        Record::Content { .. } | Record::Link { .. } | Record::PutManifest { .. } | Record::SetTag { .. } => {
            false
        }
    }
}

/// Applies what a journal says, up to where it was when it was opened.
fn apply(index: &Index, journal: &Journal, take: impl Fn(&Record) -> bool) -> Result<(), StoreError> {
    let mut scan = journal.scan(FIRST);
    loop {
        let mut batches = Vec::new();
        let mut records = 0;
        while records < CHUNK
            && let Some((_, batch)) = scan.next()
        {
            records += batch.records.len();
            batches.push(batch);
        }
        if batches.is_empty() {
            break;
        }
        index.write(false, |tables| {
            for batch in &batches {
                for record in batch.records.iter().filter(|record| take(record)) {
                    tables.apply(record, batch.at)?;
                }
            }
            tables.finish(Position { journal: [0; 16], offset: 0 })
        })?;
    }
    if let Some(error) = scan.error() {
        return Err(StoreError::io("read", journal.path(), error));
    }
    if scan.damaged().is_empty() { Ok(()) } else { Err(damaged(journal.path())) }
}

fn damaged(path: &Path) -> StoreError {
    StoreError::Index { reason: format!("the journal {} is damaged", path.display()) }
}

/// Whether another process has the store in `root` open. It can only have been so a moment ago.
///
/// # Errors
/// [`StoreError::Io`].
pub fn is_open(root: &Path) -> Result<bool, StoreError> {
    let layout = Layout::new(root);
    if fs::symlink_metadata(layout.lock()).is_err() {
        return Ok(false);
    }
    match lock(&layout, Duration::ZERO) {
        Ok(_) => Ok(false),
        Err(StoreError::Locked { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Opens the copy in `root` once, which makes its index, and tells what its journal says is there and is not.
///
/// # Errors
/// [`StoreError`].
pub fn check(root: &Path) -> Result<Vec<Digest>, StoreError> {
    let store = crate::Store::open(root, crate::Options::default())?;
    let shared = &store.inner.shared;
    let state = shared.index.snapshot()?;
    let mut missing = Vec::new();
    for row in state.open_table(CONTENTS).map_err(failed)?.iter().map_err(failed)? {
        let (found, value) = row.map_err(failed)?;
        let (size, _, flags) = value.value();
        if let Some(digest) = key::parse_digest(found.value())
            && flags & LOST == 0
            && shared.file_length(&digest) != Some(size)
        {
            missing.push(digest);
        }
    }
    Ok(missing)
}
