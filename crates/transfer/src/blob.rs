//! The bytes of one blob as a stream that outlives the connections that it comes over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use oci::Descriptor;
use registry_client::RetryPolicy;

use crate::error::{SourceError, SourceErrorKind};
use crate::event::{Event, Observer};
use crate::seam::{BlobRead, Source};

/// A connection that brought this many bytes before it broke counts as progress: the failures before it are
/// forgotten. Less than this, again and again, is a source that does not work.
const PROGRESS: u64 = 64 << 10;
/// Progress is told in steps of so many bytes.
const EVENT_STEP: u64 = 4 << 20;
/// How often a source that ignores ranges may send a blob from its beginning within one transfer.
const MAX_RESTARTS: u32 = 3;

/// A blob and where its bytes come from. A destination opens it at the first byte that it lacks.
pub struct BlobFeed {
    source: Arc<dyn Source>,
    blob: Descriptor,
    retry: RetryPolicy,
    observer: Arc<dyn Observer>,
    fetched: AtomicU64,
}

impl BlobFeed {
    pub(crate) fn new(
        source: Arc<dyn Source>,
        blob: Descriptor,
        retry: RetryPolicy,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        Arc::new(Self { source, blob, retry, observer, fetched: AtomicU64::new(0) })
    }

    /// The blob.
    pub fn blob(&self) -> &Descriptor {
        &self.blob
    }

    /// Bytes that came from the source so far, those that came twice counted twice.
    pub fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    /// The bytes from `offset` on. Nothing is asked for before the first chunk is.
    pub fn open(self: &Arc<Self>, offset: u64) -> BlobStream {
        self.observer.observe(&Event::BlobStarted { digest: self.blob.digest, size: self.blob.size, offset });
        BlobStream {
            feed: self.clone(),
            body: None,
            position: offset,
            skip: 0,
            failures: 0,
            restarts: 0,
            failed_at: offset,
            told_at: offset,
        }
    }

    /// Tells that the bytes were not those of the digest.
    pub fn mismatch(&self) {
        self.observer.observe(&Event::Mismatch { digest: self.blob.digest });
    }

    /// Whether, and after how long, to try again after this many failures of the destination.
    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.retry
    }
}

/// The bytes of a blob, continued over broken connections.
pub struct BlobStream {
    feed: Arc<BlobFeed>,
    body: Option<Box<dyn BlobRead>>,
    /// The first byte that was not handed out.
    position: u64,
    /// Bytes still to be thrown away, of a source that ignores ranges.
    skip: u64,
    failures: u32,
    restarts: u32,
    failed_at: u64,
    told_at: u64,
}

impl BlobStream {
    /// The next piece; `None` when the blob's size is reached. A connection that breaks is replaced by one
    /// for the rest, with backoff, until it does not get on any more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            if self.position >= self.feed.blob.size {
                return self.end().await.map(|()| None);
            }
            let body = match &mut self.body {
                Some(body) => body,
                None => {
                    let opened = self.connect().await?;
                    self.body.insert(opened)
                }
            };
            match body.chunk().await {
                Ok(Some(chunk)) => {
                    if let Some(chunk) = self.take(chunk)? {
                        return Ok(Some(chunk));
                    }
                }
                Ok(None) => {
                    let text = format!(
                        "the source ended the blob at byte {} of {}",
                        self.position, self.feed.blob.size
                    );
                    self.broken(SourceError::new(SourceErrorKind::Temporary, text)).await?;
                }
                Err(error) => self.broken(error).await?,
            }
        }
    }

    /// Counts a piece and cuts off what was handed out before; `None` where that is all of it.
    fn take(&mut self, mut chunk: Bytes) -> Result<Option<Bytes>, SourceError> {
        let feed = &self.feed;
        feed.fetched.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if self.skip > 0 {
            let skipped = self.skip.min(chunk.len() as u64);
            self.skip -= skipped;
            chunk = chunk.slice(usize::try_from(skipped).unwrap_or(usize::MAX).min(chunk.len())..);
            if chunk.is_empty() {
                return Ok(None);
            }
        }
        let size = feed.blob.size;
        if self.position + chunk.len() as u64 > size {
            let text = format!("the source sends more than the {size} bytes of {}", feed.blob.digest);
            return Err(SourceError::new(SourceErrorKind::Corrupt, text));
        }
        self.position += chunk.len() as u64;
        if self.position - self.told_at >= EVENT_STEP || self.position == size {
            self.told_at = self.position;
            let event = Event::BlobProgress { digest: feed.blob.digest, size, position: self.position };
            feed.observer.observe(&event);
        }
        Ok(Some(chunk))
    }

    /// Sees to it that the source agrees that this is the end.
    async fn end(&mut self) -> Result<(), SourceError> {
        let Some(mut body) = self.body.take() else { return Ok(()) };
        match body.chunk().await {
            Ok(Some(_)) => {
                let (size, digest) = (self.feed.blob.size, self.feed.blob.digest);
                let text = format!("the source sends more than the {size} bytes of {digest}");
                Err(SourceError::new(SourceErrorKind::Corrupt, text))
            }
            Err(error) if error.kind == SourceErrorKind::Corrupt => Err(error),
            // All bytes are here; that the connection broke behind them is of no interest.
            Ok(None) | Err(_) => Ok(()),
        }
    }

    async fn connect(&mut self) -> Result<Box<dyn BlobRead>, SourceError> {
        let feed = &self.feed;
        let digest = feed.blob.digest;
        match feed.source.blob(&feed.blob, self.position).await {
            Ok(body) => {
                if self.position > 0 {
                    feed.observer.observe(&Event::Resumed { digest, position: self.position });
                }
                Ok(body)
            }
            Err(error) if error.kind == SourceErrorKind::NoRanges && self.restarts < MAX_RESTARTS => {
                self.restarts += 1;
                self.skip = self.position;
                feed.observer.observe(&Event::RangeIgnored { digest, skipped: self.position });
                feed.source.blob(&feed.blob, 0).await
            }
            Err(error) => Err(error),
        }
    }

    /// Waits before the next connection, or gives up.
    async fn broken(&mut self, error: SourceError) -> Result<(), SourceError> {
        self.body = None;
        if !error.is_retryable() {
            return Err(error);
        }
        if self.position - self.failed_at >= PROGRESS {
            self.failures = 0;
        }
        self.failed_at = self.position;
        self.skip = 0;
        self.failures += 1;
        let Some(delay) = self.feed.retry.delay(self.failures, error.retry_after) else { return Err(error) };
        self.feed.observer.observe(&Event::Retrying {
            digest: self.feed.blob.digest,
            position: self.position,
            failures: self.failures,
            delay,
            error: error.text,
        });
        tokio::time::sleep(delay).await;
        Ok(())
    }
}
