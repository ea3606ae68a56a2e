//! The journal: the truth about metadata, an append-only file of checksummed frames, each one batch of records.
//!
//! ```text
//! header  magic 8 · version u32 · id 16 · predecessor's id 16 · predecessor's offset u64 · end of snapshot u64 · crc32
//! frame   magic u32 · length u32 · crc32 of length and payload · payload
//! ```
//! A frame is written and synced before the next is begun, so only the last one can be torn, and it was never
//! acknowledged. A journal that is much larger than what it says is replaced by a snapshot: the new file names its
//! predecessor and the offset up to which the snapshot holds what that said; from the end of the snapshot on it holds
//! copies of the frames behind that offset.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::codec::{Decoder, Encoder};
use crate::durable::{self, DurableFile};
use crate::error::{StoreError, at};
use crate::record::Batch;

mod scan;

pub(crate) use scan::Scan;

const MAGIC: &[u8; 8] = b"BLOBJRNL";
const VERSION: u32 = 1;
/// Where the first frame begins.
pub(crate) const FIRST: u64 = 64;
const FRAME_MAGIC: [u8; 4] = *b"\xf7Frm";
const FRAME_HEADER: usize = 12;
/// No batch comes near this; a longer one is damage.
const MAX_FRAME: usize = 256 << 20;

/// Identity and ancestry of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: [u8; 16],
    pub(crate) predecessor: [u8; 16],
    pub(crate) predecessor_offset: u64,
    pub(crate) snapshot_end: u64,
}

impl Header {
    /// Of a journal that begins with nothing.
    pub(crate) fn fresh() -> Self {
        Self {
            id: *uuid::Uuid::new_v4().as_bytes(),
            predecessor: [0; 16],
            predecessor_offset: 0,
            snapshot_end: FIRST,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::default();
        e.0.extend_from_slice(MAGIC);
        e.u32(VERSION);
        e.0.extend_from_slice(&self.id);
        e.0.extend_from_slice(&self.predecessor);
        e.u64(self.predecessor_offset).u64(self.snapshot_end);
        let crc = crc32fast::hash(&e.0);
        e.u32(crc);
        e.0
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let mut d = Decoder(body);
        let magic = d.take(8)?;
        let version = d.u32()?;
        let header = Self {
            id: d.take(16)?.try_into().ok()?,
            predecessor: d.take(16)?.try_into().ok()?,
            predecessor_offset: d.u64()?,
            snapshot_end: d.u64()?,
        };
        (magic == MAGIC && version == VERSION && crc32fast::hash(body) == u32::from_le_bytes(*crc))
            .then_some(header)
    }

    /// Where an index that stands at `offset` of the predecessor stands in this journal.
    pub(crate) fn continue_from(&self, offset: u64) -> Option<u64> {
        let beyond = offset.checked_sub(self.predecessor_offset)?;
        self.snapshot_end.checked_add(beyond)
    }
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    file: DurableFile,
    header: Header,
    /// Where the next frame goes.
    end: u64,
    /// The header was unreadable: the identity is a new one.
    headless: bool,
    /// A frame that could not be taken back: nothing may follow it.
    broken: Option<String>,
}

/// What is there at open.
#[derive(Debug)]
pub(crate) enum Found {
    /// No journal at all.
    Nothing,
    /// A journal with a good header.
    Journal(Journal),
    /// The header is damaged; the frames may be readable.
    Headless(Journal),
}

impl Journal {
    pub(crate) fn open(path: &Path) -> Result<Found, StoreError> {
        let file = match DurableFile::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            other => other.map_err(at("open", path))?,
        };
        let end = file.len().map_err(at("read", path))?;
        let mut bytes = [0; FIRST as usize];
        let header = if end >= FIRST {
            file.read_exact_at(&mut bytes, 0).map_err(at("read", path))?;
            Header::decode(&bytes)
        } else {
            None
        };
        let found = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if header.is_none() && bytes.starts_with(MAGIC) && found > VERSION && found < 1 << 16 {
            return Err(StoreError::Version { path: path.to_owned(), found, known: VERSION });
        }
        Ok(match header {
            Some(header) => Found::Journal(Self { file, header, end, headless: false, broken: None }),
            None => {
                Found::Headless(Self { file, header: Header::fresh(), end, headless: true, broken: None })
            }
        })
    }

