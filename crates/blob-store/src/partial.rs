//! Downloads that continue where they were cut.

use bytes::Bytes;
use oci::{Digest, RepositoryName};

use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// Opens the partial download of `digest`, with what an earlier run has left of it; that prefix is read and hashed
    /// here. There is one writer per digest: [`StoreError::PartialBusy`] for a second.
    pub async fn partial(&self, digest: Digest, size: u64) -> Result<Partial, StoreError> {
        let _ = (digest, size);
        Err(StoreError::Stopped)
    }
}

/// A download on its way to the disk. Dropped, it keeps its bytes for the next time.
#[derive(Debug)]
pub struct Partial {
    offset: u64,
    size: u64,
    digest: Digest,
}

impl Partial {
    /// The blob.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first byte that is not here yet.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends at [`Partial::offset`]. Returns when the bytes are accepted; back-pressure is by waiting. More bytes than
    /// the size are refused with [`StoreError::SizeMismatch`].
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let _ = bytes;
        Err(StoreError::Stopped)
    }

    /// Makes what is here survive a power cut. Done from time to time by [`Partial::write`] too, beside the stream.
    pub async fn checkpoint(&mut self) -> Result<(), StoreError> {
        Err(StoreError::Stopped)
    }

    /// Verifies size and digest and publishes the blob; with `link` it is visible there from then on, else where a
    /// manifest names it. A mismatch discards the bytes; too few bytes keep them.
    pub async fn finish(self, link: Option<&RepositoryName>) -> Result<(), StoreError> {
        let _ = link;
        Err(StoreError::Stopped)
    }

    /// Throws the bytes away.
    pub async fn discard(self) -> Result<(), StoreError> {
        Err(StoreError::Stopped)
    }
}
