//! Who sees to it that Harbor has what the database says: a task that is woken by changes and by time, takes what is due, a few
//! at once, and takes a full look each time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::harbor::Ensured;
use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::comparison::Comparison;
use super::login::Login;
use super::site::{SiteError, Worker, is_away};
use crate::auth::{Robots, Seal};
use crate::domain::harbor::STATE_PROJECT;
use crate::domain::{SatelliteId, StoreError};
use crate::metrics::{Job, Metrics};
use crate::publish::PublisherHandle;
use crate::store::SharedStore;

/// Failures in a row, of whatever kind, after which nobody waits for a site.
const PATIENCE: u32 = 5;

/// How the keeper behaves.
#[derive(Debug, Clone)]
pub struct KeeperOptions {
    /// How long robots live at a time.
    pub days: u32,
    /// How often is looked without being woken.
    pub poll: Duration,
    /// How many sites are worked on at once.
    pub concurrency: usize,
    /// How many sites are claimed at once.
    pub batch: u32,
    /// For how long they are; who is still at work renews that, and who died is taken over after it.
    pub claim: Duration,
    /// How long one site may take.
    pub longest: Duration,
    /// The first pause after a failure; it doubles up to `retry_max`.
    pub retry: Duration,
    /// The longest pause after a failure.
    pub retry_max: Duration,
    /// How often the project of state documents is looked at.
    pub ensure: Duration,
    /// How often robots are compared with Harbor's list.
    pub compare: Duration,
}

impl KeeperOptions {
    /// The usual behaviour, with robots that live for `days` at a time.
    pub fn new(days: u32) -> Self {
        Self {
            days,
            poll: Duration::from_secs(5),
            concurrency: 4,
            batch: 8,
            claim: Duration::from_secs(45),
            longest: Duration::from_secs(120),
            retry: Duration::from_secs(2),
            retry_max: Duration::from_secs(600),
            ensure: Duration::from_secs(600),
            compare: Duration::from_secs(3600),
        }
    }
}

/// Wakes the keeper and tells how Harbor is doing; cheap to clone.
#[derive(Debug, Clone)]
pub struct KeeperHandle {
    wake: Arc<Notify>,
    login: Arc<Login>,
}

impl KeeperHandle {
    /// Something changed: look now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether Harbor gave no good answer last.
    pub fn is_away(&self) -> bool {
        self.login.is_away()
    }
}

/// The keeper; [`Keeper::run`] is its task.
#[derive(Debug)]
pub struct Keeper {
    store: SharedStore,
    worker: Worker,
    login: Arc<Login>,
    options: KeeperOptions,
    wake: Arc<Notify>,
    publisher: Option<PublisherHandle>,
    /// Looks in a row that met nothing but an outage.
    outages: AtomicU32,
}

/// What one look came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Sites that are as they should be.
    pub settled: u32,
    /// Those that are tried again.
    pub failed: u32,
    /// Among these, those for which Harbor may just be away.
    pub outages: u32,
}

impl Keeper {
    /// A keeper and its handle; nothing runs yet.
    pub fn new(
        store: SharedStore,
        login: Arc<Login>,
        robots: Robots,
        seal: Seal,
        options: KeeperOptions,
    ) -> (Self, KeeperHandle) {
        let wake = Arc::new(Notify::new());
        let handle = KeeperHandle { wake: Arc::clone(&wake), login: Arc::clone(&login) };
        let worker = Worker::new(Arc::clone(&store), Arc::clone(&login), robots, seal, options.days);
        let keeper =
            Self { store, worker, login, options, wake, publisher: None, outages: AtomicU32::new(0) };
        (keeper, handle)
    }

    /// Wakes this publisher when sites are done: documents may have waited for them.
    #[must_use]
    pub fn waking(self, publisher: PublisherHandle) -> Self {
        Self { publisher: Some(publisher), ..self }
    }

