//! Bytes of a blob on their way into a file: written and hashed beside the stream that brings them, in bounded memory.

use std::any::Any;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci::{Algorithm, Digest, Hasher};
use tokio::task::JoinHandle;

use crate::durable::DurableFile;
use crate::error::{StoreError, at};
use crate::shared::Shared;

/// Bytes that wait while earlier ones are written; a writer with more has to wait too.
const MAX_PENDING: usize = 512 << 10;
/// After so many bytes, or so much time with some, what was written is synced beside the stream.
const SYNC_BYTES: u64 = 64 << 20;
const SYNC_TIME: Duration = Duration::from_secs(5);
const SYNC_MIN: u64 = 1 << 20;
/// How often the disk's free space is looked at, in bytes.
const SPACE_STEP: u64 = 4 << 20;
/// Buffer for reading a prefix again.
const READ: usize = 256 << 10;

/// What is done when everything up to an offset is on the disk; blocking.
pub(crate) type OnSync = Arc<dyn Fn(u64) -> Result<(), StoreError> + Send + Sync>;

/// The one writer of a file.
pub(crate) struct Sink {
    shared: Arc<Shared>,
    file: Arc<DurableFile>,
    /// Absent while a job has it.
    tail: Option<Tail>,
    job: Option<JoinHandle<(Tail, Result<(), StoreError>)>>,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    accepted: u64,
    written: u64,
    syncing: Option<JoinHandle<Result<u64, StoreError>>>,
    synced: u64,
    synced_at: Instant,
    on_sync: Option<OnSync>,
    /// Lives as long as any job that still writes.
    keep: Arc<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sink").field("accepted", &self.accepted).finish_non_exhaustive()
    }
}

struct Tail {
    hasher: Hasher,
    offset: u64,
    space_checked: u64,
}

