//! What the registry tells the program around it.

use oci::{Digest, Reference, RepositoryName};

/// Told of every completed or missed piece of work. Called on the request's own task: return at once, and hand
/// anything slow to a bounded queue.
pub trait Observer: Send + Sync + 'static {
    /// One thing happened.
    fn observe(&self, event: &Event<'_>);
}

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What.
    pub kind: EventKind,
    /// In which repository.
    pub repository: &'a RepositoryName,
    /// The tag or digest that was asked for.
    pub reference: &'a Reference,
    /// The content's digest, where it is known (a miss by tag has none).
    pub digest: Option<&'a Digest>,
    /// Bytes of the manifest or blob that the answer promises or the request brought.
    pub bytes: u64,
    /// [`crate::Caller::name`] of who asked.
    pub caller: &'a str,
}

/// The kinds of [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A manifest was served in answer to a GET.
    ManifestPulled,
    /// A blob, or a range of it, began to be served in answer to a GET.
    BlobPulled,
    /// A manifest that is not here was asked for.
    ManifestMissed,
    /// A blob that is not here, or not visible in this repository, was asked for.
    BlobMissed,
    /// A manifest was stored, with the tags of the request.
    ManifestPushed,
    /// A blob was stored.
    BlobPushed,
    /// A blob of another repository was made visible in this one.
    BlobMounted,
    /// A manifest and all its tags were deleted.
    ManifestDeleted,
    /// A tag was deleted; its manifest stays.
    TagDeleted,
    /// A blob was taken out of this repository.
    BlobDeleted,
}
