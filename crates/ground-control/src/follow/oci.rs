//! Another registry's contents, by OCI Distribution alone.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use oci::{Descriptor, Digest, Manifest, Reference, RepositoryName};

use super::index::{ArtifactIndex, Listed};
use crate::publish::{Failure, OciRegistry, RegistryError};

#[async_trait]
impl ArtifactIndex for OciRegistry {
    /// The listing tells names alone; a repository that is not there is 404 here, which is an empty list.
    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<Listed>, RegistryError> {
        let work = async {
            match self.client().tags(repository).await {
                Err(error) if error.is_not_found() => Ok(Vec::new()),
                listed => Ok(listed?),
            }
        };
        let mut tags = self.during("list the tags", repository, work).await?;
        // A list that grows while it is read may show a tag on two pages.
        tags.sort();
        tags.dedup();
        Ok(tags.into_iter().map(|tag| Listed { tag, digest: None, pushed: None, created: None }).collect())
    }

    async fn resolve(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Digest>, RegistryError> {
        self.during("look for a manifest", repository, self.digest_of(repository, reference)).await
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Manifest>, RegistryError> {
        let work = async {
            match self.client().manifest(repository, &Reference::Digest(*digest)).await {
                Ok(found) => Manifest::parse(Some(&found.media_type), &found.bytes)
                    .map(Some)
                    .map_err(Failure::Manifest),
                Err(error) if error.is_not_found() => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        self.during("read a manifest", repository, work).await
    }

    async fn config(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Option<Bytes>, RegistryError> {
        let work = async {
            let mut body = match self.client().blob(repository, digest, 0).await {
                Ok(body) => body,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let mut bytes = BytesMut::new();
            while let Some(chunk) = body.chunk().await? {
                if (bytes.len() + chunk.len()) as u64 > limit {
                    return Ok(None);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(Some(bytes.freeze()))
        };
        self.during("read an image's config", repository, work).await
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let work = async { Ok(self.client().referrers(repository, subject, None).await?.descriptors) };
        self.during("list the referrers", repository, work).await
    }
}
