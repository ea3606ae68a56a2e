//! The sweep: looks at every repository that a group names, on a timer and when somebody says a word.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::facts::Facts;
use super::hints::Hints;
use super::index::ArtifactIndex;
use super::look::{Looked, look};
use crate::domain::StoreResult;
use crate::domain::resolution::Finding;
use crate::metrics::{Job, Metrics};
use crate::publish::PublisherHandle;
use crate::store::{Followed, Look, SharedStore};

/// How many repositories are looked at at once.
const CONCURRENCY: usize = 8;
/// How long a claim holds that is not kept; a replica that dies in between is taken over after that.
const CLAIM: SignedDuration = SignedDuration::from_secs(45);
/// How often a claim is kept while its look goes on.
const KEEP_EVERY: Duration = Duration::from_secs(15);
/// How long one look may take.
const LONGEST: Duration = Duration::from_secs(150);
/// The first pause after a look that the registry did not answer; it doubles up to the interval.
const RETRY: Duration = Duration::from_secs(5);
/// How long looks under way may go on when the server is asked to end.
const DRAIN: Duration = Duration::from_secs(5);

/// How the sweep behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often each repository is looked at without a word.
    pub interval: Duration,
    /// How often the database is looked at for what another replica was told.
    pub poll: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { interval: Duration::from_secs(600), poll: Duration::from_secs(2) }
    }
}

/// The sweep; [`Sweep::run`] is its task.
#[derive(Debug)]
pub struct Sweep {
    store: SharedStore,
    index: Arc<dyn ArtifactIndex>,
    publisher: PublisherHandle,
    hints: Hints,
    options: Options,
    metrics: Metrics,
    facts: Facts,
}

impl Sweep {
    /// A sweep of the registry that `index` shows; nothing runs yet. `publisher` is woken when documents follow from what
    /// was found, `hints` bring the words.
    pub fn new(
        store: SharedStore,
        index: Arc<dyn ArtifactIndex>,
        publisher: PublisherHandle,
        hints: Hints,
        options: Options,
        metrics: Metrics,
    ) -> Self {
        Self { store, index, publisher, hints, options, metrics, facts: Facts::default() }
    }

    /// Sweeps until `stop`; then ends with the looks in hand, or after a few seconds without them: they are claimed anew later.
    pub async fn run(self, stop: CancellationToken) {
        let mut follow_at = Instant::now();
        // Tasks of their own: a look that has got hold of the database and is not polled, because this loop waits for the
        // database itself, would hold everybody up.
        let mut looks = JoinSet::new();
        let this = Arc::new(self);
        while !stop.is_cancelled() {
            if Instant::now() >= follow_at {
                follow_at = Instant::now() + this.options.interval;
                report(
                    "bringing the followed repositories up to date failed",
                    this.store.follow(Timestamp::now()).await,
                );
            }
            report("taking word of changes failed", this.listen().await);
            let room = CONCURRENCY.saturating_sub(looks.len());
            if room > 0 {
                for followed in this.claim(room).await {
                    let this = Arc::clone(&this);
                    looks.spawn(async move { this.look(followed).await });
                }
            }
            let idle = looks.is_empty();
            tokio::select! {
                () = stop.cancelled() => {}
                _ = looks.join_next(), if !idle => {}
                () = this.hints.woken() => {}
                () = tokio::time::sleep(this.options.poll) => {}
            }
        }
        let _ = tokio::time::timeout(DRAIN, async { while looks.join_next().await.is_some() {} }).await;
    }

    /// Looks once at all that is due, for tests and for what runs without a server.
    pub async fn drain(&self) -> StoreResult<()> {
        self.store.follow(Timestamp::now()).await?;
        self.listen().await?;
        loop {
            let claimed = self.claim(CONCURRENCY).await;
            if claimed.is_empty() {
                return Ok(());
            }
            for followed in claimed {
                self.look(followed).await;
            }
        }
    }

    async fn listen(&self) -> StoreResult<()> {
        let said = self.hints.take();
        if said.all {
            self.store.look_at_all_again(Timestamp::now()).await?;
        }
        for repository in said.repositories {
            self.store.look_again(&repository).await?;
        }
        Ok(())
    }

    async fn claim(&self, room: usize) -> Vec<Followed> {
        let now = Timestamp::now();
        let until = now + CLAIM;
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        self.store.claim_followed(room, now, until).await.unwrap_or_else(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "claiming repositories to look at failed"
            );
            Vec::new()
        })
    }

    async fn look(&self, followed: Followed) {
        let run = self.metrics.job(Job::Sweep);
        let repository = &followed.repository;
        let looking = look(self.index.as_ref(), &self.facts, repository, &followed.selectors);
        let looking = tokio::time::timeout(LONGEST, looking);
        let looked = self.keeping(&followed, looking).await.unwrap_or_else(|_| {
            let reason = format!("looking at {repository} took longer than {} s", LONGEST.as_secs());
            let nothing = |selector: &_| (Clone::clone(selector), Finding::Nothing(reason.clone()));
            Looked {
                findings: followed.selectors.iter().map(nothing).collect(),
                failure: Some(reason.clone()),
            }
        });
        if let Some(reason) = &looked.failure {
            tracing::warn!(%repository, reason, "looking at a repository failed, tried again later");
        }
        let now = Timestamp::now();
        let pause = self.pause(looked.failure.is_some().then_some(followed.attempts));
        let next = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        let look = Look { findings: looked.findings, failure: looked.failure, next };
        let well = look.failure.is_none();
        match self.store.looked(&followed, look, now).await {
            Ok(groups) => {
                run.ended(well);
                for group in &groups {
                    tracing::info!(%group, %repository, "what the group lists stands for something else now");
                }
                // Also where nothing changed: a document may be waiting for the first look.
                self.publisher.wake();
            }
            Err(error) => {
                run.ended(false);
                // The claim runs out by itself; then it is looked at again.
                tracing::warn!(
                    %repository, error = &error as &dyn std::error::Error, "remembering what was found failed"
                );
            }
        }
    }

    /// Carries `work` out and keeps the claim meanwhile.
    async fn keeping<T>(&self, followed: &Followed, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(KEEP_EVERY) => {
                    if let Err(error) = self.store.hold_followed(followed, Timestamp::now() + CLAIM).await {
                        tracing::warn!(
                            repository = %followed.repository, error = &error as &dyn std::error::Error,
                            "a claim was not kept, another replica may look, too"
                        );
                    }
                }
            }
        }
    }

    /// Until the next look: the interval, or after failure number `failed` (from 0) a shorter pause that doubles. Within
    /// 20 % of chance, so that what was asked for at once is not looked at at once for ever.
    fn pause(&self, failed: Option<u32>) -> SignedDuration {
        let pause = match failed {
            None => self.options.interval,
            Some(attempts) => {
                RETRY.saturating_mul(2_u32.saturating_pow(attempts.min(16))).min(self.options.interval)
            }
        };
        let jitter = 0.8 + 0.2 * f64::from(rand::random::<u16>()) / f64::from(u16::MAX);
        SignedDuration::try_from(pause.mul_f64(jitter)).unwrap_or(SignedDuration::MAX)
    }
}

fn report(what: &'static str, result: StoreResult<()>) {
    if let Err(error) = result {
        tracing::warn!(error = &error as &dyn std::error::Error, "{what}");
    }
}
