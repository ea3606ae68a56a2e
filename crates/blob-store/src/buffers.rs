//! Read buffers, used again and bounded: large ones while few streams run, small ones when there are many.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

const LARGE: usize = 256 << 10;
const SMALL: usize = 64 << 10;
/// Up to so many streams at once get large buffers.
const FEW_STREAMS: usize = 16;
/// Large buffers in use at most, whatever the number of streams.
const MAX_LARGE: usize = 32;
/// Free buffers that are kept, of each size: an idle store holds on to little.
const KEEP_LARGE: usize = 4;
const KEEP_SMALL: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Buffers {
    streams: AtomicUsize,
    large_in_use: AtomicUsize,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    large: Vec<Vec<u8>>,
    small: Vec<Vec<u8>>,
}

impl Buffers {
    fn take(self: &Arc<Self>) -> Buffer {
        let few = self.streams.load(Ordering::Relaxed) <= FEW_STREAMS;
        let large = few && self.large_in_use.fetch_add(1, Ordering::Relaxed) < MAX_LARGE;
        if few && !large {
            self.large_in_use.fetch_sub(1, Ordering::Relaxed);
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, size) = if large { (&mut free.large, LARGE) } else { (&mut free.small, SMALL) };
        let data = list.pop();
        drop(free);
        Buffer { data: data.unwrap_or_else(|| vec![0; size]), buffers: Arc::clone(self) }
    }
}

/// One stream, counted.
#[derive(Debug)]
pub(crate) struct Streaming(Arc<Buffers>);

impl Streaming {
    pub(crate) fn begin(buffers: &Arc<Buffers>) -> Self {
        buffers.streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(buffers))
    }

    pub(crate) fn buffer(&self) -> Buffer {
        self.0.take()
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A buffer on loan.
#[derive(Debug)]
pub(crate) struct Buffer {
    data: Vec<u8>,
    buffers: Arc<Buffers>,
}

impl Buffer {
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The first `n` bytes, without a copy; the buffer comes back when they are dropped.
    pub(crate) fn freeze(self, n: usize) -> Bytes {
        Bytes::from_owner(Frozen { buffer: self, n })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let large = data.len() == LARGE;
        if large {
            self.buffers.large_in_use.fetch_sub(1, Ordering::Relaxed);
        }
        let mut free = self.buffers.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, keep) = if large { (&mut free.large, KEEP_LARGE) } else { (&mut free.small, KEEP_SMALL) };
        if list.len() < keep {
            list.push(data);
        }
    }
}

struct Frozen {
    buffer: Buffer,
    n: usize,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.buffer.data[..self.n]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_streams_and_many_buffers_get_small_ones_and_little_is_kept() {
        let buffers = Arc::new(Buffers::default());
        let few = Streaming::begin(&buffers);
        let mut held: Vec<Buffer> = (0..MAX_LARGE + 10).map(|_| few.buffer()).collect();
        let large = held.iter_mut().filter(|b| b.data.len() == LARGE).count();
        assert_eq!(large, MAX_LARGE);
        held.clear();
        let many: Vec<Streaming> = (0..FEW_STREAMS).map(|_| Streaming::begin(&buffers)).collect();
        assert_eq!(few.buffer().data.len(), SMALL);
        drop(many);
        assert_eq!(few.buffer().data.len(), LARGE);
        let free = buffers.free.lock().unwrap();
        assert_eq!((free.large.len(), free.small.len()), (KEEP_LARGE, KEEP_SMALL));
    }
}
