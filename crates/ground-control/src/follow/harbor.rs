//! Harbor's contents: its own interface lists tags with all that is known of them, the rest is OCI Distribution.

use async_trait::async_trait;
use bytes::Bytes;
use oci::{Descriptor, Digest, Manifest, Reference, RepositoryName};

use super::index::{ArtifactIndex, Listed};
use crate::central::HarborRegistry;
use crate::publish::RegistryError;

#[async_trait]
impl ArtifactIndex for HarborRegistry {
    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<Listed>, RegistryError> {
        const OPERATION: &str = "list the artifacts";
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| RegistryError {
            operation: OPERATION,
            repository: repository.to_string(),
            source,
        };
        let client = self.login().client().await.map_err(|error| failed(Box::new(error)))?;
        let artifacts = match client.artifacts(repository).await {
            Ok(artifacts) => artifacts,
            // A robot that may pull need not have the right to list artifacts; names without times are better than nothing.
            Err(error) if error.is_forbidden() => {
                return ArtifactIndex::tags(self.distribution(), repository).await;
            }
            Err(error) => return Err(failed(Box::new(error))),
        };
        let mut listed = Vec::new();
        for artifact in artifacts {
            let created = artifact.created();
            for tag in artifact.tags {
                // A tag that moves while pages are read may stand on two of them; what it points at is asked for later.
                let Ok(name) = tag.name.parse() else { continue };
                listed.push(Listed {
                    tag: name,
                    digest: Some(artifact.digest),
                    pushed: tag.push_time.or(artifact.push_time),
                    created,
                });
            }
        }
        listed.sort_by(|a: &Listed, b| (&a.tag, b.pushed).cmp(&(&b.tag, a.pushed)));
        listed.dedup_by(|later, first| later.tag == first.tag);
        Ok(listed)
    }

    async fn resolve(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Digest>, RegistryError> {
        self.distribution().resolve(repository, reference).await
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Manifest>, RegistryError> {
        ArtifactIndex::manifest(self.distribution(), repository, digest).await
    }

    async fn config(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Option<Bytes>, RegistryError> {
        self.distribution().config(repository, digest, limit).await
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        ArtifactIndex::referrers(self.distribution(), repository, subject).await
    }
}
