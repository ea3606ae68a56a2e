//! Garbage collection: what nothing names goes after a grace.

use crate::error::StoreError;
use crate::store::Store;

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GarbageReport {
    /// Blobs removed.
    pub blobs: u64,
    /// Bytes of these blobs.
    pub bytes: u64,
    /// Upload sessions that were idle for too long.
    pub uploads: u64,
    /// Partial downloads that nobody asked for in a long time.
    pub partials: u64,
    /// Files that the index did not know, taken into account or removed.
    pub orphans: u64,
}

impl Store {
    /// Removes blobs that for the whole grace no manifest, link, upload or partial download has named; ends idle uploads
    /// and forgotten partials. Safe beside everything else; run it from time to time.
    pub async fn collect_garbage(&self) -> Result<GarbageReport, StoreError> {
        Err(StoreError::Stopped)
    }
}
