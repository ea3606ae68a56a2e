//! Looking at and removing from a registry of the site's own, which also holds other people's content.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _};
use oci::{Digest, Manifest, PlatformFilter, Reference, RepositoryName, Tag};
use registry_client::{Client, ClientOptions, Credentials, Endpoint, ErrorKind, fallback_tag};
use secrecy::ExposeSecret as _;
use transfer::{Observer, RemoteDestination};

use super::copying::Copying;
use super::facts::{self, Facts, KnownFacts};
use super::{Answer, Destination, Graph, Look, PlaceError, Pull, Pulling, Takes};
use crate::config::{ByoRegistry, Effective};
use crate::plan::{Artifact, Held, Node, Present, Removal};

/// Requests at once.
const CONCURRENCY: usize = 8;
/// The most tags of one repository that are looked at before something is removed from it.
const MAX_TAGS: usize = 10_000;
/// The most manifests of one graph.
const MAX_GRAPH: usize = 4096;

/// A registry of the site's own.
pub(super) struct SiteRegistry {
    /// Its address with the prefix, as the configuration has it.
    name: String,
    client: Client,
    copying: Copying,
    facts: KnownFacts,
    /// Goes before each repository's name; empty or ending in a slash.
    prefix: String,
    /// When an artifact was last looked at thoroughly and found whole, for these platforms.
    checked: HashMap<Artifact, (Instant, PlatformFilter)>,
}

impl From<registry_client::Error> for PlaceError {
    fn from(error: registry_client::Error) -> Self {
        let unsupported = match error.kind() {
            ErrorKind::Refused { status, code, .. } => {
                matches!(status, 405 | 501) || code.as_deref() == Some("UNSUPPORTED")
            }
            ErrorKind::Unavailable { status, .. } => *status == 501,
            _ => false,
        };
        Self { text: error.to_string(), unsupported }
    }
}

impl SiteRegistry {
    pub(super) fn new(
        site: &ByoRegistry,
        config: &Effective,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, PlaceError> {
        let mut root = site.url.clone();
        let prefix = root.path().trim_matches('/').to_owned();
        root.set_path("/");
        let endpoint = Endpoint::from_url(root).map_err(|error| PlaceError::new(error.to_string()))?;
        if !prefix.is_empty() && prefix.parse::<RepositoryName>().is_err() {
            return Err(PlaceError::new(format!(
                "the path {prefix:?} of the site's registry is no prefix of a repository"
            )));
        }
        let credentials = match site.username.as_str() {
            "" => Credentials::Anonymous,
            username => Credentials::basic(username, site.password.expose_secret()),
        };
        let options = ClientOptions { credentials, ..crate::desired::client_options(config) };
        let client = Client::new(endpoint, options)?;
        let prefix = if prefix.is_empty() { prefix } else { format!("{prefix}/") };
        let copying = Copying::new(Arc::new(RemoteDestination::new(client.clone())), observer);
        let name = site.url.to_string();
        Ok(Self { name, client, copying, facts: KnownFacts::new(), prefix, checked: HashMap::new() })
    }
}

impl fmt::Debug for SiteRegistry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SiteRegistry").field(&self.name).finish()
    }
}

impl Destination for SiteRegistry {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn takes(&self) -> Takes {
        Takes::Wanted
    }

    fn holds_only_ours(&self) -> bool {
        false
    }

    fn repository(&self, repository: &RepositoryName) -> RepositoryName {
        if self.prefix.is_empty() {
            return repository.clone();
        }
        // Too long for a name: the name as it is, which the registry refuses or takes; it is never another one's.
        format!("{}{repository}", self.prefix).parse().unwrap_or_else(|_| repository.clone())
    }

    fn observe<'a>(&'a mut self, look: Look<'a>) -> Answer<'a, Present> {
        Box::pin(async move {
            let mut facts = std::mem::take(&mut self.facts);
            let present = self.look(&mut facts, look).await;
            self.facts = facts;
            let present = present?;
            facts::keep_only(&mut self.facts, &present);
            Ok(present)
        })
    }

