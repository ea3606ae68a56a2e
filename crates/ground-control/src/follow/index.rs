//! What following needs of a registry.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use oci::{Descriptor, Digest, Manifest, Reference, RepositoryName, Tag};

use crate::publish::RegistryError;

/// A tag of a listing, with what the listing tells of it beside its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The tag.
    pub tag: Tag,
    /// What it points at, where the listing tells that.
    pub digest: Option<Digest>,
    /// When it was pushed, where the registry keeps that.
    pub pushed: Option<Timestamp>,
    /// When its image was made, where the listing tells that.
    pub created: Option<Timestamp>,
}

/// The contents of a registry, to be looked at and never changed.
///
/// An empty list, and a manifest that is not there, are no proof that somebody removed something: a registry answers so
/// for what it has lost, too.
#[async_trait]
pub trait ArtifactIndex: Send + Sync + std::fmt::Debug {
    /// All tags of a repository, each once; none where there is no such repository.
    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<Listed>, RegistryError>;

    /// The digest of the manifest that a tag or digest names; `None` where there is none.
    async fn resolve(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Digest>, RegistryError>;

    /// What a manifest names; `None` where it is not there.
    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Manifest>, RegistryError>;

    /// An image's config; `None` where it is not there or longer than `limit` bytes.
    async fn config(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Option<Bytes>, RegistryError>;

    /// The manifests that refer to this one (OCI Distribution 1.1, "Listing Referrers").
    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError>;
}
