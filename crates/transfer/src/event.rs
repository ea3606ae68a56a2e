//! What happens during transfers, as one typed stream for logs, status and progress.

use std::time::Duration;

use oci::{Digest, RepositoryName, Tag};

/// One thing that happened. Cheap to make and to clone.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A graph is about to be copied.
    CopyStarted {
        /// Destination repository.
        repository: RepositoryName,
        /// The graph's root.
        digest: Digest,
    },
    /// The first request for a blob is about to be made.
    BlobStarted {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Bytes of it that an earlier attempt left.
        offset: u64,
    },
    /// So much of a blob is here; told every few megabytes.
    BlobProgress {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Bytes of it that are here.
        position: u64,
    },
    /// A blob is whole, verified and kept.
    BlobDone {
        /// The blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Bytes that came from the source this time.
        fetched: u64,
        /// How long it took.
        duration: Duration,
    },
    /// A blob was in another repository of the destination, and is in this one now.
    BlobLinked {
        /// The blob.
        digest: Digest,
        /// Destination repository.
        repository: RepositoryName,
    },
    /// A blob did not arrive; what has arrived of it is kept where it can be.
    BlobFailed {
        /// The blob.
        digest: Digest,
        /// Why.
        error: String,
    },
    /// Nobody waits for a blob any more, or the engine stops; what has arrived of it is kept.
    BlobStopped {
        /// The blob.
        digest: Digest,
    },
    /// A transfer was cut and is about to be continued.
    Retrying {
        /// The blob.
        digest: Digest,
        /// The first byte that is missing.
        position: u64,
        /// How often in a row it was cut without getting on.
        failures: u32,
        /// How long is waited.
        delay: Duration,
        /// What cut it.
        error: String,
    },
    /// A transfer goes on from a byte other than the first.
    Resumed {
        /// The blob.
        digest: Digest,
        /// The first byte that was asked for.
        position: u64,
    },
    /// The source ignores ranges: all is asked for, what is here already is skipped.
    RangeIgnored {
        /// The blob.
        digest: Digest,
        /// Bytes that come a second time.
        skipped: u64,
    },
    /// The bytes were not those of the digest; they were thrown away.
    Mismatch {
        /// The blob.
        digest: Digest,
    },
    /// A layer that registries need not hold is not in the source, and is left out.
    ForeignLayerSkipped {
        /// The layer.
        digest: Digest,
    },
    /// A manifest is stored: everything below it is there.
    ManifestStored {
        /// Destination repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// A listed referrer was left out: gone, or referring to something else.
    ReferrerSkipped {
        /// The referrer.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// A tag points at a new manifest.
    TagMoved {
        /// Destination repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// What it points at now.
        digest: Digest,
    },
    /// A graph is whole.
    CopyDone {
        /// Destination repository.
        repository: RepositoryName,
        /// The graph's root.
        digest: Digest,
        /// Bytes that came from the source.
        fetched: u64,
        /// How long it took.
        duration: Duration,
    },
    /// A graph could not be copied.
    CopyFailed {
        /// Destination repository.
        repository: RepositoryName,
        /// The graph's root.
        digest: Digest,
        /// Why.
        error: String,
    },
}

/// Is told every [`Event`], on the task where it happens: it must neither block nor take long.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync + 'static> Observer for F {
    fn observe(&self, event: &Event) {
        self(event);
    }
}

/// Hears nothing.
pub(crate) struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event) {}
}