    fn observe_all_tags<'a>(&'a self, repository: &'a RepositoryName, held: &'a mut Held) -> Answer<'a, ()> {
        Box::pin(self.all_tags(repository, held))
    }

    fn pull(&self, pull: Pull) -> Pulling {
        self.copying.pull(self.repository(&pull.artifact.repository), pull)
    }

    fn remove<'a>(&'a self, removal: &'a Removal) -> Answer<'a, bool> {
        Box::pin(async move {
            match removal {
                Removal::Tag { repository, tag, digest } => {
                    let reference = Reference::Tag(tag.clone());
                    if self.digest(repository, &reference).await? != Some(*digest) {
                        return Ok(false);
                    }
                    Ok(self.client.delete_manifest(&self.repository(repository), &reference).await?)
                }
                Removal::Manifest(artifact) => {
                    let repository = self.repository(&artifact.repository);
                    Ok(self.client.delete_manifest(&repository, &Reference::Digest(artifact.digest)).await?)
                }
            }
        })
    }

    fn size(&self, artifact: &Artifact, held: &Held) -> u64 {
        facts::size(&self.facts, artifact, held)
    }

    fn graph<'a>(&'a self, artifact: &'a Artifact) -> Answer<'a, Graph> {
        Box::pin(self.walk(artifact))
    }
}