    /// Keeps until `stop`.
    pub async fn run(self, metrics: Metrics, stop: CancellationToken) {
        let mut ensured: Option<tokio::time::Instant> = None;
        if !self.login.config().skip_health_check {
            self.check_health().await;
        }
        loop {
            let run = metrics.job(Job::Robots);
            if ensured.is_none_or(|at| at.elapsed() >= self.options.ensure) {
                ensured = self.ensure_project().await.then(tokio::time::Instant::now);
            }
            let looked = self.look().await;
            let (more, away) = match &looked {
                Ok(looked) => {
                    let took = looked.settled + looked.failed;
                    (took >= self.options.batch, looked.outages > 0 && looked.settled == 0)
                }
                Err(error) => {
                    tracing::warn!(%error, "sites not looked up, tried again later");
                    (false, false)
                }
            };
            match self.store.site_counts().await {
                Ok(counts) => metrics.set_sites(counts),
                Err(error) => tracing::warn!(%error, "sites not counted"),
            }
            run.ended(ensured.is_some() && looked.as_ref().is_ok_and(|looked| looked.failed == 0));
            // A whole fleet must not knock at a Harbor that is away.
            let outages = if away { self.outages.fetch_add(1, Ordering::Relaxed) } else { 0 };
            if !away {
                self.outages.store(0, Ordering::Relaxed);
            }
            let pause =
                if away { self.backoff(outages).min(Duration::from_secs(60)) } else { self.options.poll };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = std::future::ready(()), if more && !away => {}
                () = self.wake.notified(), if !away => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Tells once what is wrong with Harbor; nothing follows from that, for it may be well in a moment.
    async fn check_health(&self) {
        let Ok(client) = self.login.client().await else { return };
        match client.health().await {
            Ok(health) if health.is_good() => {}
            Ok(health) => {
                let failing: Vec<&str> = health.failing().map(|part| part.name.as_str()).collect();
                tracing::warn!(failing = failing.join(", "), "harbor is not well");
            }
            Err(error) => tracing::warn!(%error, "harbor does not tell how it is doing"),
        }
        match client.system_info().await {
            Ok(info) if info.is_authenticated() => tracing::info!(version = info.version, "harbor knows us"),
            Ok(_) => tracing::warn!(
                "harbor does not know our account: HARBOR_USERNAME or HARBOR_PASSWORD is wrong, or its database is away"
            ),
            Err(error) => tracing::warn!(%error, "harbor does not tell whether it knows us"),
        }
    }

    /// Sees to it that the project of state documents is there and private; whether it is.
    async fn ensure_project(&self) -> bool {
        if let Err(error) = self.worker.recall_account().await {
            tracing::warn!(%error, "kind of our account at harbor not looked up");
        }
        let client = match self.login.client().await {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!(%error, "harbor not asked for the project of state documents");
                return false;
            }
        };
        let ensured = client.ensure_private_project(STATE_PROJECT).await;
        self.login.seen(ensured.as_ref().is_err_and(|error| error.may_be_outage()));
        match ensured {
            Ok(Ensured::Found) => true,
            Ok(Ensured::Created) => {
                tracing::info!(project = STATE_PROJECT, "project made at harbor");
                true
            }
            Ok(Ensured::MadePrivate) => {
                tracing::warn!(
                    project = STATE_PROJECT,
                    "project was public and is private now, what lay in it was readable for everybody"
                );
                true
            }
            Err(error) if error.is_forbidden() => {
                tracing::warn!(
                    %error, project = STATE_PROJECT,
                    "our account may not see to the project: make it, and make it private"
                );
                true
            }
            Err(error) => {
                tracing::warn!(%error, "project of state documents not ensured, tried again later");
                false
            }
        }
    }

    /// Takes what is due and works on it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn look(&self) -> Result<Looked, StoreError> {
        let now = Timestamp::now();
        self.store.adopt_sites(now).await?;
        let mut held = self.claimed_until(now);
        let due = self.store.due_sites(self.options.batch, now, held).await?;
        let mut left: BTreeSet<SatelliteId> = due.iter().cloned().collect();
        let mut looked = Looked::default();
        let mut work = futures_util::stream::iter(due)
            .map(|satellite| async move {
                let outcome = self.site(satellite.clone()).await;
                (satellite, outcome)
            })
            .buffer_unordered(self.options.concurrency.max(1));
        let mut renew = tokio::time::interval(self.options.claim / 3);
        renew.reset();
        loop {
            let ended = tokio::select! {
                ended = work.next() => ended,
                _ = renew.tick() => {
                    held = self.hold(&left, held).await;
                    continue;
                }
            };
            let Some((satellite, outcome)) = ended else { break };
            left.remove(&satellite);
            match outcome {
                Ok(Outcome::Settled) => looked.settled += 1,
                Ok(Outcome::Failed { outage }) => {
                    looked.failed += 1;
                    looked.outages += u32::from(outage);
                }
                // Its claim runs out by itself; the others go on.
                Err(error) => {
                    looked.failed += 1;
                    tracing::warn!(%error, "a site's end was not recorded");
                }
            }
        }
        if looked != Looked::default()
            && let Some(publisher) = &self.publisher
        {
            publisher.wake();
        }
        Ok(looked)
    }

