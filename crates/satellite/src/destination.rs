//! Where artifacts go: the local registry, a registry of the site's own, an image folder, the nodes of a cluster.
//!
//! All of them are a [`Destination`]. It says *when* it takes something and *where* from ([`Takes`]), and knows *how* to
//! pull it, to look at what it holds, and to remove it again. What has to be done is never its decision: that is the plan's
//! ([`crate::plan`]), computed in the same way for each of them from what is wanted and from what it says that it holds.
//!
//! The reconcile works on the first destination of a site, [`open`], which takes from the central registry. What is whole
//! there is offered to the further ones by [`crate::delivery`], in the same terms.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use oci::{Digest, PlatformFilter, RepositoryName, Tag};
use transfer::{Cause, CopyError, Observer, Outcome, Progress, Source, SourceErrorKind};

use crate::config::Effective;
use crate::names::{ImageName, Naming};
use crate::plan::{Artifact, Asked, Fetch, Held, Node, Ours, Present, Removal};

mod copying;
mod facts;
mod local;
mod registry;

use local::LocalRegistry;
use registry::SiteRegistry;

/// Why a destination could not be looked at or changed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct PlaceError {
    /// What failed, on what, and why.
    pub text: String,
    /// The destination cannot do this at all (a registry that does not delete).
    pub unsupported: bool,
}

impl PlaceError {
    /// One that may be another time.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), unsupported: false }
    }
}

impl From<blob_store::StoreError> for PlaceError {
    fn from(error: blob_store::StoreError) -> Self {
        Self::new(format!("the local store: {error}"))
    }
}

/// Why a pull failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PullError {
    /// What failed and why; which artifact it is stands beside it.
    pub reason: String,
    /// It may pass by itself.
    pub temporary: bool,
    /// How long the other side asks us to wait.
    pub retry_after: Option<Duration>,
    /// The registry did not let us.
    pub denied: bool,
}

impl PullError {
    /// One of which nothing more is known.
    pub fn new(reason: impl Into<String>, temporary: bool) -> Self {
        Self { reason: reason.into(), temporary, retry_after: None, denied: false }
    }
}

impl From<CopyError> for PullError {
    fn from(error: CopyError) -> Self {
        let denied = matches!(&*error.cause, Cause::Source(source) if source.kind == SourceErrorKind::Denied);
        let reason = format!("{}: {}", error.part, error.cause);
        Self { temporary: error.is_retryable(), retry_after: error.retry_after(), reason, denied }
    }
}

/// When a destination takes an artifact, and where from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// As soon as a group wants it, from the central registry.
    Wanted,
    /// As soon as it is whole in the local registry, from there. Nothing is fetched a second time.
    Whole,
}

/// What a destination is asked to look at.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The artifacts and tags that are wanted.
    pub asked: &'a Asked,
    /// What the record says that we brought there; empty where the destination keeps a record of its own.
    pub ours: &'a Ours,
    /// Platforms that the site takes.
    pub platforms: &'a PlatformFilter,
    /// How old the last thorough look at an artifact may be, where one is costly.
    pub recheck: Duration,
    /// The names under which runtimes know what is wanted.
    pub naming: &'a Naming,
}

/// One artifact to bring to a destination, or tags of it.
pub struct Pull {
    /// What.
    pub artifact: Artifact,
    /// Tags to point at it when it is whole; none keeps it by digest.
    pub tags: Vec<Tag>,
    /// What of it is missing: all, its referrers, or nothing but the tags.
    pub part: Fetch,
    /// Which children of an index are wanted.
    pub platforms: PlatformFilter,
    /// The names of its repository, without tags.
    pub names: Vec<ImageName>,
    /// The central registry, for a destination that [`Takes::Wanted`].
    pub source: Option<Arc<dyn Source>>,
    /// Told how far it is.
    pub progress: Arc<Progress>,
}

impl fmt::Debug for Pull {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Pull");
        debug.field("artifact", &self.artifact).field("tags", &self.tags).field("part", &self.part).finish()
    }
}

/// What a destination says, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PlaceError>> + Send + 'a>>;

/// A pull under way. It borrows nothing, so that several can run beside each other and beside a look; dropping it stops
/// it where it is, and leaves nothing that would be taken for whole.
pub type Pulling = Pin<Box<dyn Future<Output = Result<Outcome, PullError>> + Send>>;

/// What a graph consists of: its manifests with what they name, and the tags that list referrers.
pub type Graph = (BTreeMap<Digest, Node>, BTreeMap<Tag, Digest>);

/// A place that artifacts are brought to and removed from.
///
/// The contract, for all of them:
/// * [`observe`](Self::observe) tells the truth about *this* place and changes nothing. What is wanted and stands there as
///   wanted is a manifest that is `whole`, with its tags; what it does not report, it is asked to pull.
/// * [`pull`](Self::pull) makes it so, and may be repeated. Until it has ended, what was there before stays.
/// * [`remove`](Self::remove) takes away what the plan says, and never what is not ours.
/// * Nobody but the caller tries again: a failure is said once, in words for a person.
pub trait Destination: fmt::Debug + Send + Sync {
    /// What status and log call it; it is also what the record of what is ours knows it by.
    fn name(&self) -> String;

    /// When it takes something, and where from.
    fn takes(&self) -> Takes;

    /// Whether everything that it reports is ours, so that what nobody wants may go. Otherwise the record decides.
    fn holds_only_ours(&self) -> bool {
        true
    }

    /// Whether it takes an artifact of this kind, which is whole in the local registry, at all: a folder for images has no
    /// use for a chart.
    fn accepts(&self, _artifact: &Artifact) -> bool {
        true
    }

    /// The repository's name there.
    fn repository(&self, repository: &RepositoryName) -> RepositoryName {
        repository.clone()
    }

    /// Looks at what is there.
    fn observe<'a>(&'a mut self, look: Look<'a>) -> Answer<'a, Present>;

    /// Adds every tag of a repository to what was observed of it: before something is removed from a place that also
    /// holds other people's content, their tags have to be known.
    fn observe_all_tags<'a>(
        &'a self,
        _repository: &'a RepositoryName,
        _held: &'a mut Held,
    ) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Brings something there.
    fn pull(&self, pull: Pull) -> Pulling;

    /// Removes a tag or a manifest. `false` where there was nothing (any more); an error that is `unsupported` where the
    /// place does not remove such things.
    fn remove<'a>(&'a self, removal: &'a Removal) -> Answer<'a, bool>;

    /// Bytes of an artifact there; what it shares with others counts too.
    fn size(&self, _artifact: &Artifact, _held: &Held) -> u64 {
        0
    }

    /// What a graph there consists of, for the record of what is ours. Empty where no record is needed.
    fn graph<'a>(&'a self, _artifact: &'a Artifact) -> Answer<'a, Graph> {
        Box::pin(std::future::ready(Ok(Graph::default())))
    }
}

/// The first destination of a site: the registry of the site's own if the configuration names one, else the local store.
///
/// # Errors
/// [`PlaceError`] for a registry address that cannot be used.
pub fn open(
    config: &Effective,
    store: &blob_store::Store,
    observer: Arc<dyn Observer>,
) -> Result<Box<dyn Destination>, PlaceError> {
    match &config.byo_registry {
        None if config.byo_wanted => {
            Err(PlaceError::new("a registry of the site's own is asked for and not named: set REGISTRY_URL"))
        }
        None => Ok(Box::new(LocalRegistry::new(store, observer, config.kept_namespaces.clone()))),
        Some(site) => Ok(Box::new(SiteRegistry::new(site, config, observer)?)),
    }
}
