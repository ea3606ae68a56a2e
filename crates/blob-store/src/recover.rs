//! Opening: bringing index and journal together again, whatever a crash or damage has left of them.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use redb::{ReadTransaction, ReadableTable};

use crate::durable::{self, DurableFile};
use crate::error::{StoreError, at};
use crate::index::{CONTENTS, Index, LINKED, LOST, MANIFESTS, Position, TAGS, VISIBILITY, failed, read};
use crate::journal::{Draft, FIRST, Found, Header, Journal};
use crate::key;
use crate::layout::Layout;
use crate::record::{Batch, ManifestRow, Record};

/// Records that are applied in one transaction when there are many.
const CHUNK: usize = 10_000;
/// Records in one frame of a snapshot.
const SNAPSHOT_FRAME: usize = 500;
/// How long the lock is waited for at an opening: of a process that ends, or was killed, it may be the last that goes.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is tried meanwhile.
const LOCK_LOOK: Duration = Duration::from_millis(20);
/// After so many openings that did not end, the index is taken to be the cause.
const MAX_OPENINGS: u8 = 2;

/// What opening had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Records that were replayed into the index.
    pub(crate) replayed: u64,
    /// Whether the index was made anew.
    pub(crate) rebuilt: bool,
}

/// Opens index and journal and makes them agree.
pub(crate) fn open(layout: &Layout, cache: usize) -> Result<(Index, Journal, Recovery), StoreError> {
    let index = open_index(layout, cache);
    let path = layout.journal();
    let result = match Journal::open(&path)? {
        Found::Nothing => without_journal(layout, cache, index),
        Found::Journal(journal) => with_journal(layout, cache, index, journal),
        Found::Headless(journal) => {
            tracing::warn!(path = %path.display(), "header of the journal is damaged, reading what can be read");
            with_journal(layout, cache, index, journal)
        }
    };
    // Opened: the next time begins to count anew.
    drop(fs::remove_file(layout.opening()));
    result
}

/// The index as it is, if it can be used.
fn open_index(layout: &Layout, cache: usize) -> Option<Index> {
    let path = layout.index();
    if fs::symlink_metadata(&path).is_err() {
        return None;
    }
    // A damaged file could end the process in the middle of opening it, again and again.
    let marker = DurableFile::open_or_create(&layout.opening(), durable::PRIVATE_FILE);
    if let Ok(marker) = &marker {
        let mut count = [0];
        let openings = marker.read_exact_at(&mut count, 0).map_or(0, |()| count[0]);
        if openings >= MAX_OPENINGS {
            tracing::warn!(path = %path.display(), "index could not be opened repeatedly, rebuilding it");
            return None;
        }
        if let Err(e) = marker.write_at(&[openings + 1], 0) {
            tracing::debug!(error = %e, "opening not counted");
        }
    }
    match Index::open(&path, cache) {
        Ok(index) => Some(index),
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "index cannot be used, rebuilding it");
            None
        }
    }
}

fn without_journal(
    layout: &Layout,
    cache: usize,
    index: Option<Index>,
) -> Result<(Index, Journal, Recovery), StoreError> {
    let path = layout.journal();
    let Some(index) = index else {
        let journal = Journal::create(&path, Header::fresh(), |_| Ok(()))?;
        return rebuild(layout, cache, journal);
    };
    tracing::warn!(path = %path.display(), "journal is missing, writing it again from the index");
    let journal = rewrite(layout, &index)?;
    Ok((index, journal, Recovery::default()))
}

fn with_journal(
    layout: &Layout,
    cache: usize,
    index: Option<Index>,
    mut journal: Journal,
) -> Result<(Index, Journal, Recovery), StoreError> {
    let Some(index) = index else { return rebuild(layout, cache, journal) };
    let position = index.position()?;
    let header = *journal.header();
    let from = if position.journal == header.id || journal.is_headless() {
        Some(position.offset)
    } else if position.journal == header.predecessor {
        header.continue_from(position.offset)
    } else {
        None
    };
    match from {
        Some(from) if from <= journal.end() => {
            let replayed = replay(&index, &mut journal, from)?;
            let journal = heal(layout, &index, journal, replayed)?;
            Ok((index, journal, Recovery { replayed: replayed.records, rebuilt: false }))
        }
        Some(_) => {
            // The index was synced after the journal was: the journal has lost what had been acknowledged.
            tracing::warn!("the journal ends before the index does, writing it again from the index");
            let journal = rewrite(layout, &index)?;
            Ok((index, journal, Recovery::default()))
        }
        None => {
            tracing::warn!("the index belongs to another journal, rebuilding it");
            drop(index);
            rebuild(layout, cache, journal)
        }
    }
}

