//! The three schedulers of the satellite: registration, replication, heartbeat.
//!
//! Each is one task with one job. It runs at once, then by its schedule with a little jitter; after a failure sooner or
//! later by a bounded backoff. It is woken early by what concerns it: registration wakes the other two, an SVID and a
//! refused heartbeat wake registration, and a changed configuration reschedules. Beside them runs whoever keeps the
//! identity. [`Core`] owns the tasks: none outlives it.
//!
//! With a Ground Control that knows waiting, the heartbeat's request is always under way, and what its answer tells wakes the
//! replication.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Effective, IdentitySource, LiveConfig, Shared};
use crate::credentials::{Accepted, Refusals};
use crate::delivery::Offers;
use crate::desired::Reader;
use crate::events::{Event, Events, Scheduler};
use crate::follow::{Follow, Position};
use crate::identity::{EdgeIdentity, sources};
use crate::reconcile::{self, Reconciler};
use crate::registration;
use crate::sealed::Vault;
use crate::standing::Standing;

mod clock;
mod connection;
mod heartbeat;
mod pace;
mod register;

use clock::Clock;
pub(crate) use clock::Next;
use connection::Connection;

/// How long what was refused waits for the next try at least: somebody has to do something first.
const REFUSED_WAIT: Duration = Duration::from_secs(300);

/// What the core needs of the shell around it.
#[derive(Debug)]
pub struct Parts {
    /// The configuration in force; a change reschedules, and rebuilds clients where addresses changed.
    pub config: LiveConfig,
    /// The one-time token; another one is taken without a restart.
    pub token: watch::Receiver<Option<SecretString>>,
    /// Notify it to replicate now.
    pub replicate: Arc<Notify>,
    /// Where the credentials and the claim are kept.
    pub vault: Vault,
    /// The local store.
    pub store: blob_store::Store,
    /// Directory for the durable files that hold no secret: the last desired state, and the record of what was brought
    /// into a registry of the site's own.
    pub state_dir: PathBuf,
    /// The stream of events; log and status read it.
    pub events: Events,
    /// Takes what is whole here, for the destinations that take it from here.
    pub offers: Offers,
}

/// What the schedulers share.
struct Shell {
    config: LiveConfig,
    vault: Vault,
    store: blob_store::Store,
    events: Events,
    token: watch::Receiver<Option<SecretString>>,
    identity: EdgeIdentity,
    standing: watch::Sender<Standing>,
    refusals: Arc<Refusals>,
    accepted: Accepted,
    follow: Follow,
    wake_registration: Arc<Notify>,
    wake_replication: Arc<Notify>,
    wake_heartbeat: Arc<Notify>,
}

/// How long to wait after a refusal that somebody has to do something about.
pub(crate) fn refusal_wait(config: &Effective) -> Duration {
    config
        .register_satellite_interval
        .interval()
        .map_or(REFUSED_WAIT, |interval| (interval * 10).min(REFUSED_WAIT))
}

/// How long to wait after so many failures in a row of what runs by `schedule`.
pub(crate) fn failure_delay(schedule: &fleet_protocol::schedule::Schedule, failures: u32) -> Duration {
    clock::delay(schedule, &jiff::Zoned::now(), failures.max(1), rand::random())
}

/// The running core. No task outlives it.
#[derive(Debug)]
pub struct Core {
    stop: CancellationToken,
    tasks: TaskTracker,
    wake_replication: Arc<Notify>,
    aborts: Vec<tokio::task::AbortHandle>,
}

