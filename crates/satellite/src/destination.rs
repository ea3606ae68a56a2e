//! Where artifacts go: the local store, or a registry of the site's own.
//!
//! The fetch engine knows a destination only as a place to put things. A reconcile also has to look at it and to remove
//! from it; that is here. Which of the two it is is decided at one place, [`Place::open`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use oci::{Digest, Manifest, PlatformFilter, RepositoryName, Tag};
use transfer::{Destination, LocalDestination, RemoteDestination};

use crate::config::Effective;
use crate::plan::{Artifact, Asked, Held, Node, Ours, Present, Removal};

mod local;
mod registry;

use registry::SiteRegistry;

/// Why the destination could not be looked at or changed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct PlaceError {
    /// What failed, on what, and why.
    pub text: String,
    /// The destination cannot do this at all (a registry that does not delete).
    pub unsupported: bool,
}

impl PlaceError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), unsupported: false }
    }
}

impl From<blob_store::StoreError> for PlaceError {
    fn from(error: blob_store::StoreError) -> Self {
        Self::new(format!("the local store: {error}"))
    }
}

/// What a manifest says, as far as a reconcile needs it. It never changes for a digest.
#[derive(Debug, Clone, Default)]
struct Facts {
    children: Vec<Digest>,
    subject: Option<Digest>,
    /// Bytes of the manifest and of its blobs.
    size: u64,
}

impl Facts {
    fn read(media_type: &str, bytes: &[u8]) -> Self {
        let media_type = Some(media_type).filter(|media_type| !media_type.is_empty());
        let own = bytes.len() as u64;
        match Manifest::parse(media_type, bytes) {
            Ok(manifest) => Self {
                children: manifest.manifests.iter().map(|child| child.digest).collect(),
                subject: manifest.subject.as_ref().map(|subject| subject.digest),
                size: manifest.blobs().map(|blob| blob.size).fold(own, u64::saturating_add),
            },
            Err(_) => Self { size: own, ..Self::default() },
        }
    }
}

/// The destination of a reconcile.
pub struct Place {
    kind: Kind,
    transfer: Arc<dyn Destination>,
    facts: HashMap<Digest, Facts>,
}

enum Kind {
    Local(blob_store::Store),
    Registry(SiteRegistry),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Place").field(&self.transfer.name()).finish()
    }
}

impl Place {
    /// The registry of the site's own if the configuration names one, else the local store.
    ///
    /// # Errors
    /// [`PlaceError`] for a registry address that cannot be used.
    pub fn open(config: &Effective, store: &blob_store::Store) -> Result<Self, PlaceError> {
        match &config.byo_registry {
            None if config.byo_wanted => Err(PlaceError::new(
                "a registry of the site's own is asked for and not named: set REGISTRY_URL",
            )),
            None => Ok(Self {
                transfer: Arc::new(LocalDestination::new(store.clone())),
                kind: Kind::Local(store.clone()),
                facts: HashMap::new(),
            }),
            Some(site) => {
                let registry = SiteRegistry::new(site, config)?;
                Ok(Self {
                    transfer: Arc::new(RemoteDestination::new(registry.client().clone())),
                    kind: Kind::Registry(registry),
                    facts: HashMap::new(),
                })
            }
        }
    }

    /// The destination as the fetch engine knows it.
    #[must_use]
    pub fn transfer(&self) -> Arc<dyn Destination> {
        self.transfer.clone()
    }

    /// Whether everything in it is ours.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self.kind, Kind::Local(_))
    }

    /// The repository's name at the destination.
    #[must_use]
    pub fn repository(&self, repository: &RepositoryName) -> RepositoryName {
        match &self.kind {
            Kind::Local(_) => repository.clone(),
            Kind::Registry(registry) => registry.repository(repository),
        }
    }

    /// Looks at what is there. `recheck` is how old the last thorough look at an artifact in a registry may be; the
    /// local store is looked at thoroughly every time.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn observe(
        &mut self,
        asked: &Asked,
        ours: &Ours,
        platforms: &PlatformFilter,
        recheck: Duration,
    ) -> Result<Present, PlaceError> {
        let present = match &mut self.kind {
            Kind::Local(store) => local::observe(store, &mut self.facts, asked, platforms).await?,
            Kind::Registry(registry) => {
                registry.observe(&mut self.facts, asked, ours, platforms, recheck).await?
            }
        };
        let known: BTreeSet<&Digest> =
            present.repositories.values().flat_map(|held| held.manifests.keys()).collect();
        self.facts.retain(|digest, _| known.contains(digest));
        Ok(present)
    }

    /// Adds every tag of a repository to what was observed of it: before something is removed from a registry that also
    /// holds other people's content, their tags have to be known.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn observe_all_tags(
        &self,
        repository: &RepositoryName,
        held: &mut Held,
    ) -> Result<(), PlaceError> {
        match &self.kind {
            Kind::Local(_) => Ok(()),
            Kind::Registry(registry) => registry.observe_all_tags(repository, held).await,
        }
    }

    /// Removes a tag or a manifest. `false` where there was nothing (any more).
    ///
    /// # Errors
    /// [`PlaceError`]; `unsupported` where the registry does not remove such things.
    pub async fn remove(&self, removal: &Removal) -> Result<bool, PlaceError> {
        match &self.kind {
            Kind::Local(store) => match removal {
                // The tag may have moved since the plan was made.
                Removal::Tag { repository, tag, digest } => {
                    if store.resolve_tag(repository, tag)? != Some(*digest) {
                        return Ok(false);
                    }
                    Ok(store.delete_tag(repository, tag).await?)
                }
                Removal::Manifest(artifact) => {
                    Ok(store.delete_manifest(&artifact.repository, &artifact.digest).await?)
                }
            },
            Kind::Registry(registry) => registry.remove(removal).await,
        }
    }

    /// Bytes of an artifact: its manifests and blobs, as far as they are here; what it shares with others counts too.
    pub fn size(&self, artifact: &Artifact, held: &Held) -> u64 {
        let mut seen = BTreeSet::new();
        let mut queue = vec![artifact.digest];
        let mut size = 0_u64;
        while let Some(digest) = queue.pop() {
            if !seen.insert(digest) || !held.manifests.contains_key(&digest) {
                continue;
            }
            if let Some(facts) = self.facts.get(&digest) {
                size = size.saturating_add(facts.size);
                queue.extend(facts.children.iter().copied());
            }
        }
        size
    }

    /// What a graph in a registry consists of, for the record of what is ours: its manifests with what they name, and
    /// the tags under which clients keep lists of referrers.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn graph(
        &self,
        artifact: &Artifact,
    ) -> Result<(BTreeMap<Digest, Node>, BTreeMap<Tag, Digest>), PlaceError> {
        match &self.kind {
            Kind::Local(_) => Ok((BTreeMap::new(), BTreeMap::new())),
            Kind::Registry(registry) => registry.graph(artifact).await,
        }
    }
}
