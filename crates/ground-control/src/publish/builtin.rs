//! The built-in registry: the blob store that this process serves at `/v2/`.

use async_trait::async_trait;
use blob_store::{Completeness, PutManifest, Store, StoreError};
use bytes::Bytes;
use fleet_protocol::state;
use fleet_protocol::state_image::StateImage;
use oci::{Digest, RepositoryName, Tag};

use super::backend::{RegistryBackend, RegistryError, StateManifest};

/// How many manifests one look at a repository takes.
const LISTING: usize = 100;

/// Publishes into a local blob store.
#[derive(Debug, Clone)]
pub struct BuiltinRegistry {
    store: Store,
    tag: Tag,
}

impl BuiltinRegistry {
    /// Publishes into `store`.
    #[expect(clippy::expect_used, reason = "a constant that a test reads")]
    pub fn new(store: Store) -> Self {
        Self { store, tag: state::TAG.parse().expect("the tag of state documents is a tag") }
    }
}

fn failed(operation: &'static str, repository: &RepositoryName) -> impl Fn(StoreError) -> RegistryError {
    move |error| RegistryError { operation, repository: repository.to_string(), source: Box::new(error) }
}

#[async_trait]
impl RegistryBackend for BuiltinRegistry {
    async fn current(&self, repository: &RepositoryName) -> Result<Option<StateManifest>, RegistryError> {
        let digest =
            self.store.resolve_tag(repository, &self.tag).map_err(failed("look up the tag", repository))?;
        Ok(digest.map(|digest| StateManifest { digest }))
    }

    async fn publish(&self, repository: &RepositoryName, image: &StateImage) -> Result<(), RegistryError> {
        // Collection must not take a blob between its arrival and the manifest that names it.
        let _pin = self.store.pin([image.config_descriptor.digest, image.layer_descriptor.digest]);
        for (descriptor, bytes) in
            [(&image.config_descriptor, &image.config), (&image.layer_descriptor, &image.layer)]
        {
            self.store
                .put_blob(repository, &descriptor.digest, Bytes::copy_from_slice(bytes))
                .await
                .map_err(failed("write a blob", repository))?;
        }
        self.store
            .put_manifest(PutManifest {
                repository: repository.clone(),
                digest: image.digest,
                media_type: Some(image.media_type.to_owned()),
                bytes: Bytes::copy_from_slice(&image.manifest),
                tags: vec![self.tag.clone()],
                completeness: Completeness::VisibleHere,
            })
            .await
            .map_err(failed("write the manifest", repository))?;
        Ok(())
    }

    async fn remove(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), RegistryError> {
        if self.current(repository).await?.is_some_and(|current| current.digest == *digest) {
            return Ok(());
        }
        self.store
            .delete_manifest(repository, digest)
            .await
            .map(drop)
            .map_err(failed("remove a manifest", repository))
    }

    async fn clear(&self, repository: &RepositoryName) -> Result<(), RegistryError> {
        self.store.delete_tag(repository, &self.tag).await.map_err(failed("remove the tag", repository))?;
        loop {
            let page = self
                .store
                .manifests(repository, None, LISTING)
                .map_err(failed("list the manifests", repository))?;
            if page.items.is_empty() {
                return Ok(());
            }
            for entry in page.items {
                self.store
                    .delete_manifest(repository, &entry.digest)
                    .await
                    .map_err(failed("remove a manifest", repository))?;
            }
        }
    }
}