impl Core {
    /// Starts the schedulers. Never waits for the network. To be called inside a tokio runtime.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let Parts { config, token, replicate, vault, store, state_dir, events, offers } = parts;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let settings = config.site().identity.clone();
        let (identity, keeper) = EdgeIdentity::new(&settings);
        let wake_registration = Arc::new(Notify::new());
        let registered = vault.state();
        let reader = Reader::open(&state_dir, config.kept_digest());
        let (generation, username) = reader.kept();
        let knows = registered.registration.as_ref().is_some_and(|known| reader.knows(&known.state));
        let follow = Follow::new(Position::after_start(generation, knows));
        let accepted = Accepted::default();
        if let Some(username) = username {
            accepted.set(username.to_owned());
        }
        let shared = Arc::new(Shell {
            config: config.clone(),
            vault: vault.clone(),
            store: store.clone(),
            events: events.clone(),
            token: token.clone(),
            identity: identity.clone(),
            standing: watch::Sender::new(Standing::Good),
            refusals: Arc::default(),
            accepted: accepted.clone(),
            follow: follow.clone(),
            wake_registration: wake_registration.clone(),
            wake_replication: replicate,
            wake_heartbeat: Arc::new(Notify::new()),
        });
        let clock = |scheduler, wake: &Arc<Notify>, pick| {
            Clock::new(scheduler, events.clone(), config.subscribe(), pick, wake.clone(), stop.clone())
        };

        let source = match &settings.source {
            IdentitySource::Token => "token",
            IdentitySource::WorkloadApi { .. } => "workload_api",
            IdentitySource::Builtin { .. } => "builtin",
        };
        events.status().update(|status| source.clone_into(&mut status.identity.source));
        if let Some(registration) = registered.registration.as_ref() {
            events.emit(Event::Registered { name: registration::satellite_name(registration) });
        }
        let registration =
            clock(Scheduler::Registration, &wake_registration, |config| &config.register_satellite_interval);
        let replication = clock(Scheduler::Replication, &shared.wake_replication, |config| {
            &config.state_replication_interval
        });
        let heartbeat =
            clock(Scheduler::Heartbeat, &shared.wake_heartbeat, |config| &config.heartbeat_interval);

        let others = [shared.wake_replication.clone(), shared.wake_heartbeat.clone()];
        let keep = sources::keep(keeper, config.clone(), vault.clone(), token.clone(), events.clone());
        let tell =
            sources::tell(identity, settings.source, events.clone(), wake_registration.clone(), others);
        let mut spawned = vec![
            tasks.spawn(stop.clone().run_until_cancelled_owned(keep)).abort_handle(),
            tasks.spawn(stop.clone().run_until_cancelled_owned(tell)).abort_handle(),
            tasks
                .spawn(stop.clone().run_until_cancelled_owned(follow_token(token, wake_registration)))
                .abort_handle(),
        ];

        let (job, mut connection) = (shared.clone(), Connection::default());
        spawned.push(
            tasks.spawn(registration.run(async move || job.register(&mut connection).await)).abort_handle(),
        );
        let mut reconciler = Reconciler::new(
            reconcile::Parts {
                config,
                vault,
                store,
                events,
                identity: shared.identity.clone(),
                standing: shared.standing.subscribe(),
                refusals: shared.refusals.clone(),
                accepted,
                follow,
                wake_heartbeat: shared.wake_heartbeat.clone(),
                offers,
            },
            reader,
            &state_dir,
        );
        spawned.push(tasks.spawn(replication.run(async move || reconciler.run().await)).abort_handle());
        let wake_replication = shared.wake_replication.clone();
        let mut beat = heartbeat::Beat::default();
        spawned
            .push(tasks.spawn(heartbeat.run(async move || shared.heartbeat(&mut beat).await)).abort_handle());
        tasks.close();
        Self { stop, tasks, wake_replication, aborts: spawned }
    }

    /// Wakes the replication now.
    pub fn replicate_now(&self) {
        self.wake_replication.notify_one();
    }

    /// Ends the schedulers. Transfers under way stop where they are; their partial files stay and are continued after
    /// the next start. What has not ended `within` this time is dropped.
    pub async fn shutdown(self, within: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(within, self.tasks.wait()).await.is_err() {
            tracing::warn!("a scheduler did not end in time and is dropped");
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.stop.cancel();
        for abort in &self.aborts {
            abort.abort();
        }
    }
}

/// A new token is tried at once.
async fn follow_token(mut token: watch::Receiver<Option<SecretString>>, wake: Arc<Notify>) {
    while token.changed().await.is_ok() {
        wake.notify_one();
    }
}

/// Which of the settings is a scheduler's schedule.
type Pick = fn(&Effective) -> &fleet_protocol::schedule::Schedule;

/// The configuration as the schedulers watch it.
type ConfigWatch = watch::Receiver<Shared>;