fn rebuild(
    layout: &Layout,
    cache: usize,
    mut journal: Journal,
) -> Result<(Index, Journal, Recovery), StoreError> {
    Index::set_aside(&layout.index())?;
    let start = Position { journal: journal.header().id, offset: FIRST };
    let index = Index::create(&layout.index(), cache, start)?;
    let replayed = replay(&index, &mut journal, FIRST)?;
    if replayed.records > 0 {
        tracing::info!(records = replayed.records, "index rebuilt from the journal");
    }
    let journal = heal(layout, &index, journal, replayed)?;
    Ok((index, journal, Recovery { replayed: replayed.records, rebuilt: true }))
}

/// After damage: what manifests name and the index does not know, because the record of it was lost, is known again
/// where its file is there with the right size (a file gets its name only when it is whole and synced). Then a new
/// journal says it all.
fn heal(layout: &Layout, index: &Index, journal: Journal, replayed: Replayed) -> Result<Journal, StoreError> {
    if !replayed.damaged {
        return if journal.is_headless() { rewrite(layout, index) } else { Ok(journal) };
    }
    let state = index.snapshot()?;
    let contents = state.open_table(CONTENTS).map_err(failed)?;
    let mut found = Vec::new();
    for row in state.open_table(MANIFESTS).map_err(failed)?.iter().map_err(failed)? {
        let (place, value) = row.map_err(failed)?;
        let Some((_, digest)) = split(place.value(), key::parse_digest) else { continue };
        let Some(row) = ManifestRow::decode(value.value()) else { continue };
        let named = row.blobs.iter().map(|b| (b.digest, b.size)).chain([(digest, row.size)]);
        for (digest, size) in named {
            let length = fs::metadata(layout.blob(&digest)).map(|m| m.len()).ok();
            if length == Some(size) && read::content(&contents, &digest)?.is_none() {
                found.push(Record::Content { digest, size, at: 0 });
            }
        }
    }
    let position = index.position()?;
    index.write(true, |tables| {
        found.iter().try_for_each(|record| tables.apply(record, 0))?;
        tables.finish(position)
    })?;
    tracing::info!(contents = found.len(), "files that the journal had lost are known again");
    rewrite(layout, index)
}

/// A new journal that says what the index says. The old one is kept beside it.
pub(crate) fn rewrite(layout: &Layout, index: &Index) -> Result<Journal, StoreError> {
    let path = layout.journal();
    keep_damaged(&path);
    let journal = Journal::create(&path, Header::fresh(), |draft| write_snapshot(&index.snapshot()?, draft))?;
    let position = Position { journal: journal.header().id, offset: journal.end() };
    index.write(true, |tables| tables.finish(position))?;
    Ok(journal)
}

fn keep_damaged(path: &Path) {
    let aside = path.with_extension("damaged");
    drop(fs::remove_file(&aside));
    match fs::hard_link(path, &aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(error = %e, "the damaged journal is not kept");
        }
        _ => {}
    }
}

/// What a replay found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) records: u64,
    pub(crate) damaged: bool,
}

