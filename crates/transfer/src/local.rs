//! The local store as a destination.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use blob_store::{Completeness, Partial, PutManifest, Store, StoreError};
use oci::{Descriptor, Digest, PlatformFilter, Reference, RepositoryName, Tag};

use crate::blob::BlobFeed;
use crate::error::DestinationError;
use crate::seam::{Destination, Found, Held, Hold, ManifestBytes, ReceiveError};

/// A partial whose flight was just dropped is given this long to close its file.
const BUSY_STEP: Duration = Duration::from_millis(20);
const BUSY_STEPS: u32 = 250;

/// The local store.
#[derive(Clone, Debug)]
pub struct LocalDestination {
    store: Store,
    name: String,
}

impl LocalDestination {
    /// The store as a destination.
    pub fn new(store: Store) -> Self {
        let name = format!("the store at {}", store.root().display());
        Self { store, name }
    }

    async fn partial(&self, blob: &Descriptor) -> Result<Partial, StoreError> {
        for _ in 0..BUSY_STEPS {
            match self.store.partial(blob.digest, blob.size).await {
                Err(StoreError::PartialBusy { .. }) => tokio::time::sleep(BUSY_STEP).await,
                other => return other,
            }
        }
        self.store.partial(blob.digest, blob.size).await
    }
}

#[async_trait]
impl Destination for LocalDestination {
    fn name(&self) -> &str {
        &self.name
    }

    fn shares_blobs(&self) -> bool {
        true
    }

    fn hold(&self, digests: &[Digest]) -> Hold {
        Box::new(self.store.pin(digests.iter().copied()))
    }

    async fn find(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        platforms: &PlatformFilter,
    ) -> Result<Option<Found>, DestinationError> {
        let here = self.store.manifest(repository, &Reference::Digest(*digest))?;
        let visible = here.is_some();
        let stored = match here {
            Some(stored) => Some(stored),
            None => self.store.manifest_anywhere(digest)?,
        };
        let Some(stored) = stored else { return Ok(None) };
        let (mut present, mut whole) = (false, false);
        if visible {
            let state = self.store.wholeness(repository, digest).await?;
            // What is only in memory any more is written again.
            present = state.manifest;
            whole = state.is_whole() && !state.absent_children.iter().any(|child| platforms.selects(child));
        }
        let manifest = ManifestBytes { digest: *digest, media_type: stored.media_type, bytes: stored.bytes };
        Ok(Some(Found { manifest, present, whole }))
    }

    async fn holds(&self, _repository: &RepositoryName, blob: &Descriptor) -> Result<Held, DestinationError> {
        Ok(if self.store.has_blob_anywhere(&blob.digest)? { Held::Here } else { Held::No })
    }

    async fn receive(&self, _repository: &RepositoryName, feed: &Arc<BlobFeed>) -> Result<(), ReceiveError> {
        let mut first = true;
        loop {
            let mut partial = self.partial(feed.blob()).await.map_err(DestinationError::from)?;
            let mut stream = feed.open(partial.offset());
            loop {
                match stream.chunk().await {
                    Ok(Some(chunk)) => partial.write(chunk).await.map_err(DestinationError::from)?,
                    Ok(None) => break,
                    Err(error) => {
                        // It may be a while until the next try: what is here is made to last.
                        partial.checkpoint().await.map_err(DestinationError::from)?;
                        return Err(error.into());
                    }
                }
            }
            match partial.finish(None).await {
                Ok(()) => return Ok(()),
                // What was damaged on the way, or lay damaged on the disk, gets one fresh start.
                Err(StoreError::DigestMismatch { .. }) if first => {
                    first = false;
                    feed.mismatch();
                }
                Err(error) => return Err(DestinationError::from(error).into()),
            }
        }
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &ManifestBytes,
    ) -> Result<(), DestinationError> {
        self.store
            .put_manifest(PutManifest {
                repository: repository.clone(),
                digest: manifest.digest,
                media_type: Some(manifest.media_type.clone()).filter(|t| !t.is_empty()),
                bytes: manifest.bytes.clone(),
                tags: Vec::new(),
                completeness: Completeness::HeldAnywhere,
            })
            .await?;
        Ok(())
    }

    async fn set_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        manifest: &ManifestBytes,
    ) -> Result<bool, DestinationError> {
        if self.store.resolve_tag(repository, tag)? == Some(manifest.digest) {
            return Ok(false);
        }
        self.store.set_tag(repository, tag, &manifest.digest).await?;
        Ok(true)
    }
}
