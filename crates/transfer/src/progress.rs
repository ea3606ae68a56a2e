//! How far one copy is, for whoever looks on while it runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use oci::Digest;

/// The blobs of a copy that are known so far. It grows as manifests are read; each blob counts once.
#[derive(Debug, Default)]
pub struct Progress(Mutex<BTreeMap<Digest, Blob>>);

#[derive(Clone, Copy, Debug)]
struct Blob {
    size: u64,
    here: bool,
}

impl Progress {
    /// Bytes that are here, and bytes of all blobs that are known so far. `position` tells how much has arrived of a blob
    /// that is on its way.
    pub fn bytes(&self, position: impl Fn(&Digest) -> Option<u64>) -> (u64, u64) {
        let blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.iter().fold((0, 0), |(here, total): (u64, u64), (digest, blob)| {
            let bytes = if blob.here { blob.size } else { position(digest).unwrap_or(0).min(blob.size) };
            (here.saturating_add(bytes), total.saturating_add(blob.size))
        })
    }

    /// A blob belongs to the copy.
    pub(crate) fn expect(&self, digest: Digest, size: u64) {
        let mut blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.entry(digest).or_insert(Blob { size, here: false });
    }

    /// It is here, or need not be.
    pub(crate) fn arrived(&self, digest: &Digest) {
        let mut blobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blob) = blobs.get_mut(digest) {
            blob.here = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_blob_counts_once_and_as_far_as_it_is_here() {
        let progress = Progress::default();
        assert_eq!(progress.bytes(|_| None), (0, 0));
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        for _ in 0..2 {
            progress.expect(one, 100);
        }
        progress.expect(two, 50);
        assert_eq!(progress.bytes(|digest| (*digest == two).then_some(20)), (20, 150));
        progress.arrived(&one);
        assert_eq!(progress.bytes(|_| Some(1000)), (150, 150), "never more than there is");
    }
}
