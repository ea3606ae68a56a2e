//! Where a read ends that finds nothing.
//!
//! Every GET and HEAD of a manifest or blob that is not here passes through this module and nothing else does. A
//! registry that fetches on demand replaces these answers by the outcome of a fetch; until then a miss is a 404,
//! which sends a container runtime on to its next mirror or to the upstream itself.

use axum::response::Response;
use oci::{Digest, Reference, RepositoryName};

use crate::error::RegistryError;
use crate::events::EventKind;
use crate::router::Asked;

/// A manifest that is not in the repository, or a repository that is not here.
pub(crate) fn manifest(
    asked: &Asked<'_>,
    repository: &RepositoryName,
    reference: &Reference,
) -> Result<Response, RegistryError> {
    let digest = match reference {
        Reference::Digest(digest) => Some(digest),
        Reference::Tag(_) => None,
    };
    asked.observe(EventKind::ManifestMissed, repository, reference, digest, 0);
    Err(RegistryError::manifest_unknown(repository.as_str(), &reference.to_string()))
}

/// A blob that is not here, or that this repository may not see.
pub(crate) fn blob(
    asked: &Asked<'_>,
    repository: &RepositoryName,
    digest: &Digest,
) -> Result<Response, RegistryError> {
    asked.observe(EventKind::BlobMissed, repository, &Reference::Digest(*digest), Some(digest), 0);
    Err(RegistryError::blob_unknown(repository.as_str(), digest))
}