    fn claimed_until(&self, now: Timestamp) -> Timestamp {
        let claim = SignedDuration::try_from(self.options.claim).unwrap_or(SignedDuration::MAX);
        now.checked_add(claim).unwrap_or(Timestamp::MAX)
    }

    /// Goes on holding what is not done yet.
    async fn hold(&self, left: &BTreeSet<SatelliteId>, held: Timestamp) -> Timestamp {
        let until = self.claimed_until(Timestamp::now());
        for satellite in left {
            if let Err(error) = self.store.hold_site(satellite, held, until).await {
                // Another replica may take it over, and finds what is recorded.
                tracing::warn!(%error, "a site at harbor could not be held");
            }
        }
        until
    }

    /// What compares the robots with Harbor's list.
    pub fn comparison(&self) -> Comparison {
        let handle = KeeperHandle { wake: Arc::clone(&self.wake), login: Arc::clone(&self.login) };
        Comparison::new(Arc::clone(&self.store), Arc::clone(&self.login), handle, self.options.compare)
    }

    async fn site(&self, satellite: SatelliteId) -> Result<Outcome, StoreError> {
        let Some(site) = self.store.site(&satellite).await? else { return Ok(Outcome::Settled) };
        let recorded = site.clone();
        let settled = match tokio::time::timeout(self.options.longest, self.worker.settle(site)).await {
            Ok(settled) => settled,
            Err(_) => Err(SiteError::Refused("harbor took too long".to_owned())),
        };
        let error = match settled {
            Ok(rest) => {
                self.login.seen(false);
                self.store.site_settled(&recorded, rest).await?;
                return Ok(Outcome::Settled);
            }
            Err(error) => error,
        };
        self.login.seen(is_away(&error));
        let outage = error.may_be_outage();
        // An outage says nothing of one site; where it does not end, those who wait go on without it.
        let given_up = !outage || recorded.attempts.saturating_add(1) >= PATIENCE;
        let now = Timestamp::now();
        let pause = SignedDuration::try_from(self.backoff(recorded.attempts)).unwrap_or(SignedDuration::MAX);
        let at = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        tracing::warn!(
            satellite = %recorded.name, attempts = recorded.attempts.saturating_add(1), %error,
            "robots not as they should be, tried again later"
        );
        self.store.site_failed(&recorded, &error.to_string(), given_up, now, at).await?;
        Ok(Outcome::Failed { outage })
    }

    /// Doubling, bounded, within 20 % of chance.
    fn backoff(&self, attempts: u32) -> Duration {
        let doubled = self.options.retry.saturating_mul(2_u32.saturating_pow(attempts.min(16)));
        doubled.min(self.options.retry_max).mul_f64(rand::random_range(0.8..1.2))
    }
}

enum Outcome {
    Settled,
    Failed { outage: bool },
}
