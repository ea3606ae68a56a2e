//! What never changes of a manifest, remembered by its digest: a look asks the registry for what may have changed.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use lru::LruCache;
use oci::{Digest, Manifest, RepositoryName, media_type};
use serde::Deserialize;

use super::index::ArtifactIndex;
use crate::publish::RegistryError;

/// How many manifests are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(19_999);
/// The longest config that is read for its time.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;

/// A manifest that another one names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) digest: Digest,
    /// Whether it may name further ones.
    pub(super) may_have_children: bool,
}

impl Child {
    pub(super) fn of(descriptor: &oci::Descriptor) -> Self {
        Self { digest: descriptor.digest, may_have_children: !media_type::is_image(&descriptor.media_type) }
    }
}

#[derive(Debug, Clone)]
struct Fact {
    children: Arc<[Child]>,
    config: Option<Digest>,
    /// Known once somebody asked.
    created: Option<Option<Timestamp>>,
}

/// What is known of manifests.
#[derive(Debug)]
pub(super) struct Facts(Mutex<LruCache<Digest, Fact>>);

impl Default for Facts {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }
}

#[derive(Deserialize)]
struct Config {
    created: Option<String>,
}

impl Facts {
    fn known(&self, digest: &Digest) -> Option<Fact> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn remember(&self, digest: Digest, fact: Fact) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(digest, fact);
    }

    async fn fact(
        &self,
        index: &dyn ArtifactIndex,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Fact>, RegistryError> {
        if let Some(fact) = self.known(digest) {
            return Ok(Some(fact));
        }
        let Some(Manifest { manifests, config, .. }) = index.manifest(repository, digest).await? else {
            return Ok(None);
        };
        let children = manifests.iter().map(Child::of).collect();
        let fact = Fact { children, config: config.map(|config| config.digest), created: None };
        self.remember(*digest, fact.clone());
        Ok(Some(fact))
    }

    /// The manifests that a manifest names; none where it is not there.
    pub(super) async fn children(
        &self,
        index: &dyn ArtifactIndex,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Arc<[Child]>, RegistryError> {
        Ok(self.fact(index, repository, digest).await?.map_or_else(|| Arc::from([]), |fact| fact.children))
    }

    /// When an image was made, by its config; an index is as old as the first of its images that tells it.
    pub(super) async fn created(
        &self,
        index: &dyn ArtifactIndex,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Timestamp>, RegistryError> {
        let Some(fact) = self.fact(index, repository, digest).await? else { return Ok(None) };
        if let Some(created) = fact.created {
            return Ok(created);
        }
        let mut created = None;
        if let Some(config) = &fact.config {
            created = time_of(index, repository, config).await?;
        } else {
            for child in fact.children.iter().filter(|child| !child.may_have_children) {
                let Some(image) = self.fact(index, repository, &child.digest).await? else { continue };
                let Some(config) = &image.config else { continue };
                created = time_of(index, repository, config).await?;
                if created.is_some() {
                    break;
                }
            }
        }
        self.remember(*digest, Fact { created: Some(created), ..fact });
        Ok(created)
    }
}

/// `created` of an image's config (OCI image-spec, config.md).
async fn time_of(
    index: &dyn ArtifactIndex,
    repository: &RepositoryName,
    config: &Digest,
) -> Result<Option<Timestamp>, RegistryError> {
    let Some(bytes) = index.config(repository, config, MAX_CONFIG).await? else { return Ok(None) };
    let created = serde_json::from_slice::<Config>(&bytes).ok().and_then(|config| config.created);
    Ok(created.and_then(|text| text.parse().ok()))
}
