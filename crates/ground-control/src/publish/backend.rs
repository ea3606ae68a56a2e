//! What the publisher needs of a registry.

use async_trait::async_trait;
use fleet_protocol::state_image::StateImage;
use jiff::SignedDuration;
use oci::{Digest, RepositoryName};

use crate::domain::StoreResult;
use crate::domain::document::Claimed;

/// A manifest that a repository of state documents holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateManifest {
    /// Its digest.
    pub digest: Digest,
}

/// Why the registry did not do what it was asked; the publisher tries again later whatever it was.
#[derive(Debug, thiserror::Error)]
#[error("{operation} in {repository}")]
pub struct RegistryError {
    /// What was being done.
    pub operation: &'static str,
    /// In which repository.
    pub repository: String,
    /// What went wrong.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a document may have to wait for, beside the documents that it names.
#[async_trait]
pub trait Gate: Send + Sync + std::fmt::Debug {
    /// For how long the document is put off; `None` where it is its turn.
    ///
    /// # Errors
    /// Where the database fails.
    async fn postponed(&self, claimed: &Claimed) -> StoreResult<Option<SignedDuration>>;
}

/// A registry that state documents are published to: the built-in one, or any other. It is one half of
/// [`CentralRegistry`](crate::central::CentralRegistry); the other hands out its accounts.
#[async_trait]
pub trait RegistryBackend: Send + Sync + std::fmt::Debug {
    /// The manifest that the tag of state documents points at in `repository`; `None` where there is none.
    async fn current(&self, repository: &RepositoryName) -> Result<Option<StateManifest>, RegistryError>;

    /// Makes `image` whole in `repository` and then points the tag at it. Repeating it changes nothing.
    async fn publish(&self, repository: &RepositoryName, image: &StateImage) -> Result<(), RegistryError>;

    /// Removes one manifest, unless the tag points at it; one that is gone is no error.
    async fn remove(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), RegistryError>;

    /// Removes the tag and every manifest of `repository`; an empty one is no error.
    async fn clear(&self, repository: &RepositoryName) -> Result<(), RegistryError>;
}
