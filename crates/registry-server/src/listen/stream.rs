//! A connection's bytes under limits of time.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

const IDLE: u8 = 0;
const BUSY: u8 = 1;

/// Whether a request is being worked on, shared between the bytes below hyper and the service above it.
///
/// hyper has one timer for both an idle keep-alive and a half-sent head. A client that polls every ten seconds must
/// not lose its connection to the limit that is meant for heads sent byte by byte, so the two are told apart here:
/// bytes that come in while nothing is being worked on begin a head, which has to be complete within its limit.
#[derive(Debug, Default)]
pub(super) struct Activity {
    state: AtomicU8,
    /// Whether bytes of an answer wait for the peer to read.
    blocked: AtomicBool,
}

impl Activity {
    /// A head is complete and its request is being worked on.
    pub(super) fn requested(&self) {
        self.state.store(BUSY, Ordering::Release);
    }

    /// The answer has been sent.
    pub(super) fn answered(&self) {
        self.state.store(IDLE, Ordering::Release);
    }

    fn is_busy(&self) -> bool {
        self.state.load(Ordering::Acquire) == BUSY
    }

    /// Whether the peer has yet to read what is written.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }
}

/// A stream that fails when a request head takes too long or when its peer stops reading.
pub(super) struct Limited<S> {
    inner: S,
    /// `None` on HTTP/2, where heads are frames among others.
    head: Option<(Arc<Activity>, Duration)>,
    write_limit: Duration,
    head_deadline: Option<Pin<Box<Sleep>>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    /// What is read before anything else.
    replay: VecDeque<u8>,
}

impl<S> Limited<S> {
    pub(super) fn new(inner: S, head: Option<(Arc<Activity>, Duration)>, write_limit: Duration) -> Self {
        // The bytes that woke this connection may already be the beginning of a head, but a connection on which
        // nothing ever comes is ended by hyper's own, longer limit.
        Limited {
            inner,
            head,
            write_limit,
            head_deadline: None,
            write_deadline: None,
            replay: VecDeque::new(),
        }
    }

    /// Has these bytes read before all others.
    pub(super) fn replay_first(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().rev() {
            self.replay.push_front(*byte);
        }
    }

    /// Has these bytes, which were read already, read once more before what comes.
    pub(super) fn replay_last(&mut self, bytes: &[u8]) {
        self.replay.extend(bytes);
    }

    /// Whether there are bytes to be read once more.
    pub(super) fn has_replay(&self) -> bool {
        !self.replay.is_empty()
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Some((activity, _)) = &self.head {
            activity.blocked.store(progress.is_pending(), Ordering::Release);
        }
        if progress.is_ready() {
            self.write_deadline = None;
            return progress;
        }
        let limit = self.write_limit;
        let sleep = self.write_deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the peer stopped reading the answer",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.replay.is_empty() {
            let length = this.replay.len().min(buf.remaining());
            this.replay.drain(..length).for_each(|byte| buf.put_slice(&[byte]));
            if this.replay.is_empty() {
                this.replay = VecDeque::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        let Some((activity, limit)) = &this.head else { return read };
        if activity.is_busy() {
            this.head_deadline = None;
            return read;
        }
        if read.is_ready() {
            if buf.filled().len() > before && this.head_deadline.is_none() {
                this.head_deadline = Some(Box::pin(tokio::time::sleep(*limit)));
            }
            return read;
        }
        match this.head_deadline.as_mut().map(|sleep| sleep.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the head of a request did not end in time",
            ))),
            _ => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let progress = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.written(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let progress = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.written(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let progress = Pin::new(&mut this.inner).poll_flush(cx).map_ok(|()| 0);
        this.written(cx, progress).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let progress = Pin::new(&mut this.inner).poll_shutdown(cx).map_ok(|()| 0);
        this.written(cx, progress).map_ok(|_| ())
    }
}
