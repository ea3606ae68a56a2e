//! Reading blobs in bounded pieces.
//!
//! What the kernel has in its page cache is read on the asynchronous thread itself, without waiting; only what has to
//! come from the disk goes to a blocking thread.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use oci::Digest;
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;

use crate::buffers::{Buffer, Buffers, Streaming};
use crate::error::StoreError;

/// An open blob. It can be read to its end whatever happens to the blob in the meantime.
#[derive(Debug)]
pub struct BlobReader {
    pub(crate) file: Arc<File>,
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) buffers: Arc<Buffers>,
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

    /// The bytes of `range`, cut to the blob's length. The stream has to be polled inside a tokio runtime.
    pub fn stream(self, range: Range<u64>) -> BlobStream {
        BlobStream {
            position: range.start,
            end: range.end.min(self.size),
            streaming: Streaming::begin(&self.buffers),
            reader: self,
            reading: None,
        }
    }

    /// The whole blob in memory, refused when it is longer than `limit` bytes.
    pub async fn read_all(self, limit: u64) -> Result<Bytes, StoreError> {
        let (digest, size) = (self.digest, self.size);
        if size > limit {
            return Err(StoreError::SizeMismatch { digest, expected: limit, actual: size });
        }
        let mut all = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
        let mut stream = self.stream(0..size);
        while let Some(chunk) = stream.next().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all.freeze())
    }
}

/// A range of a blob as a stream of chunks, of 256 KiB at most. A read that fails ends it with an error.
#[derive(Debug)]
pub struct BlobStream {
    reader: BlobReader,
    position: u64,
    end: u64,
    streaming: Streaming,
    reading: Option<JoinHandle<(Buffer, io::Result<usize>)>>,
}

impl BlobStream {
    fn yielded(&mut self, buffer: Buffer, read: io::Result<usize>) -> Option<Result<Bytes, StoreError>> {
        let read = read.and_then(|n| if n == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(n) });
        match read {
            Ok(n) => {
                self.position += n as u64;
                Some(Ok(buffer.freeze(n)))
            }
            Err(e) => {
                self.position = self.end;
                Some(Err(StoreError::io("read", &self.reader.path, e)))
            }
        }
    }
}

impl Stream for BlobStream {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(reading) = &mut this.reading {
            let joined = ready!(Pin::new(reading).poll(cx));
            this.reading = None;
            return Poll::Ready(match joined {
                Ok((buffer, read)) => this.yielded(buffer, read),
                Err(_) => {
                    this.position = this.end;
                    Some(Err(StoreError::Stopped))
                }
            });
        }
        if this.position >= this.end {
            return Poll::Ready(None);
        }
        let mut buffer = this.streaming.buffer();
        let left = usize::try_from(this.end - this.position).unwrap_or(usize::MAX);
        let want = left.min(buffer.bytes().len());
        let offset = this.position;
        let cached = {
            let mut target = [IoSliceMut::new(&mut buffer.bytes()[..want])];
            rustix::io::preadv2(&this.reader.file, &mut target, offset, ReadWriteFlags::NOWAIT)
        };
        match cached {
            Ok(n) => Poll::Ready(this.yielded(buffer, Ok(n))),
            // Not in the page cache, or a file system that cannot tell: a blocking thread may wait for the disk.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => {
                let file = Arc::clone(&this.reader.file);
                let reading = tokio::task::spawn_blocking(move || {
                    let read = read_some(&file, &mut buffer.bytes()[..want], offset);
                    (buffer, read)
                });
                this.reading = Some(reading);
                Pin::new(this).poll_next(cx)
            }
            Err(e) => Poll::Ready(this.yielded(buffer, Err(e.into()))),
        }
    }
}

fn read_some(file: &File, target: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(target, offset) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
