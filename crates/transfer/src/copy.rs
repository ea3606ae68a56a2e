//! One copy: the walk over the graph, bottom first.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures_util::{StreamExt, stream};
use oci::{Descriptor, Digest, Manifest, PlatformFilter, RepositoryName, Tag};
use tokio::sync::watch;

use crate::blob::BlobFeed;
use crate::engine::Inner;
use crate::error::{Cause, CopyError, SourceErrorKind};
use crate::event::Event;
use crate::flight::{Landed, stopped};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::seam::{Held, Hold, ManifestBytes, ReceiveError, Source, Verdict};

/// How often a blob is tried whose flights, begun by others, did not bring it.
const MAX_BOARDINGS: u32 = 4;

/// A graph to copy.
#[derive(Clone)]
pub struct CopyRequest {
    /// Where it comes from.
    pub source: Arc<dyn Source>,
    /// The destination's repository.
    pub repository: RepositoryName,
    /// The graph's root.
    pub digest: Digest,
    /// Tags to point at the root when the graph is whole; none keeps it by digest.
    pub tags: Vec<Tag>,
    /// Which children of indexes are copied. The indexes stay as they are.
    pub platforms: PlatformFilter,
    /// Whether what refers to the graph is copied, too, to any depth.
    pub referrers: bool,
    /// Told how far the copy is.
    pub progress: Arc<Progress>,
}

impl CopyRequest {
    /// All platforms, with referrers, no tags, a progress of its own.
    pub fn new(source: Arc<dyn Source>, repository: RepositoryName, digest: Digest) -> Self {
        Self {
            source,
            repository,
            digest,
            tags: Vec::new(),
            platforms: PlatformFilter::all(),
            referrers: true,
            progress: Arc::default(),
        }
    }
}

/// Runs a copy to its end, or until the engine stops.
pub(crate) async fn run(
    engine: &Arc<Inner>,
    request: &CopyRequest,
    tags: bool,
) -> Result<Outcome, CopyError> {
    let started = Instant::now();
    let requests = request.source.requests();
    let observer = &engine.options.observer;
    observer.observe(&Event::CopyStarted { repository: request.repository.clone(), digest: request.digest });
    let copy = Copy {
        engine,
        request,
        stop: engine.stop.subscribe(),
        seen: Mutex::default(),
        arrived: Mutex::default(),
        holds: Mutex::default(),
        outcome: Mutex::new(Outcome { digest: Some(request.digest), ..Outcome::default() }),
    };
    let ended = tokio::select! {
        ended = Box::pin(copy.all(tags)) => ended,
        () = stopped(engine.stop.subscribe()) => Err(copy.error("transfer".to_owned(), None, Cause::Stopped)),
    };
    let mut outcome = copy.outcome().clone();
    outcome.requests = request.source.requests().saturating_sub(requests);
    outcome.duration = started.elapsed();
    match ended {
        Ok(()) => {
            observer.observe(&Event::CopyDone {
                repository: request.repository.clone(),
                digest: request.digest,
                fetched: outcome.bytes_fetched,
                duration: outcome.duration,
            });
            Ok(outcome)
        }
        Err(error) => {
            observer.observe(&Event::CopyFailed {
                repository: request.repository.clone(),
                digest: request.digest,
                error: error.to_string(),
            });
            Err(error)
        }
    }
}

struct Copy<'a> {
    engine: &'a Arc<Inner>,
    request: &'a CopyRequest,
    stop: watch::Receiver<bool>,
    /// Manifests that the walk has come to. What is in it is not walked again, so that a circle ends.
    seen: Mutex<HashSet<Digest>>,
    /// Manifests that are in the destination: what refers to them is of interest.
    arrived: Mutex<Vec<Digest>>,
    /// Keeps what has arrived from the collector until a manifest names it.
    holds: Mutex<Vec<Hold>>,
    outcome: Mutex<Outcome>,
}

/// What a manifest is to the walk.
#[derive(Clone, Copy)]
enum Role<'a> {
    Root,
    Child(&'a Descriptor),
    Referrer { descriptor: &'a Descriptor, subject: &'a Digest },
}

impl Role<'_> {
    fn size(&self) -> Option<u64> {
        match self {
            Self::Root => None,
            Self::Child(descriptor) | Self::Referrer { descriptor, .. } => Some(descriptor.size),
        }
    }
}

type Walk<'a> = Pin<Box<dyn Future<Output = Result<Option<ManifestBytes>, CopyError>> + Send + 'a>>;

