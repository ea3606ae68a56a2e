//! Reading blobs in bounded pieces.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use oci::Digest;

use crate::error::StoreError;

/// An open blob. It can be read to its end whatever happens to the blob in the meantime.
#[derive(Debug)]
pub struct BlobReader {
    digest: Digest,
    size: u64,
}

impl BlobReader {
    /// The blob's digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The blob's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of `range`, cut to the blob's length.
    pub fn stream(self, _range: Range<u64>) -> BlobStream {
        BlobStream {}
    }

    /// The whole blob in memory, refused when it is longer than `limit` bytes.
    pub async fn read_all(self, _limit: u64) -> Result<Bytes, StoreError> {
        Err(StoreError::Stopped)
    }
}

/// A range of a blob as a stream of chunks, of 256 KiB at most. A read that fails ends it with an error.
#[derive(Debug)]
pub struct BlobStream {}

impl Stream for BlobStream {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
