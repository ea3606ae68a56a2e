//! Looking at the local store.

use std::collections::HashMap;

use blob_store::Store;
use oci::{Digest, PlatformFilter, Reference, RepositoryName};

use super::{Facts, PlaceError};
use crate::plan::{Artifact, Asked, Held, Node, Present};

/// Rows of a list read at once.
const PAGE: usize = 500;

/// Everything in the store. An artifact that is asked for, or that a tag points at, is whole when each of its files has
/// the right size and no child is missing that the platform filter selects.
pub(super) async fn observe(
    store: &Store,
    facts: &mut HashMap<Digest, Facts>,
    asked: &Asked,
    platforms: &PlatformFilter,
) -> Result<Present, PlaceError> {
    let mut present = Present::default();
    let mut last: Option<RepositoryName> = None;
    loop {
        let page = store.repositories(last.as_ref().map(RepositoryName::as_str), PAGE)?;
        for repository in &page.items {
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
    facts: &mut HashMap<Digest, Facts>,
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
    facts: &'f mut HashMap<Digest, Facts>,
    repository: &RepositoryName,
    digest: &Digest,
) -> Option<&'f Facts> {
    if !facts.contains_key(digest) {
        let manifest = store.manifest(repository, &Reference::Digest(*digest)).ok()??;
        facts.insert(*digest, Facts::read(&manifest.media_type, &manifest.bytes));
    }
    facts.get(digest)
}
