//! The loop that claims intents and makes the registry match.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::backend::{Gate, RegistryBackend};
use super::document::{Outcome, Work};
use crate::domain::StoreResult;
use crate::domain::document::{DocumentKind, OutboxLag};
use crate::metrics::{Job, Metrics};
use crate::store::SharedStore;

/// How many intents one claim takes.
const BATCH: u32 = 64;
/// How many documents of one kind are written at the same time.
const CONCURRENCY: usize = 8;
/// How many entries one look at the database takes when the registry is compared or swept.
const LISTING: u32 = 100;
/// How often [`Publisher::drain`] looks again for documents that wait for others.
const DRAIN_PAUSE: Duration = Duration::from_millis(50);
/// How many of these looks may find nothing to do before it ends.
const DRAIN_PATIENCE: u32 = 40;

/// How the publisher behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The registry's public URL, which documents hold (`https://registry.example.com`); what is noted in the
    /// database wins, so that all replicas write the same.
    pub registry_url: String,
    /// How often it looks without being woken: what another replica or `republish` asked for is found by this.
    pub poll: Duration,
    /// How long a superseded manifest stays, for satellites that are reading it.
    pub grace: Duration,
    /// How often the registry is compared with what was published.
    pub verify: Duration,
    /// How long a claim holds; a publisher that dies in between is taken over after that.
    pub claim: Duration,
    /// The first pause after a failure; it doubles up to `retry_max`.
    pub retry: Duration,
    /// The longest pause after a failure.
    pub retry_max: Duration,
    /// For how long a group's document waits for the first look at what it lists, so that it is written once, with
    /// digests. Zero where nobody looks.
    pub first_look: Duration,
}

impl Options {
    /// The usual behaviour, with documents that name `registry_url`.
    pub fn new(registry_url: impl Into<String>) -> Self {
        Self {
            registry_url: registry_url.into(),
            poll: Duration::from_secs(2),
            grace: Duration::from_secs(600),
            verify: Duration::from_secs(600),
            claim: Duration::from_secs(60),
            retry: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            first_look: Duration::ZERO,
        }
    }
}

/// How the publisher is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// How far it is behind, as of its last look.
    pub lag: OutboxLag,
    /// Documents written since the start.
    pub published: u64,
    /// Documents found unchanged since the start.
    pub unchanged: u64,
    /// Documents removed since the start.
    pub removed: u64,
    /// Failures since the start.
    pub failures: u64,
    /// The last failure, until a round without one.
    pub last_error: Option<String>,
    /// Rounds completed since the start.
    pub rounds: u64,
}

/// The publisher; [`Publisher::run`] is its task.
#[derive(Debug)]
pub struct Publisher {
    store: SharedStore,
    registry: Arc<dyn RegistryBackend>,
    gate: Option<Arc<dyn Gate>>,
    options: Arc<Options>,
    wake: watch::Receiver<u64>,
    status: watch::Sender<Status>,
    metrics: Metrics,
}

/// Wakes the publisher and shows how it is doing; cheap to clone.
#[derive(Debug, Clone)]
pub struct PublisherHandle {
    wake: Arc<watch::Sender<u64>>,
    status: watch::Receiver<Status>,
}

impl PublisherHandle {
    /// Something was committed that has to be published: look now.
    pub fn wake(&self) {
        self.wake.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until `done` holds for its status; `None` where the publisher ended before.
    pub async fn wait_for(&mut self, done: impl FnMut(&Status) -> bool) -> Option<Status> {
        self.status.wait_for(done).await.ok().map(|status| status.clone())
    }
}

/// What one claim came to.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    done: u64,
    failed: u64,
    postponed: u64,
}

impl Publisher {
    /// A publisher and its handle; nothing runs yet.
    pub fn new(
        store: SharedStore,
        registry: Arc<dyn RegistryBackend>,
        options: Options,
    ) -> (Self, PublisherHandle) {
        let (wake, woken) = watch::channel(0);
        let (status, seen) = watch::channel(Status::default());
        let publisher = Self {
            store,
            registry,
            gate: None,
            options: Arc::new(options),
            wake: woken,
            status,
            metrics: Metrics::default(),
        };
        (publisher, PublisherHandle { wake: Arc::new(wake), status: seen })
    }

    /// Publishes no document before its turn.
    #[must_use]
    pub fn gated_by(self, gate: Option<Arc<dyn Gate>>) -> Self {
        Self { gate, ..self }
    }

    /// Counts its runs there.
    #[must_use]
    pub fn counted_by(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Publishes until `stop` turns true (or its sender goes), then ends after the documents in hand.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (mut verify_at, mut sweep_at) = (Instant::now(), Instant::now());
        let mut woken = true;
        while !*stop.borrow_and_update() {
            let run = self.metrics.job(Job::Publisher);
            self.round(&stop).await;
            let mut well = true;
            if Instant::now() >= verify_at {
                verify_at = Instant::now() + self.options.verify;
                well &= report("comparing the registry failed", self.verify(&stop).await);
                self.round(&stop).await;
            }
            if Instant::now() >= sweep_at && !self.sweep().await {
                // They harm nobody: a registry that is away is not asked for each of them every two seconds.
                sweep_at = Instant::now() + self.options.retry_max;
                well = false;
            }
            run.ended(well && self.status.borrow().last_error.is_none());
            let pause = tokio::time::sleep(self.options.poll);
            tokio::select! {
                () = pause => {}
                changed = self.wake.changed(), if woken => woken = changed.is_ok(),
                gone = stop.changed() => if gone.is_err() { break },
            }
        }
    }

