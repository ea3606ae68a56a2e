//! What goes into a plan, and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};

use oci::{Digest, Platform, PlatformFilter, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

/// One entry of a group's list, with its names checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The group that lists it.
    pub group: String,
    /// The registry that it comes from (`https://host[:port]`).
    pub registry: String,
    /// The repository, with its project path; the same at the destination.
    pub repository: RepositoryName,
    /// Tags that shall point at it; none is legal where there is a digest.
    pub tags: BTreeSet<Tag>,
    /// What it is. Absent: whatever the tag means upstream.
    pub digest: Option<Digest>,
    /// It must not be here.
    pub deleted: bool,
    /// Only these platforms of an index; whatever the site takes where there is none.
    pub platforms: Vec<Platform>,
    /// Stands for what refers to it, as Ground Control found it last; absent where nobody looked.
    pub referrers: Option<Digest>,
}

/// The platforms of an index that somebody wants: those of all entries that want it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platforms(Option<BTreeSet<Platform>>);

impl Platforms {
    /// Another one wants it, for these platforms; for all that the site takes where there is none.
    pub fn add(&mut self, platforms: &[Platform]) {
        match &mut self.0 {
            Some(known) if known.is_empty() => {}
            Some(known) if platforms.is_empty() => known.clear(),
            Some(known) => known.extend(platforms.iter().cloned()),
            None => self.0 = Some(platforms.iter().cloned().collect()),
        }
    }

    /// Adds what others want.
    pub fn merge(&mut self, other: &Self) {
        if let Some(platforms) = &other.0 {
            self.add(&platforms.iter().cloned().collect::<Vec<_>>());
        }
    }

    /// What is taken of an index where the site takes `site`.
    #[must_use]
    pub fn within(&self, site: &PlatformFilter) -> PlatformFilter {
        site.narrowed(self.0.iter().flatten().cloned())
    }
}

/// One manifest in one repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Artifact {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifest.
    pub digest: Digest,
}

/// A tag whose meaning has to be asked upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenTag {
    /// The registry to ask.
    pub registry: String,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
}

/// What the destination holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// By repository.
    pub repositories: BTreeMap<RepositoryName, Held>,
}

/// What the destination holds in one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Where the tags point.
    pub tags: BTreeMap<Tag, Digest>,
    /// The manifests.
    pub manifests: BTreeMap<Digest, Node>,
}

/// One manifest at the destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// It and everything below it that is meant to be here is there.
    #[serde(skip)]
    pub whole: bool,
    /// Manifests that it lists (an index).
    pub children: Vec<Digest>,
    /// The manifest that it refers to (a signature, an attestation).
    pub subject: Option<Digest>,
}

/// What a plan has to know of a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Artifacts whose wholeness matters, for these platforms.
    pub artifacts: BTreeMap<Artifact, Platforms>,
    /// Tags whose place matters, and what they point at.
    pub tags: BTreeMap<RepositoryName, BTreeMap<Tag, Platforms>>,
}

impl Asked {
    /// What of an index makes it whole: what is wanted of it by itself and by the `tags` that point at it.
    pub fn platforms<'t>(
        &self,
        artifact: &Artifact,
        tags: impl IntoIterator<Item = &'t Tag>,
        site: &PlatformFilter,
    ) -> PlatformFilter {
        if let Some(platforms) = self.artifacts.get(artifact) {
            return platforms.within(site);
        }
        let mut platforms = Platforms::default();
        let claimed = self.tags.get(&artifact.repository);
        for wanted in tags.into_iter().filter_map(|tag| claimed.and_then(|claimed| claimed.get(tag))) {
            platforms.merge(wanted);
        }
        platforms.within(site)
    }
}

/// What may be removed.
#[derive(Debug, Clone, Copy)]
pub enum Ownership<'a> {
    /// Everything: the local store holds nothing but replicated content.
    Everything,
    /// What was recorded as brought by us: the registry also holds other people's content.
    Recorded(&'a Ours),
}

/// The record of what this satellite brought into a registry that is not its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ours {
    /// By repository.
    pub repositories: BTreeMap<RepositoryName, OursIn>,
}