impl SiteRegistry {
    async fn look(&mut self, facts: &mut KnownFacts, look: Look<'_>) -> Result<Present, PlaceError> {
        let Look { asked, ours, platforms, recheck, naming: _ } = look;
        let mut present = Present::default();
        for (repository, ours) in &ours.repositories {
            let held = present.repositories.entry(repository.clone()).or_default();
            held.manifests.extend(ours.manifests.iter().map(|(digest, node)| (*digest, node.clone())));
        }
        let mut tags: BTreeMap<(RepositoryName, Tag), ()> = BTreeMap::new();
        for (repository, list) in &asked.tags {
            tags.extend(list.keys().map(|tag| ((repository.clone(), tag.clone()), ())));
        }
        for (repository, ours) in &ours.repositories {
            tags.extend(ours.tags.keys().map(|tag| ((repository.clone(), tag.clone()), ())));
        }
        let placed: Vec<(RepositoryName, Tag, Option<Digest>)> = futures_util::stream::iter(tags.into_keys())
            .map(async |(repository, tag)| {
                let digest = self.digest(&repository, &Reference::Tag(tag.clone())).await?;
                Ok::<_, PlaceError>((repository, tag, digest))
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        for (repository, tag, digest) in placed {
            if let Some(digest) = digest {
                let held = present.repositories.entry(repository).or_default();
                held.tags.insert(tag, digest);
                held.manifests.entry(digest).or_default();
            }
        }

        let now = Instant::now();
        let mut looked_at: BTreeSet<Artifact> = asked.artifacts.keys().cloned().collect();
        for (repository, list) in &asked.tags {
            let held = present.repositories.get(repository);
            let digests = list.keys().filter_map(|tag| held.and_then(|held| held.tags.get(tag)));
            looked_at
                .extend(digests.map(|digest| Artifact { repository: repository.clone(), digest: *digest }));
        }
        for artifact in &looked_at {
            let held = present.repositories.get(&artifact.repository);
            let pointing = held.into_iter().flat_map(|held| &held.tags);
            let pointing: Vec<&Tag> =
                pointing.filter(|(_, digest)| **digest == artifact.digest).map(|(tag, _)| tag).collect();
            let tagged = !pointing.is_empty();
            let platforms = asked.platforms(artifact, pointing, platforms);
            let fresh = self
                .checked
                .get(artifact)
                .is_some_and(|(at, known)| now.duration_since(*at) < recheck && *known == platforms);
            let whole = match (fresh, tagged) {
                (true, true) => true,
                (true, false) => {
                    self.digest(&artifact.repository, &Reference::Digest(artifact.digest)).await?.is_some()
                }
                (false, _) => self.is_whole(facts, artifact, &platforms).await?,
            };
            if whole {
                if !fresh {
                    self.checked.insert(artifact.clone(), (now, platforms));
                }
                let held = present.repositories.entry(artifact.repository.clone()).or_default();
                let node = held.manifests.entry(artifact.digest).or_default();
                node.whole = true;
                if let Some(facts) = facts.get(&artifact.digest) {
                    node.children.clone_from(&facts.children);
                    node.subject = facts.subject;
                    for child in &facts.children {
                        held.manifests.entry(*child).or_default();
                    }
                }
            } else {
                self.checked.remove(artifact);
                if let Some(held) = present.repositories.get_mut(&artifact.repository)
                    && !tagged
                {
                    held.manifests.remove(&artifact.digest);
                }
            }
        }
        self.checked.retain(|artifact, _| looked_at.contains(artifact));
        Ok(present)
    }

    /// Every manifest below it is there. Blobs are the registry's own care: it took the manifests only with them.
    async fn is_whole(
        &self,
        facts: &mut KnownFacts,
        artifact: &Artifact,
        platforms: &PlatformFilter,
    ) -> Result<bool, PlaceError> {
        let repository = self.repository(&artifact.repository);
        let mut queue = vec![artifact.digest];
        let mut seen = BTreeSet::new();
        while let Some(digest) = queue.pop() {
            if !seen.insert(digest) || seen.len() > MAX_GRAPH {
                continue;
            }
            let fetched = match self.client.manifest(&repository, &Reference::Digest(digest)).await {
                Ok(fetched) => fetched,
                Err(error) if error.is_not_found() => return Ok(false),
                Err(error) if matches!(error.kind(), ErrorKind::DigestMismatch { .. }) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            let media_type = Some(fetched.media_type.as_str()).filter(|media_type| !media_type.is_empty());
            if let Ok(manifest) = Manifest::parse(media_type, &fetched.bytes) {
                queue.extend(
                    manifest
                        .manifests
                        .iter()
                        .filter(|child| platforms.selects(child))
                        .map(|child| child.digest),
                );
            }
            facts.insert(digest, Facts::read(&fetched.media_type, &fetched.bytes));
        }
        Ok(true)
    }

    async fn digest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Digest>, PlaceError> {
        let repository = self.repository(repository);
        let Some(head) = self.client.head_manifest(&repository, reference).await? else { return Ok(None) };
        match (head.digest, reference) {
            (Some(digest), _) => Ok(Some(digest)),
            (None, Reference::Digest(digest)) => Ok(Some(*digest)),
            (None, Reference::Tag(_)) => Ok(Some(self.client.manifest(&repository, reference).await?.digest)),
        }
    }

    async fn all_tags(&self, repository: &RepositoryName, held: &mut Held) -> Result<(), PlaceError> {
        let tags = match self.client.tags(&self.repository(repository)).await {
            Ok(tags) => tags,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if tags.len() > MAX_TAGS {
            return Err(PlaceError::new(format!(
                "{repository} at {} has more than {MAX_TAGS} tags; what the satellite brought there is not removed, since \
                 somebody's tag may point at it",
                self.client.endpoint()
            )));
        }
        let unknown: Vec<Tag> = tags.into_iter().filter(|tag| !held.tags.contains_key(tag)).collect();
        let placed: Vec<(Tag, Option<Digest>)> = futures_util::stream::iter(unknown)
            .map(async |tag| {
                let digest = self.digest(repository, &Reference::Tag(tag.clone())).await?;
                Ok::<_, PlaceError>((tag, digest))
            })
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        held.tags.extend(placed.into_iter().filter_map(|(tag, digest)| Some((tag, digest?))));
        Ok(())
    }

    async fn walk(&self, artifact: &Artifact) -> Result<Graph, PlaceError> {
        let repository = self.repository(&artifact.repository);
        let mut nodes = BTreeMap::new();
        let mut tags = BTreeMap::new();
        let mut queue = vec![artifact.digest];
        while let Some(digest) = queue.pop() {
            if nodes.contains_key(&digest) || nodes.len() >= MAX_GRAPH {
                continue;
            }
            let fetched = match self.client.manifest(&repository, &Reference::Digest(digest)).await {
                Ok(fetched) => fetched,
                // A platform that was left out.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let facts = Facts::read(&fetched.media_type, &fetched.bytes);
            queue.extend(facts.children.iter().copied());
            nodes.insert(digest, Node { whole: true, children: facts.children, subject: facts.subject });
            let referrers = self.client.referrers(&repository, &digest, None).await?.descriptors;
            if referrers.is_empty() {
                continue;
            }
            queue.extend(referrers.iter().map(|referrer| referrer.digest));
            if let Some(tag) = fallback_tag(&digest)
                && let Some(list) = self.digest(&artifact.repository, &Reference::Tag(tag.clone())).await?
            {
                tags.insert(tag, list);
                queue.push(list);
            }
        }
        Ok((nodes, tags))
    }
}