/// Applies the journal from `from` on to the index, and cuts a torn tail.
pub(crate) fn replay(index: &Index, journal: &mut Journal, from: u64) -> Result<Replayed, StoreError> {
    let id = journal.header().id;
    let mut scan = journal.scan(from);
    let mut replayed = Replayed::default();
    loop {
        let mut batches = Vec::new();
        let mut records = 0;
        let mut end = None;
        while records < CHUNK
            && let Some((offset, batch)) = scan.next()
        {
            records += batch.records.len();
            batches.push(batch);
            end = Some(offset);
        }
        let Some(offset) = end else { break };
        // What a crash leaves is little: it stays in memory and is replayed again after the next one.
        let sync = records >= CHUNK || replayed.records > 0;
        index.write(sync, |tables| {
            for batch in &batches {
                for record in &batch.records {
                    tables.apply(record, batch.at)?;
                }
            }
            tables.finish(Position { journal: id, offset })
        })?;
        replayed.records += records as u64;
    }
    if let Some(e) = scan.error() {
        return Err(StoreError::io("read", journal.path(), e));
    }
    for gap in scan.damaged() {
        replayed.damaged = true;
        tracing::error!(from = gap.start, to = gap.end, "the journal is damaged, its changes there are lost");
    }
    let end = scan.end();
    if end < journal.end() {
        tracing::info!(from = end, to = journal.end(), "cutting the torn end of the journal");
        journal.truncate(end)?;
    }
    Ok(replayed)
}

/// Writes records that give the state of the index when they are applied to nothing.
pub(crate) fn write_snapshot(state: &ReadTransaction, draft: &mut Draft) -> Result<(), StoreError> {
    let mut out = Frames { draft, batch: Batch::default() };
    for row in state.open_table(CONTENTS).map_err(failed)?.iter().map_err(failed)? {
        let (found, value) = row.map_err(failed)?;
        let Some(digest) = key::parse_digest(found.value()) else { continue };
        let (size, since, flags) = value.value();
        out.push(Record::Content { digest, size, at: since })?;
        if flags & LOST != 0 {
            out.push(Record::Lost { digest })?;
        }
    }
    for row in state.open_table(VISIBILITY).map_err(failed)?.iter().map_err(failed)? {
        let (found, value) = row.map_err(failed)?;
        if let Some((digest, repository)) = key::parse_digest_and_text(found.value())
            && value.value().0 & LINKED != 0
        {
            out.push(Record::Link { repository: repository.to_owned(), digest })?;
        }
    }
    for row in state.open_table(MANIFESTS).map_err(failed)?.iter().map_err(failed)? {
        let (found, value) = row.map_err(failed)?;
        if let Some((repository, digest)) = split(found.value(), key::parse_digest)
            && let Some(row) = ManifestRow::decode(value.value())
        {
            out.push(Record::PutManifest { repository, digest, row })?;
        }
    }
    for row in state.open_table(TAGS).map_err(failed)?.iter().map_err(failed)? {
        let (found, value) = row.map_err(failed)?;
        let tag = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        if let Some((repository, tag)) = split(found.value(), tag)
            && let Some(digest) = key::parse_digest(value.value())
        {
            out.push(Record::SetTag { repository, tag, digest })?;
        }
    }
    out.flush()
}

/// Parts a key into the repository and what follows.
fn split<T>(key: &[u8], parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<(String, T)> {
    let zero = key.iter().position(|b| *b == 0)?;
    Some((std::str::from_utf8(&key[..zero]).ok()?.to_owned(), parse(&key[zero + 1..])?))
}

struct Frames<'a> {
    draft: &'a mut Draft,
    batch: Batch,
}

impl Frames<'_> {
    fn push(&mut self, record: Record) -> Result<(), StoreError> {
        self.batch.records.push(record);
        if self.batch.records.len() >= SNAPSHOT_FRAME { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if !self.batch.records.is_empty() {
            self.draft.append(&self.batch)?;
            self.batch.records.clear();
        }
        Ok(())
    }
}

/// Takes the store's lock, once whoever holds it has let go of it, for which he has `patience`. It is held as long as the
/// file is open.
pub(crate) fn lock(layout: &Layout, patience: Duration) -> Result<fs::File, StoreError> {
    let path = layout.lock();
    let file = DurableFile::open_or_create(&path, durable::PRIVATE_FILE).map_err(at("open", &path))?;
    let file = file.file().try_clone().map_err(at("open", &path))?;
    let end = Instant::now() + patience;
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(LOCK_LOOK),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StoreError::Locked { path: layout.root.clone() });
            }
            Err(e) => return Err(at("lock", &path)(e.into())),
        }
    }
}
