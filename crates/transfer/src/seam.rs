//! Where content comes from, where it goes, and who decides that it may: the engine's three seams.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci::{Descriptor, Digest, PlatformFilter, RepositoryName, Tag};

use crate::blob::BlobFeed;
use crate::copy::CopyRequest;
use crate::error::{DestinationError, SourceError};
use crate::outcome::Outcome;

/// A manifest whose bytes have its digest.
#[derive(Clone, Debug)]
pub struct ManifestBytes {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The type to store it under; empty where nobody told.
    pub media_type: String,
    /// The bytes as they came.
    pub bytes: Bytes,
}

/// Where content comes from: one repository of an upstream registry, for example.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// For people: `https://harbor.example.com/library/nginx`.
    fn name(&self) -> &str;

    /// What a tag points at, at this moment.
    async fn resolve(&self, tag: &Tag) -> Result<Digest, SourceError>;

    /// A manifest; its bytes have the digest.
    async fn manifest(&self, digest: &Digest) -> Result<ManifestBytes, SourceError>;

    /// The bytes of a blob from `offset` on, which is below its size.
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn BlobRead>, SourceError>;

    /// What refers to the manifest. May name what does not: the engine looks at the subject.
    async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, SourceError>;

    /// Requests made so far for this source.
    fn requests(&self) -> u64;
}

/// The bytes of a blob as they arrive.
#[async_trait]
pub trait BlobRead: Send {
    /// The next piece; `None` at the end, which comes after exactly the blob's size.
    async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError>;
}

/// What a destination has of a manifest.
#[derive(Clone, Debug)]
pub struct Found {
    /// The manifest.
    pub manifest: ManifestBytes,
    /// Whether it is in the repository itself, and not only somewhere in the destination.
    pub present: bool,
    /// Whether everything below it that the platform filter selects is known to be there too.
    pub whole: bool,
}

/// Whether a destination holds a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It was there.
    Here,
    /// It was in another repository and is now in this one, without its bytes having moved.
    Linked,
    /// Its bytes are needed.
    No,
}

/// Keeps content of the destination from being collected while it lives.
pub type Hold = Box<dyn Any + Send + Sync>;

/// Why a blob did not arrive.
#[derive(Clone, Debug)]
pub enum ReceiveError {
    /// The source failed.
    Source(SourceError),
    /// The destination failed.
    Destination(DestinationError),
}

impl From<SourceError> for ReceiveError {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<DestinationError> for ReceiveError {
    fn from(error: DestinationError) -> Self {
        Self::Destination(error)
    }
}

/// Where content goes: the local store, or another registry.
#[async_trait]
pub trait Destination: Send + Sync + 'static {
    /// For people.
    fn name(&self) -> &str;

    /// Whether a blob that is in one repository serves all of them.
    fn shares_blobs(&self) -> bool;

    /// Keeps these from being collected while a copy is on its way.
    fn hold(&self, digests: &[Digest]) -> Hold;

    /// What is there of a manifest.
    async fn find(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        platforms: &PlatformFilter,
    ) -> Result<Option<Found>, DestinationError>;

    /// Whether the blob is there; one that another repository has is linked or mounted.
    async fn holds(&self, repository: &RepositoryName, blob: &Descriptor) -> Result<Held, DestinationError>;

    /// Takes the bytes of a blob from the feed, from where an earlier attempt ended, verifies and keeps them.
    async fn receive(&self, repository: &RepositoryName, feed: &Arc<BlobFeed>) -> Result<(), ReceiveError>;

    /// Stores a manifest of which everything below is there.
    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &ManifestBytes,
    ) -> Result<(), DestinationError>;

    /// Points a tag at a manifest that is there. `false` where it did already.
    async fn set_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        manifest: &ManifestBytes,
    ) -> Result<bool, DestinationError>;
}

/// What [`Admission`] decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The tags move.
    Admit,
    /// The content stays, the tags stay where they are; with the reason.
    Refuse(String),
}

/// The decision between "the graph is whole" and "the tags move".
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Whether the tags of the request may move to the graph that has arrived.
    async fn admit(&self, request: &CopyRequest, outcome: &Outcome) -> Verdict;
}

/// Admits everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdmitAll;

#[async_trait]
impl Admission for AdmitAll {
    async fn admit(&self, _request: &CopyRequest, _outcome: &Outcome) -> Verdict {
        Verdict::Admit
    }
}
