//! The local store, which the local registry serves.

use std::fmt;
use std::sync::Arc;

use blob_store::Store;
use oci::{Digest, PlatformFilter, Reference, RepositoryName};
use transfer::{LocalDestination, Observer};

use super::copying::Copying;
use super::facts::{self, Facts, KnownFacts};
use super::{Answer, Destination, Look, PlaceError, Pull, Pulling, Takes};
use crate::config::LocalNamespaces;
use crate::plan::{Artifact, Asked, Held, Node, Present, Removal};

/// Rows of a list read at once.
const PAGE: usize = 500;

/// The local store.
pub(super) struct LocalRegistry {
    store: Store,
    copying: Copying,
    facts: KnownFacts,
    /// What is in them is other people's.
    site: LocalNamespaces,
}

impl LocalRegistry {
    pub(super) fn new(store: &Store, observer: Arc<dyn Observer>, site: LocalNamespaces) -> Self {
        let copying = Copying::new(Arc::new(LocalDestination::new(store.clone())), observer);
        Self { store: store.clone(), copying, facts: KnownFacts::new(), site }
    }
}

impl fmt::Debug for LocalRegistry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("LocalRegistry").field(&self.store.root()).finish()
    }
}

impl Destination for LocalRegistry {
    /// There is one, and no record of what is ours in it is needed.
    fn name(&self) -> String {
        String::new()
    }

    fn takes(&self) -> Takes {
        Takes::Wanted
    }

    fn observe<'a>(&'a mut self, look: Look<'a>) -> Answer<'a, Present> {
        Box::pin(async move {
            let present =
                observe(&self.store, &mut self.facts, &self.site, look.asked, look.platforms).await?;
            facts::keep_only(&mut self.facts, &present);
            Ok(present)
        })
    }

    fn pull(&self, pull: Pull) -> Pulling {
        self.copying.pull(pull.artifact.repository.clone(), pull)
    }

    fn remove<'a>(&'a self, removal: &'a Removal) -> Answer<'a, bool> {
        Box::pin(async move {
            match removal {
                // The tag may have moved since the plan was made.
                Removal::Tag { repository, tag, digest } => {
                    if self.store.resolve_tag(repository, tag)? != Some(*digest) {
                        return Ok(false);
                    }
                    Ok(self.store.delete_tag(repository, tag).await?)
                }
                Removal::Manifest(artifact) => {
                    Ok(self.store.delete_manifest(&artifact.repository, &artifact.digest).await?)
                }
            }
        })
    }

    fn size(&self, artifact: &Artifact, held: &Held) -> u64 {
        facts::size(&self.facts, artifact, held)
    }
}

/// Everything in the store. An artifact that is asked for, or that a tag points at, is whole when each of its files has
/// the right size and no child is missing that the platform filter selects.
async fn observe(
    store: &Store,
    facts: &mut KnownFacts,
    site: &LocalNamespaces,
    asked: &Asked,
    platforms: &PlatformFilter,
) -> Result<Present, PlaceError> {
    let mut present = Present::default();
    let mut last: Option<RepositoryName> = None;
    loop {
        let page = store.repositories(last.as_ref().map(RepositoryName::as_str), PAGE)?;
        for repository in page.items.iter().filter(|repository| !site.holds(repository)) {
            let held = repository_of(store, facts, asked, platforms, repository).await?;
            present.repositories.insert(repository.clone(), held);
        }
        match page.items.into_iter().next_back().filter(|_| page.more) {
            Some(repository) => last = Some(repository),
            None => return Ok(present),
        }
    }
}

async fn repository_of(
    store: &Store,
    facts: &mut KnownFacts,
    asked: &Asked,
    platforms: &PlatformFilter,
    repository: &RepositoryName,
) -> Result<Held, PlaceError> {
    let mut held = Held::default();
    let mut last: Option<Digest> = None;
    loop {
        let page = store.manifests(repository, last.as_ref(), PAGE)?;
        for entry in &page.items {
            held.tags.extend(entry.tags.iter().map(|tag| (tag.clone(), entry.digest)));
            let artifact = Artifact { repository: repository.clone(), digest: entry.digest };
            let matters = !entry.tags.is_empty() || asked.artifacts.contains_key(&artifact);
            let platforms = asked.platforms(&artifact, &entry.tags, platforms);
            let whole = matters && is_whole(store, repository, &entry.digest, &platforms).await;
            let children =
                facts_of(store, facts, repository, &entry.digest).map(|facts| facts.children.clone());
            let children = children.unwrap_or_default();
            held.manifests.insert(entry.digest, Node { whole, children, subject: entry.subject });
        }
        // The same threads answer pulls.
        tokio::task::yield_now().await;
        match page.items.last().filter(|_| page.more) {
            Some(entry) => last = Some(entry.digest),
            None => return Ok(held),
        }
    }
}

/// What cannot be looked at is not whole: it is that artifact's trouble, and no other's.
async fn is_whole(
    store: &Store,
    repository: &RepositoryName,
    digest: &Digest,
    platforms: &PlatformFilter,
) -> bool {
    match store.wholeness(repository, digest).await {
        Ok(wholeness) => {
            wholeness.is_whole() && !wholeness.absent_children.iter().any(|child| platforms.selects(child))
        }
        Err(error) => {
            tracing::warn!(%repository, %digest, %error, "manifest cannot be looked at and counts as damaged");
            false
        }
    }
}

/// What a manifest says; read once. `None` where it cannot be read, until it can.
fn facts_of<'f>(
    store: &Store,
    facts: &'f mut KnownFacts,
    repository: &RepositoryName,
    digest: &Digest,
) -> Option<&'f Facts> {
    if !facts.contains_key(digest) {
        let manifest = store.manifest(repository, &Reference::Digest(*digest)).ok()??;
        facts.insert(*digest, Facts::read(&manifest.media_type, &manifest.bytes));
    }
    facts.get(digest)
}