impl Sink {
    /// Continues a file at `offset`, of which `hasher` has seen the bytes before.
    pub(crate) fn new(
        shared: Arc<Shared>,
        file: DurableFile,
        offset: u64,
        hasher: Hasher,
        on_sync: Option<OnSync>,
        keep: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            shared,
            file: Arc::new(file),
            tail: Some(Tail { hasher, offset, space_checked: 0 }),
            job: None,
            pending: Vec::new(),
            pending_bytes: 0,
            accepted: offset,
            written: offset,
            syncing: None,
            synced: offset,
            synced_at: Instant::now(),
            on_sync,
            keep,
        }
    }

    /// Where the next byte goes.
    pub(crate) fn offset(&self) -> u64 {
        self.accepted
    }

    /// Whether bytes are on their way to the file.
    pub(crate) fn is_busy(&self) -> bool {
        self.job.is_some() || !self.pending.is_empty()
    }

    /// Takes bytes. After an error the sink stands where the file ends and can go on.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.job.as_ref().is_some_and(JoinHandle::is_finished) {
            self.settle().await?;
        }
        self.accepted += bytes.len() as u64;
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
        if self.job.is_some() && self.pending_bytes >= MAX_PENDING {
            self.settle().await?;
        }
        if self.job.is_none() {
            self.dispatch()?;
        }
        self.sync_beside().await
    }

    fn dispatch(&mut self) -> Result<(), StoreError> {
        let Some(mut tail) = self.tail.take() else { return Err(StoreError::Stopped) };
        let chunks = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let (file, shared, keep) = (Arc::clone(&self.file), Arc::clone(&self.shared), Arc::clone(&self.keep));
        self.job = Some(tokio::task::spawn_blocking(move || {
            let result = chunks.iter().try_for_each(|chunk| tail.write(&shared, &file, chunk));
            if result.is_err() {
                // The hash has seen exactly what is before the offset; so must the file.
                drop(file.set_len(tail.offset));
            }
            drop(keep);
            (tail, result)
        }));
        Ok(())
    }

    /// Waits for the bytes that are on their way.
    async fn settle(&mut self) -> Result<(), StoreError> {
        let Some(job) = &mut self.job else { return Ok(()) };
        let joined = job.await;
        self.job = None;
        let (tail, result) = joined.map_err(|_| StoreError::Stopped)?;
        self.written = tail.offset;
        self.tail = Some(tail);
        if result.is_err() {
            self.pending.clear();
            self.pending_bytes = 0;
            self.accepted = self.written;
        }
        result
    }

    /// Returns when all bytes are in the file.
    pub(crate) async fn flush(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        if !self.pending.is_empty() {
            self.dispatch()?;
            self.settle().await?;
        }
        Ok(())
    }

    async fn sync_beside(&mut self) -> Result<(), StoreError> {
        if self.syncing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join_sync().await?;
        }
        let behind = self.written.saturating_sub(self.synced);
        let due = behind >= SYNC_BYTES || (behind >= SYNC_MIN && self.synced_at.elapsed() >= SYNC_TIME);
        if due && self.syncing.is_none() {
            self.begin_sync();
        }
        Ok(())
    }

    fn begin_sync(&mut self) {
        let (file, on_sync, written) = (Arc::clone(&self.file), self.on_sync.clone(), self.written);
        let keep = Arc::clone(&self.keep);
        self.syncing = Some(tokio::task::spawn_blocking(move || {
            file.sync_data().map_err(at("sync", file.path()))?;
            if let Some(on_sync) = on_sync {
                on_sync(written)?;
            }
            drop(keep);
            Ok(written)
        }));
    }

    async fn join_sync(&mut self) -> Result<(), StoreError> {
        let Some(syncing) = &mut self.syncing else { return Ok(()) };
        let joined = syncing.await;
        self.syncing = None;
        self.synced = joined.map_err(|_| StoreError::Stopped)??;
        self.synced_at = Instant::now();
        Ok(())
    }

    /// Returns when all bytes are on the disk.
    pub(crate) async fn sync(&mut self) -> Result<(), StoreError> {
        self.flush().await?;
        self.join_sync().await?;
        if self.synced < self.written {
            self.begin_sync();
            self.join_sync().await?;
        }
        Ok(())
    }

    /// Like [`Sink::sync`], without a word to whoever keeps account: the file is about to be published.
    pub(crate) async fn sync_last(&mut self) -> Result<(), StoreError> {
        self.flush().await?;
        self.join_sync().await?;
        self.on_sync = None;
        self.begin_sync();
        self.join_sync().await
    }

    /// The digest of everything written. Reads the file again where another algorithm was assumed so far.
    pub(crate) async fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StoreError> {
        self.flush().await?;
        let Some(tail) = &self.tail else { return Err(StoreError::Stopped) };
        if algorithm_of(&tail.hasher) == algorithm {
            return Ok(tail.hasher.clone().finish());
        }
        let (file, length) = (Arc::clone(&self.file), tail.offset);
        let hashing = tokio::task::spawn_blocking(move || {
            hash_prefix(file.file(), algorithm, length).map_err(at("read", file.path()))
        });
        Ok(hashing.await.map_err(|_| StoreError::Stopped)??.finish())
    }
}

impl Tail {
    fn write(&mut self, shared: &Shared, file: &DurableFile, chunk: &[u8]) -> Result<(), StoreError> {
        if self.space_checked == 0 || self.offset >= self.space_checked + SPACE_STEP {
            shared.require_space(SPACE_STEP.max(chunk.len() as u64))?;
            self.space_checked = self.offset.max(1);
        }
        file.write_at(chunk, self.offset).map_err(at("write", file.path()))?;
        self.hasher.update(chunk);
        self.offset += chunk.len() as u64;
        Ok(())
    }
}

fn algorithm_of(hasher: &Hasher) -> Algorithm {
    match hasher {
        Hasher::Sha256(_) => Algorithm::Sha256,
        Hasher::Sha512(_) => Algorithm::Sha512,
    }
}

/// Hashes the first `length` bytes of a file; fewer are an error.
pub(crate) fn hash_prefix(file: &File, algorithm: Algorithm, length: u64) -> io::Result<Hasher> {
    hash_range(file, Hasher::new(algorithm), 0, length)
}

/// Goes on hashing with `length` bytes from `offset` on.
pub(crate) fn hash_range(file: &File, mut hasher: Hasher, offset: u64, length: u64) -> io::Result<Hasher> {
    let mut buffer = vec![0; READ.min(usize::try_from(length).unwrap_or(READ).max(1))];
    let (mut offset, end) = (offset, offset.saturating_add(length));
    while offset < end {
        let n = buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..n], offset)?;
        hasher.update(&buffer[..n]);
        offset += n as u64;
    }
    Ok(hasher)
}
