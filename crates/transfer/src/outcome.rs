//! What a copy did, in numbers.

use std::time::Duration;

use oci::Digest;

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The graph's root.
    pub digest: Option<Digest>,
    /// Bytes of blobs and manifests that came from the source for this copy.
    pub bytes_fetched: u64,
    /// Bytes of blobs and manifests that were in the destination already. A graph that was known whole from
    /// the start is not looked into, and counts only its manifests.
    pub bytes_here: u64,
    /// Bytes of blobs that another copy fetched at the same time.
    pub bytes_shared: u64,
    /// Requests to the source.
    pub requests: u64,
    /// Blobs that came from the source for this copy.
    pub blobs_fetched: u64,
    /// Blobs that were in the repository.
    pub blobs_here: u64,
    /// Blobs that were in another repository of the destination, or that another copy fetched.
    pub blobs_linked: u64,
    /// Layers that registries need not hold, and the source does not.
    pub layers_skipped: u64,
    /// Manifests that came from the source.
    pub manifests_fetched: u64,
    /// Manifests that were in the destination.
    pub manifests_here: u64,
    /// Children of indexes that the platform filter left out.
    pub children_skipped: u64,
    /// Referrers that are in the destination now, at any depth.
    pub referrers: u64,
    /// Referrers that were listed and left out: gone, or referring to something else.
    pub referrers_skipped: u64,
    /// Tags that moved.
    pub tags_moved: u64,
    /// Whether the graph was whole in the destination before.
    pub was_whole: bool,
    /// How long it took.
    pub duration: Duration,
}

impl Outcome {
    /// Whether anything in the destination changed.
    pub fn changed(&self) -> bool {
        self.bytes_fetched > 0 || self.blobs_linked > 0 || self.manifests_fetched > 0 || self.tags_moved > 0
    }
}
