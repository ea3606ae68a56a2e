//! The built-in registry's contents: the blob store that this process serves.

use async_trait::async_trait;
use blob_store::{Store, StoreError};
use bytes::Bytes;
use oci::{Descriptor, Digest, Manifest, Reference, RepositoryName};

use super::index::{ArtifactIndex, Listed};
use crate::publish::RegistryError;

/// How many tags one look at the store takes.
const LISTING: usize = 1000;

/// Looks into a local blob store.
#[derive(Debug, Clone)]
pub struct BuiltinIndex {
    store: Store,
}

impl BuiltinIndex {
    /// Looks into `store`.
    pub fn new(store: Store) -> Self {
        Self { store }
    }
}

fn failed(operation: &'static str, repository: &RepositoryName) -> impl Fn(StoreError) -> RegistryError {
    move |error| RegistryError { operation, repository: repository.to_string(), source: Box::new(error) }
}

#[async_trait]
impl ArtifactIndex for BuiltinIndex {
    async fn tags(&self, repository: &RepositoryName) -> Result<Vec<Listed>, RegistryError> {
        let mut tags = Vec::new();
        let mut last: Option<String> = None;
        loop {
            let page = self.store.tags(repository, last.as_deref(), LISTING);
            let page = page.map_err(failed("list the tags", repository))?;
            last = page.items.last().map(ToString::to_string);
            let listed = |tag| Listed { tag, digest: None, pushed: None, created: None };
            tags.extend(page.items.into_iter().map(listed));
            if !page.more || last.is_none() {
                return Ok(tags);
            }
        }
    }

    async fn resolve(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Digest>, RegistryError> {
        let failed = failed("look for a manifest", repository);
        match reference {
            Reference::Tag(tag) => self.store.resolve_tag(repository, tag).map_err(failed),
            Reference::Digest(digest) => {
                Ok(self.store.manifest(repository, reference).map_err(failed)?.map(|_| *digest))
            }
        }
    }

    async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Manifest>, RegistryError> {
        let stored = self.store.manifest(repository, &Reference::Digest(*digest));
        let Some(stored) = stored.map_err(failed("read a manifest", repository))? else { return Ok(None) };
        Manifest::parse(Some(&stored.media_type), &stored.bytes).map(Some).map_err(|error| RegistryError {
            operation: "read a manifest",
            repository: repository.to_string(),
            source: Box::new(error),
        })
    }

    async fn config(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Option<Bytes>, RegistryError> {
        let failed = failed("read an image's config", repository);
        match self.store.blob(repository, digest).map_err(&failed)? {
            Some(blob) if blob.size() <= limit => Ok(Some(blob.read_all(limit).await.map_err(failed)?)),
            _ => Ok(None),
        }
    }

    async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        self.store.referrers(repository, subject).map_err(failed("list the referrers", repository))
    }
}