impl Copy<'_> {
    async fn all(&self, tags: bool) -> Result<(), CopyError> {
        let request = self.request;
        let root = self.manifest(request.digest, Role::Root, 0).await?;
        if request.referrers {
            self.referrers().await?;
        }
        let Some(root) = root.filter(|_| tags) else { return Ok(()) };
        if request.tags.is_empty() {
            return Ok(());
        }
        let so_far = self.outcome().clone();
        if let Verdict::Refuse(reason) = self.engine.options.admission.admit(request, &so_far).await {
            return Err(self.error("admission".to_owned(), None, Cause::Refused(reason)));
        }
        for tag in &request.tags {
            let moved =
                self.engine.destination.set_tag(&request.repository, tag, &root).await.map_err(|error| {
                    self.error(format!("tag {tag}"), Some(request.digest), Cause::Destination(error))
                })?;
            if moved {
                self.outcome().tags_moved += 1;
                self.tell(&Event::TagMoved {
                    repository: request.repository.clone(),
                    tag: tag.clone(),
                    digest: request.digest,
                });
            }
        }
        Ok(())
    }

    /// Brings a manifest and everything below it; `None` where it was left out or seen before.
    fn manifest<'s>(&'s self, digest: Digest, role: Role<'s>, depth: usize) -> Walk<'s> {
        Box::pin(async move {
            let limits = &self.engine.options;
            let part = || format!("manifest {digest}");
            if depth > limits.max_depth {
                return Err(self.error(part(), Some(digest), Cause::TooDeep(limits.max_depth)));
            }
            {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                if !seen.insert(digest) {
                    return Ok(None);
                }
                if seen.len() > limits.max_manifests {
                    return Err(self.error(part(), Some(digest), Cause::TooLarge(limits.max_manifests)));
                }
            }
            self.hold(&[digest]);
            let (manifest, present, whole) = self.obtain(digest, role).await?;
            if let Some(expected) = role.size()
                && expected != manifest.bytes.len() as u64
            {
                let actual = manifest.bytes.len() as u64;
                return Err(self.error(part(), Some(digest), Cause::ManifestSize { expected, actual }));
            }
            let media_type = Some(manifest.media_type.as_str()).filter(|t| !t.is_empty());
            let document = Manifest::parse(media_type, &manifest.bytes)
                .map_err(|error| self.error(part(), Some(digest), Cause::Manifest(error.to_string())))?;
            if let Role::Referrer { subject, .. } = role
                && document.subject.as_ref().map(|s| &s.digest) != Some(subject)
            {
                self.skip_referrer(digest, "it refers to something else".to_owned());
                return Ok(None);
            }
            let (selected, left_out): (Vec<_>, Vec<_>) =
                document.manifests.iter().partition(|child| self.request.platforms.selects(child));
            self.outcome().children_skipped += left_out.len() as u64;
            if whole {
                if matches!(role, Role::Root) {
                    self.outcome().was_whole = true;
                }
                self.arrive(digest);
                // Below it nothing is missing; the children count for their referrers only.
                self.see_whole_children(&selected).await?;
                return Ok(Some(manifest));
            }
            let below: Vec<Digest> = document.blobs().map(|blob| blob.digest).collect();
            self.hold(&below);
            document.blobs().for_each(|blob| self.request.progress.expect(blob.digest, blob.size));
            // All parts are tried before the first failure is told: what has arrived need not come again.
            let blobs: Vec<_> = document.blobs().map(|blob| self.blob(blob)).collect();
            let children: Vec<_> = selected
                .iter()
                .map(|child| self.manifest(child.digest, Role::Child(child), depth + 1))
                .collect();
            let (blobs, children) = tokio::join!(
                at_a_time(limits.parallel_blobs * 2, blobs),
                at_a_time(limits.parallel_manifests, children),
            );
            blobs.into_iter().collect::<Result<(), _>>()?;
            children.into_iter().try_for_each(|child| child.map(drop))?;
            if !present {
                self.engine
                    .destination
                    .put_manifest(&self.request.repository, &manifest)
                    .await
                    .map_err(|error| self.error(part(), Some(digest), Cause::Destination(error)))?;
                let repository = self.request.repository.clone();
                self.tell(&Event::ManifestStored { repository, digest });
            }
            self.arrive(digest);
            Ok(Some(manifest))
        })
    }

    /// The manifest's bytes: the destination's, or else the source's. Tells whether it is in the repository,
    /// and whether everything below it is known to be.
    async fn obtain(&self, digest: Digest, role: Role<'_>) -> Result<(ManifestBytes, bool, bool), CopyError> {
        let request = self.request;
        let part = || format!("manifest {digest}");
        let found = self
            .engine
            .destination
            .find(&request.repository, &digest, &request.platforms)
            .await
            .map_err(|error| self.error(part(), Some(digest), Cause::Destination(error)))?;
        if let Some(found) = found {
            let mut outcome = self.outcome();
            outcome.manifests_here += 1;
            outcome.bytes_here += found.manifest.bytes.len() as u64;
            return Ok((found.manifest, found.present, found.whole));
        }
        let manifest = request.source.manifest(&digest).await.map_err(|mut error| {
            if error.kind == SourceErrorKind::NotFound && matches!(role, Role::Child(_)) {
                error.text.push_str("; the index names it: push it, or leave its platform out");
            }
            self.error(part(), Some(digest), Cause::Source(error))
        })?;
        let mut outcome = self.outcome();
        outcome.manifests_fetched += 1;
        outcome.bytes_fetched += manifest.bytes.len() as u64;
        Ok((manifest, false, false))
    }

    /// Notes the manifests below a whole index as seen, so that what refers to them is looked for.
    async fn see_whole_children(&self, children: &[&Descriptor]) -> Result<(), CopyError> {
        if !self.request.referrers {
            return Ok(());
        }
        let mut queue: Vec<Descriptor> = children.iter().map(|child| (*child).clone()).collect();
        while let Some(child) = queue.pop() {
            {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                if seen.len() >= self.engine.options.max_manifests || !seen.insert(child.digest) {
                    continue;
                }
            }
            self.arrive(child.digest);
            if !oci::media_type::is_index(&child.media_type) {
                continue;
            }
            let found = self
                .engine
                .destination
                .find(&self.request.repository, &child.digest, &self.request.platforms)
                .await
                .map_err(|error| {
                    let part = format!("manifest {}", child.digest);
                    self.error(part, Some(child.digest), Cause::Destination(error))
                })?;
            let document =
                found.and_then(|f| Manifest::parse(Some(&f.manifest.media_type), &f.manifest.bytes).ok());
            let below = document.into_iter().flat_map(|d| d.manifests);
            queue.extend(below.filter(|below| self.request.platforms.selects(below)));
        }
        Ok(())
    }

    /// Brings one blob, in the flight that is under way or in one of its own.
    async fn blob(&self, blob: &Descriptor) -> Result<(), CopyError> {
        let part = || format!("blob {}", blob.digest);
        let destination = &self.engine.destination;
        let observer = &self.engine.options.observer;
        let mut last = None;
        for _ in 0..MAX_BOARDINGS {
            let seat =
                self.engine.flights.board(blob.digest, self.stop.clone(), observer, || self.flight(blob));
            let own = seat.own;
            match seat.land().await {
                Some(Ok(landed)) if own || destination.shares_blobs() => {
                    self.count(blob, own, &landed);
                    self.request.progress.arrived(&blob.digest);
                    return Ok(());
                }
                // It came for another repository, perhaps. Our own flight finds it here, or mounts it.
                Some(Ok(_)) => {}
                Some(Err(cause)) if own => {
                    if blob.is_non_distributable()
                        && matches!(&cause, Cause::Source(e) if e.kind == SourceErrorKind::NotFound)
                    {
                        self.outcome().layers_skipped += 1;
                        self.request.progress.arrived(&blob.digest);
                        self.tell(&Event::ForeignLayerSkipped { digest: blob.digest });
                        return Ok(());
                    }
                    self.tell(&Event::BlobFailed { digest: blob.digest, error: cause.to_string() });
                    return Err(self.error(part(), Some(blob.digest), cause));
                }
                // Another copy's source failed; ours may be a better one.
                Some(Err(cause)) => last = Some(cause),
                None => {}
            }
        }
        Err(self.error(part(), Some(blob.digest), last.unwrap_or(Cause::Stopped)))
    }

    /// The work of one flight: wait for a place, look whether the blob is there, else bring it.
    fn flight(&self, blob: &Descriptor) -> impl Future<Output = Result<Landed, Cause>> + Send + 'static {
        let destination = self.engine.destination.clone();
        let permits = self.engine.permits.clone();
        let observer = self.engine.options.observer.clone();
        let repository = self.request.repository.clone();
        let blob = blob.clone();
        let source = self.request.source.clone();
        let retry = self.engine.options.retry;
        async move {
            // Closed permits are an engine that is gone.
            let _permit = permits.acquire_owned().await.map_err(|_| Cause::Stopped)?;
            let held = destination.holds(&repository, &blob).await.map_err(Cause::Destination)?;
            if held != Held::No {
                if held == Held::Linked {
                    observer.observe(&Event::BlobLinked { digest: blob.digest, repository });
                }
                return Ok(Landed { held, fetched: 0 });
            }
            let started = Instant::now();
            let feed = BlobFeed::new(source, blob.clone(), retry, observer.clone());
            match destination.receive(&repository, &feed).await {
                Ok(()) => {
                    let fetched = feed.fetched();
                    observer.observe(&Event::BlobDone {
                        digest: blob.digest,
                        size: blob.size,
                        fetched,
                        duration: started.elapsed(),
                    });
                    Ok(Landed { held: Held::No, fetched })
                }
                Err(ReceiveError::Source(error)) => Err(Cause::Source(error)),
                Err(ReceiveError::Destination(error)) if error.mismatch => Err(Cause::Mismatch(error.text)),
                Err(ReceiveError::Destination(error)) => Err(Cause::Destination(error)),
            }
        }
    }

    fn count(&self, blob: &Descriptor, own: bool, landed: &Landed) {
        let mut outcome = self.outcome();
        match (own, landed.held) {
            (true, Held::No) => {
                outcome.blobs_fetched += 1;
                outcome.bytes_fetched += landed.fetched;
                outcome.bytes_here += blob.size.saturating_sub(landed.fetched);
            }
            (false, Held::No) => {
                outcome.blobs_linked += 1;
                outcome.bytes_shared += blob.size;
            }
            (_, Held::Linked) => {
                outcome.blobs_linked += 1;
                outcome.bytes_here += blob.size;
            }
            (_, Held::Here) => {
                outcome.blobs_here += 1;
                outcome.bytes_here += blob.size;
            }
        }
    }

    /// Brings what refers to any manifest of the graph, and what refers to that.
    async fn referrers(&self) -> Result<(), CopyError> {
        let mut asked: HashSet<Digest> = HashSet::new();
        for depth in 1.. {
            let subjects: Vec<Digest> = {
                let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
                arrived.iter().filter(|digest| !asked.contains(*digest)).copied().collect()
            };
            if subjects.is_empty() {
                return Ok(());
            }
            asked.extend(&subjects);
            let lookups = subjects.iter().map(|subject| self.referrers_of(subject, depth)).collect();
            let found = at_a_time(self.engine.options.parallel_manifests, lookups).await;
            found.into_iter().collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    async fn referrers_of(&self, subject: &Digest, depth: usize) -> Result<(), CopyError> {
        let listed = self.request.source.referrers(subject).await.map_err(|error| {
            self.error(format!("referrers of {subject}"), Some(*subject), Cause::Source(error))
        })?;
        for descriptor in &listed {
            let role = Role::Referrer { descriptor, subject };
            match self.manifest(descriptor.digest, role, depth).await {
                Ok(Some(_)) => self.outcome().referrers += 1,
                Ok(None) => {}
                // A list may name what is gone; that is no reason to keep the image from a site.
                Err(error) if error.is_not_found() => {
                    self.skip_referrer(descriptor.digest, error.to_string())
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn arrive(&self, digest: Digest) {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).push(digest);
    }

    fn skip_referrer(&self, digest: Digest, reason: String) {
        self.outcome().referrers_skipped += 1;
        self.tell(&Event::ReferrerSkipped { digest, reason });
    }

    fn hold(&self, digests: &[Digest]) {
        if digests.is_empty() {
            return;
        }
        let hold = self.engine.destination.hold(digests);
        self.holds.lock().unwrap_or_else(PoisonError::into_inner).push(hold);
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: &Event) {
        self.engine.options.observer.observe(event);
    }

    fn error(&self, part: String, digest: Option<Digest>, cause: Cause) -> CopyError {
        let artifact = format!("{}@{}", self.request.repository, self.request.digest);
        CopyError { artifact: artifact.into(), part: part.into(), digest, cause: Box::new(cause) }
    }
}

/// Runs the futures, `n` at a time, to their ends.
async fn at_a_time<F: Future>(n: usize, futures: Vec<F>) -> Vec<F::Output> {
    stream::iter(futures).buffer_unordered(n.max(1)).collect().await
}
