//! A repository of an upstream registry as a source.

use async_trait::async_trait;
use bytes::Bytes;
use oci::{Descriptor, Digest, Reference, RepositoryName, Tag};
use registry_client::{BlobBody, Client};

use crate::error::{SourceError, SourceErrorKind};
use crate::seam::{BlobRead, ManifestBytes, Source};

/// A repository of an upstream registry.
#[derive(Clone, Debug)]
pub struct RegistrySource {
    client: Client,
    repository: RepositoryName,
    name: String,
}

impl RegistrySource {
    /// A source of one repository. It counts its requests by itself, whoever else uses the client.
    pub fn new(client: &Client, repository: RepositoryName) -> Self {
        let name = format!("{}/{repository}", client.endpoint());
        Self { client: client.counted(), repository, name }
    }
}

#[async_trait]
impl Source for RegistrySource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn resolve(&self, tag: &Tag) -> Result<Digest, SourceError> {
        let reference = Reference::Tag(tag.clone());
        match self.client.head_manifest(&self.repository, &reference).await? {
            Some(head) => match head.digest {
                Some(digest) => Ok(digest),
                // Few registries keep the digest to themselves; their manifests tell it.
                None => Ok(self.client.manifest(&self.repository, &reference).await?.digest),
            },
            None => {
                Err(SourceError::new(SourceErrorKind::NotFound, format!("{} has no tag {tag}", self.name)))
            }
        }
    }

    async fn manifest(&self, digest: &Digest) -> Result<ManifestBytes, SourceError> {
        let fetched = self.client.manifest(&self.repository, &Reference::Digest(*digest)).await?;
        Ok(ManifestBytes { digest: fetched.digest, media_type: fetched.media_type, bytes: fetched.bytes })
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<Box<dyn BlobRead>, SourceError> {
        let mut body = self.client.blob(&self.repository, &blob.digest, offset).await?;
        // Here a wrong length is no cut that could be continued: the registry's blob is another one.
        body.expect_total(blob.size)
            .map_err(|error| SourceError::new(SourceErrorKind::Corrupt, error.to_string()))?;
        Ok(Box::new(body))
    }

    async fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        Ok(self.client.referrers(&self.repository, digest, None).await?.descriptors)
    }

    fn requests(&self) -> u64 {
        self.client.requests()
    }
}

#[async_trait]
impl BlobRead for BlobBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        Ok(BlobBody::chunk(self).await?)
    }
}