    /// Publishes until nothing is left but what fails, then returns what was done: for `ground-control republish`
    /// with no server running, and for tests. Each document is tried once.
    pub async fn drain(&mut self) -> Status {
        // Dropped at the end only: a receiver whose sender is gone would read as "stop".
        let (_stop, running) = watch::channel(false);
        let mut idle = 0;
        while idle < DRAIN_PATIENCE {
            let progress = self.round(&running).await;
            if progress.done > 0 || progress.failed > 0 {
                idle = 0;
                continue;
            }
            let lag = self.status.borrow().lag;
            if lag.waiting <= lag.failing {
                break;
            }
            idle += 1;
            tokio::time::sleep(DRAIN_PAUSE).await;
        }
        self.status.borrow().clone()
    }

    /// One full look: claims and publishes until nothing is due.
    async fn round(&self, stop: &watch::Receiver<bool>) -> Progress {
        let mut total = Progress::default();
        let mut error = None;
        while !*stop.borrow() {
            match self.batch(&mut error).await {
                Ok(None) => break,
                Ok(Some(progress)) => {
                    total.done += progress.done;
                    total.failed += progress.failed;
                    total.postponed += progress.postponed;
                }
                Err(failure) => {
                    tracing::warn!(error = &failure as &dyn std::error::Error, "reading the outbox failed");
                    error = Some(failure.to_string());
                    break;
                }
            }
        }
        let lag = self.store.outbox_lag().await;
        self.status.send_modify(|status| {
            if let Ok(lag) = lag {
                status.lag = lag;
            }
            status.rounds += 1;
            if error.is_some() || status.lag.failing == 0 {
                status.last_error = error;
            }
        });
        total
    }

    /// Claims some intents and works on them, one kind after the other: what is named before what names it.
    async fn batch(&self, last_error: &mut Option<String>) -> StoreResult<Option<Progress>> {
        let now = Timestamp::now();
        let until =
            now + SignedDuration::try_from(self.options.claim).unwrap_or(SignedDuration::from_mins(1));
        let claimed = self.store.claim_documents(BATCH, now, until).await?;
        if claimed.is_empty() {
            return Ok(None);
        }
        let noted = self.store.registry_url().await?;
        let registry_url: Arc<str> = Arc::from(noted.as_deref().unwrap_or(&self.options.registry_url));
        let mut progress = Progress::default();
        let mut work: Vec<Work> = Vec::with_capacity(claimed.len());
        for claimed in claimed {
            work.push(Work {
                store: Arc::clone(&self.store),
                registry: Arc::clone(&self.registry),
                gate: self.gate.clone(),
                options: Arc::clone(&self.options),
                registry_url: Arc::clone(&registry_url),
                claimed,
            });
        }
        for kind in [DocumentKind::Config, DocumentKind::Group, DocumentKind::Satellite] {
            let (now, later) =
                work.into_iter().partition::<Vec<_>, _>(|work| work.claimed.document.kind == kind);
            work = later;
            let mut outcomes =
                futures_util::stream::iter(now).map(Work::traced).buffer_unordered(CONCURRENCY);
            while let Some(outcome) = outcomes.next().await {
                self.count(outcome, &mut progress, last_error);
            }
        }
        Ok(Some(progress))
    }

    fn count(&self, outcome: Outcome, progress: &mut Progress, last_error: &mut Option<String>) {
        self.status.send_modify(|status| match outcome {
            Outcome::Published => {
                status.published += 1;
                progress.done += 1;
            }
            Outcome::Unchanged => {
                status.unchanged += 1;
                progress.done += 1;
            }
            Outcome::Removed => {
                status.removed += 1;
                progress.done += 1;
            }
            Outcome::Postponed => progress.postponed += 1,
            Outcome::Failed(reason) => {
                status.failures += 1;
                progress.failed += 1;
                *last_error = Some(reason);
            }
        });
    }

    /// Compares the registry with what was published and asks again for what is not as it should be.
    async fn verify(&self, stop: &watch::Receiver<bool>) -> StoreResult<()> {
        let mut last = None;
        while !*stop.borrow() {
            let page = self.store.published_after(last.as_ref(), LISTING).await?;
            let Some((end, _)) = page.last() else { return Ok(()) };
            last = Some(end.clone());
            for (document, published) in page {
                let Ok(repository) = document.repository().parse() else { continue };
                match self.registry.current(&repository).await {
                    Ok(Some(current)) if current.digest == published.digest => {}
                    Ok(_) => {
                        tracing::info!(%document, "registry differs, publishing again");
                        self.store.republish(&document, Timestamp::now()).await?;
                    }
                    Err(error) => {
                        tracing::warn!(
                            %document, error = &error as &dyn std::error::Error, "comparing a document failed"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes superseded manifests whose grace is over; `false` where some could not be.
    async fn sweep(&self) -> bool {
        let swept = self.remove_superseded().await;
        let all = matches!(swept, Ok(true));
        report("removing superseded manifests failed", swept.map(drop));
        all
    }

    async fn remove_superseded(&self) -> StoreResult<bool> {
        let mut all = true;
        for gone in self.store.superseded(LISTING, Timestamp::now()).await? {
            let Ok(repository) = gone.document.repository().parse() else { continue };
            match self.registry.remove(&repository, &gone.digest).await {
                Ok(()) => self.store.superseded_removed(&gone).await?,
                Err(error) => {
                    all = false;
                    tracing::warn!(
                        document = %gone.document, error = &error as &dyn std::error::Error,
                        "removing a superseded manifest failed"
                    );
                }
            }
        }
        Ok(all)
    }
}

/// Whether it went well; what did not is told.
fn report(what: &'static str, result: StoreResult<()>) -> bool {
    if let Err(error) = &result {
        tracing::warn!(error = error as &dyn std::error::Error, "{what}");
    }
    result.is_ok()
}