    /// Makes a journal with what `snapshot` writes into it and puts it in the place of the one that is there.
    pub(crate) fn create(
        path: &Path,
        header: Header,
        snapshot: impl FnOnce(&mut Draft) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let mut draft = Draft::begin(path)?;
        snapshot(&mut draft)?;
        draft.install(header)
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Whether its header was unreadable.
    pub(crate) fn is_headless(&self) -> bool {
        self.headless
    }

    /// Where the next frame goes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Whether the name still stands for the open file: somebody may have removed the store's files under it.
    pub(crate) fn is_in_place(&self) -> bool {
        let inode = |m: fs::Metadata| (m.dev(), m.ino());
        match (self.file.file().metadata(), fs::metadata(self.path())) {
            (Ok(open), Ok(named)) => inode(open) == inode(named),
            (_, Err(e)) => e.kind() != io::ErrorKind::NotFound,
            _ => true,
        }
    }

    /// Appends a batch and returns once it is on the disk. A failure leaves the journal as it was; where even that
    /// cannot be had it takes no more.
    pub(crate) fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if let Some(reason) = &self.broken {
            return Err(StoreError::ReadOnly { reason: reason.clone() });
        }
        let frame = frame(&batch.encode());
        let written = self.file.write_at(&frame, self.end).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            let error = StoreError::io("write", self.path(), source);
            self.take_back(&error);
            return Err(error);
        }
        self.end += frame.len() as u64;
        Ok(())
    }

    fn take_back(&mut self, cause: &StoreError) {
        if let Err(e) = self.file.set_len(self.end).and_then(|()| self.file.sync_data()) {
            tracing::error!(error = %e, path = %self.path().display(), "a failed journal write cannot be undone");
            self.broken = Some(cause.to_string());
        }
    }

    /// Cuts a torn tail, or what follows `end` for another reason.
    pub(crate) fn truncate(&mut self, end: u64) -> Result<(), StoreError> {
        if end < self.end {
            self.file.set_len(end).map_err(at("truncate", self.file.path()))?;
            self.file.sync_data().map_err(at("sync", self.file.path()))?;
            self.end = end;
        }
        Ok(())
    }

    /// Reads the batches from `offset` on.
    pub(crate) fn scan(&self, offset: u64) -> Scan<'_> {
        Scan::new(self.file.file(), offset, self.end)
    }

    /// The raw bytes from `offset` to the end, for a successor.
    fn copy_tail(&self, offset: u64, draft: &mut Draft) -> Result<(), StoreError> {
        let mut from = offset;
        let mut buffer = vec![0; 1 << 20];
        while from < self.end {
            let n = buffer.len().min(usize::try_from(self.end - from).unwrap_or(usize::MAX));
            self.file.read_exact_at(&mut buffer[..n], from).map_err(at("read", self.path()))?;
            draft.write(&buffer[..n])?;
            from += n as u64;
        }
        Ok(())
    }

    /// Replaces this journal by a draft that holds a snapshot of it up to `offset`; adds what came since.
    pub(crate) fn succeed(&self, mut draft: Draft, offset: u64) -> Result<Self, StoreError> {
        let header = Header {
            predecessor: self.header.id,
            predecessor_offset: offset,
            snapshot_end: draft.end,
            ..Header::fresh()
        };
        self.copy_tail(offset, &mut draft)?;
        draft.install(header)
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut frame = Vec::with_capacity(FRAME_HEADER + payload.len());
    frame.extend_from_slice(&FRAME_MAGIC);
    frame.extend_from_slice(&length);
    frame.extend_from_slice(&checksum(length, payload).to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(payload);
    hasher.finalize()
}

/// A journal that is not in its place yet.
#[derive(Debug)]
pub(crate) struct Draft {
    file: DurableFile,
    path: PathBuf,
    end: u64,
}

impl Draft {
    /// Begins the successor of the journal at `path`.
    pub(crate) fn begin(path: &Path) -> Result<Self, StoreError> {
        let temporary = path.with_extension("new");
        durable::remove_file(&temporary).map_err(at("remove", &temporary))?;
        let file =
            DurableFile::create(&temporary, durable::PRIVATE_FILE).map_err(at("create", &temporary))?;
        Ok(Self { file, path: path.to_owned(), end: FIRST })
    }

    pub(crate) fn append(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.write(&frame(&batch.encode()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_at(bytes, self.end).map_err(at("write", self.file.path()))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Syncs early, so that little is left to do when it is installed.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(at("sync", self.file.path()))
    }

    fn install(self, header: Header) -> Result<Journal, StoreError> {
        let mut header = header;
        if header.predecessor == [0; 16] {
            header.snapshot_end = self.end;
        }
        let mut bytes = header.encode();
        // A draft has a header only now: before, it is no journal whatever happens.
        bytes.resize(FIRST as usize, 0);
        self.file.write_at(&bytes, 0).map_err(at("write", self.file.path()))?;
        self.file.sync_all().map_err(at("sync", self.file.path()))?;
        durable::rename(self.file.path(), &self.path).map_err(at("replace", &self.path))?;
        let file = DurableFile::open(&self.path).map_err(at("open", &self.path))?;
        Ok(Journal { file, header, end: self.end, headless: false, broken: None })
    }

    pub(crate) fn discard(self) {
        drop(fs::remove_file(self.file.path()));
    }
}

#[cfg(test)]
mod tests;
