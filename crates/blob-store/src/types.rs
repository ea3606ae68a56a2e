//! What goes into the store and comes out of it.

use bytes::Bytes;
use oci::{Digest, RepositoryName, Tag};

/// A manifest as it was put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// Digest of `bytes`, by the algorithm of the reference that was asked for.
    pub digest: Digest,
    /// Type to serve it with.
    pub media_type: String,
    /// The bytes as they came.
    pub bytes: Bytes,
}

/// A manifest to keep in a repository.
#[derive(Clone, Debug)]
pub struct PutManifest {
    /// Where it is to be seen.
    pub repository: RepositoryName,
    /// Digest of `bytes`; checked. Either algorithm.
    pub digest: Digest,
    /// `Content-Type` that came with it; `None` lets the document tell.
    pub media_type: Option<String>,
    /// The bytes, kept as they are.
    pub bytes: Bytes,
    /// Tags that point at it from the same moment on that it is visible. May be empty.
    pub tags: Vec<Tag>,
    /// What has to be there already.
    pub completeness: Completeness,
}

/// Which of the blobs that a manifest names have to be there before it is taken. Foreign layers never have to, and
/// an index may name children that are not there (a sparse index).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Visible in the manifest's own repository: for what a client pushes.
    VisibleHere,
    /// Anywhere in the store; naming makes them visible here. For content that was fetched by digest.
    HeldAnywhere,
}

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOutcome {
    /// Whether the repository did not have the manifest before.
    pub created: bool,
    /// Digest of the manifest that this one refers to (OCI distribution-spec, `OCI-Subject`).
    pub subject: Option<Digest>,
}

/// One page of a sorted list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// Whether there is something after it.
    pub more: bool,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { items: Vec::new(), more: false }
    }
}

/// A manifest in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// Its digest.
    pub digest: Digest,
    /// Its type.
    pub media_type: String,
    /// Length of the manifest itself in bytes.
    pub size: u64,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// Tags that point at it, sorted.
    pub tags: Vec<Tag>,
}

/// What the store holds; kept up to date with each write, so asking is cheap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all published content; shared content counts once.
    pub bytes: u64,
    /// Blobs and manifests published.
    pub contents: u64,
    /// Manifests, once for each repository that has them.
    pub manifests: u64,
    /// Tags of all repositories.
    pub tags: u64,
    /// Repositories with at least one manifest.
    pub repositories: u64,
}