/// What this satellite brought into one repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OursIn {
    /// Tags, and where we made them point, or were about to. A tag that points elsewhere by now is somebody else's.
    pub tags: BTreeMap<Tag, BTreeSet<Digest>>,
    /// Manifests, with what they name, so that a removal needs no walk through the registry.
    pub manifests: BTreeMap<Digest, Node>,
}

/// Everything that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// What the groups ask for.
    pub entries: &'a [Entry],
    /// All of the desired state is known. Otherwise nothing is removed.
    pub complete: bool,
    /// What the open tags mean upstream; one that is missing could not be resolved.
    pub resolved: &'a BTreeMap<OpenTag, Digest>,
    /// What the destination holds.
    pub present: &'a Present,
    /// Manifests that have arrived for artifacts that are not whole yet; what they are a part of is not known here.
    pub arriving: &'a BTreeMap<RepositoryName, BTreeSet<Digest>>,
    /// Repositories with downloads under way: no manifest is removed there for now.
    pub busy: &'a BTreeSet<RepositoryName>,
    /// Repositories in which nothing is removed, since an entry about them makes no sense.
    pub protected: &'a BTreeSet<RepositoryName>,
    /// What may be removed.
    pub ownership: Ownership<'a>,
    /// Artifacts that failed and whose time has not come.
    pub waiting: &'a BTreeSet<Artifact>,
    /// Whole artifacts whose referrers shall be looked at again.
    pub refresh: &'a BTreeSet<Artifact>,
}

/// What has to be done. `make` first; `remove` only from a plan that was computed after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to bring here, each independent of the others.
    pub make: Vec<Make>,
    /// What to remove, in this order: a repository's tags before its manifests, an index before its children.
    pub remove: Vec<Removal>,
    /// Tags for which groups ask two digests.
    pub conflicts: Vec<Conflict>,
    /// Removals that wait because the desired state is not completely known.
    pub held_back: usize,
    /// Every artifact that is wanted, with who wants it and where it comes from.
    pub wanted: BTreeMap<Artifact, Want>,
}

/// Who wants an artifact, and where it can be had.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Want {
    /// Registries that have it, the first named first.
    pub registries: Vec<String>,
    /// The groups.
    pub groups: BTreeSet<String>,
    /// Tags that shall point at it.
    pub tags: BTreeSet<Tag>,
    /// For which platforms.
    pub platforms: Platforms,
    /// What stands for its referrers, by each entry that says so.
    pub referrers: BTreeSet<Digest>,
}

/// Bring one artifact here, then point tags at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Make {
    /// What.
    pub artifact: Artifact,
    /// Where it can be had, in order.
    pub registries: Vec<String>,
    /// What has to be fetched before the tags may move.
    pub fetch: Fetch,
    /// Tags to point at it, only once it is whole.
    pub tags: Vec<Tag>,
    /// What of an index is fetched.
    pub platforms: Platforms,
    /// What stands for its referrers.
    pub referrers: BTreeSet<Digest>,
}

/// Why something is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// It is not whole here.
    Graph,
    /// It is whole; only its referrers are looked at again.
    Referrers,
    /// It is whole; only tags move.
    Nothing,
}

/// Remove one name or one manifest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Removal {
    /// A tag that nobody wants.
    Tag {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// Where it pointed when the plan was made; if it has moved since, it stays.
        digest: Digest,
    },
    /// A manifest that nobody wants and no tag points at.
    Manifest(Artifact),
}

impl Removal {
    /// Where it is.
    #[must_use]
    pub fn repository(&self) -> &RepositoryName {
        match self {
            Self::Tag { repository, .. } => repository,
            Self::Manifest(artifact) => &artifact.repository,
        }
    }
}

impl std::fmt::Display for Removal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag { repository, tag, .. } => write!(formatter, "removal of {repository}:{tag}"),
            Self::Manifest(artifact) => {
                write!(formatter, "removal of {}@{}", artifact.repository, artifact.digest)
            }
        }
    }
}

/// A tag for which groups ask two digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// Where the tag stays, if it is set.
    pub kept: Option<Digest>,
    /// What is asked for, and by which groups.
    pub claims: BTreeMap<Digest, BTreeSet<String>>,
}
