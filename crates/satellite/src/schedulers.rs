//! The three schedulers of the satellite: registration, replication, heartbeat.
//!
//! Each is one task with one job. It runs at once, then by its schedule with a little jitter; after a failure sooner or
//! later by a bounded backoff. It is woken early by what concerns it: registration wakes the other two, and a changed
//! configuration reschedules. [`Core`] owns the tasks: none outlives it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Effective, LiveConfig, Shared};
use crate::events::{Event, Events, Scheduler};
use crate::ground_control::{GroundControl, GroundControlError};
use crate::heartbeat::{self, ProcessMeter};
use crate::reconcile::Reconciler;
use crate::registration::{self, RegistrationError};
use crate::sealed::Vault;

mod clock;

use clock::Clock;
pub(crate) use clock::Next;

/// How long a refused token waits for the next try at least: somebody has to do something first.
const REFUSED_TOKEN_WAIT: Duration = Duration::from_secs(300);

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
}

/// What the schedulers share.
struct Shell {
    config: LiveConfig,
    vault: Vault,
    store: blob_store::Store,
    events: Events,
    token: watch::Receiver<Option<SecretString>>,
    wake_replication: Arc<Notify>,
    wake_heartbeat: Arc<Notify>,
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
        let Parts { config, token, replicate, vault, store, state_dir, events } = parts;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let shared = Arc::new(Shell {
            config: config.clone(),
            vault: vault.clone(),
            store: store.clone(),
            events: events.clone(),
            token: token.clone(),
            wake_replication: replicate,
            wake_heartbeat: Arc::new(Notify::new()),
        });
        let clock = |scheduler, wake: &Arc<Notify>, pick| {
            Clock::new(scheduler, events.clone(), config.subscribe(), pick, wake.clone(), stop.clone())
        };

        let registered = vault.state();
        if let Some(registration) = registered.registration.as_ref() {
            events.emit(Event::Registered { name: registration::satellite_name(registration) });
        }
        let wake_registration = Arc::new(Notify::new());
        let registration =
            clock(Scheduler::Registration, &wake_registration, |config| &config.register_satellite_interval);
        let replication = clock(Scheduler::Replication, &shared.wake_replication, |config| {
            &config.state_replication_interval
        });
        let heartbeat =
            clock(Scheduler::Heartbeat, &shared.wake_heartbeat, |config| &config.heartbeat_interval);

        let job = shared.clone();
        let first = tasks.spawn(registration.run(async move || job.register().await));
        let mut reconciler =
            Reconciler::new(config, vault, store, &state_dir, events, shared.wake_heartbeat.clone());
        let second = tasks.spawn(replication.run(async move || reconciler.run().await));
        let wake_replication = shared.wake_replication.clone();
        let (mut meter, mut connection) = (ProcessMeter::default(), Connection::default());
        let third =
            tasks.spawn(heartbeat.run(async move || shared.heartbeat(&mut meter, &mut connection).await));
        let fourth =
            tasks.spawn(stop.clone().run_until_cancelled_owned(follow_token(token, wake_registration)));
        tasks.close();
        let mut aborts: Vec<_> =
            [first, second, third].iter().map(tokio::task::JoinHandle::abort_handle).collect();
        aborts.push(fourth.abort_handle());
        Self { stop, tasks, wake_replication, aborts }
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

impl Shell {
    async fn register(&self) -> Next {
        let token = self.token.borrow().clone();
        let state = self.vault.state();
        if !registration::is_due(&state, token.as_ref()) {
            return Next::Done;
        }
        let config = self.config.current();
        let Some(url) = &config.ground_control_url else {
            self.events.emit(Event::NotConfigured {
                what: "no ground control is configured: set GROUND_CONTROL_URL".to_owned(),
            });
            return Next::Park;
        };
        let Some(token) = token else {
            self.events.emit(Event::NotConfigured {
                what: "this satellite holds no credentials and no token: make a token at ground control and start it with TOKEN"
                    .to_owned(),
            });
            return Next::Park;
        };
        let ground_control = match GroundControl::new(url, &config.tls, config.use_unsecure) {
            Ok(ground_control) => ground_control,
            Err(error) => return Next::Failed { error: error.to_string(), not_before: None },
        };
        match registration::register(&ground_control, &token, &self.vault).await {
            Ok(answer) => {
                self.events.emit(Event::Registered { name: registration::satellite_name(&answer) });
                self.wake_replication.notify_one();
                self.wake_heartbeat.notify_one();
                Next::Done
            }
            Err(error) => {
                let mut not_before = error.retry_after();
                if let RegistrationError::TokenRefused(_) = error {
                    match &state.registration {
                        None => self.events.emit(Event::TokenRefused { reason: error.to_string() }),
                        // What is held may be good all the same.
                        Some(_) => self.events.status().warn(format!("the new token was not taken: {error}")),
                    }
                    let wait = config
                        .register_satellite_interval
                        .interval()
                        .map_or(REFUSED_TOKEN_WAIT, |interval| (interval * 10).min(REFUSED_TOKEN_WAIT));
                    not_before = Some(not_before.unwrap_or_default().max(wait));
                }
                Next::Failed { error: error.to_string(), not_before }
            }
        }
    }

    async fn heartbeat(&self, meter: &mut ProcessMeter, connection: &mut Connection) -> Next {
        let state = self.vault.state();
        let config = self.config.current();
        let (Some(registration), Some(url)) = (&state.registration, &config.ground_control_url) else {
            return Next::Park;
        };
        let ground_control = match connection.to(url, &config) {
            Ok(ground_control) => ground_control,
            Err(error) => return Next::Failed { error: error.to_string(), not_before: None },
        };
        let figures = meter.read(config.metrics, &self.store);
        let message = self
            .events
            .status()
            .read(|status| heartbeat::compose(status, &config, figures, jiff::Timestamp::now()));
        // A refusal, 401 too, may be an outage of the registry's database: the credentials are kept.
        match ground_control
            .heartbeat(&registration.auth.username, &registration.auth.password, &message)
            .await
        {
            Ok(answer) => {
                self.events.emit(Event::HeartbeatTaken);
                for what in answer.events {
                    self.events.emit(Event::Asked { what });
                }
                Next::Again
            }
            Err(error) => Next::Failed { error: error.to_string(), not_before: error.retry_after() },
        }
    }
}

/// The client of the heartbeats: kept, so that its connection is, until the settings change.
#[derive(Debug, Default)]
struct Connection(Option<(url::Url, crate::config::TlsTrust, bool, GroundControl)>);

impl Connection {
    fn to(&mut self, url: &url::Url, config: &Effective) -> Result<GroundControl, GroundControlError> {
        if let Some((known, tls, unsecure, ground_control)) = &self.0
            && known == url
            && *tls == config.tls
            && *unsecure == config.use_unsecure
        {
            return Ok(ground_control.clone());
        }
        let ground_control = GroundControl::new(url, &config.tls, config.use_unsecure)?;
        self.0 = Some((url.clone(), config.tls.clone(), config.use_unsecure, ground_control.clone()));
        Ok(ground_control)
    }
}

/// Which of the settings is a scheduler's schedule.
type Pick = fn(&Effective) -> &fleet_protocol::schedule::Schedule;

/// The configuration as the schedulers watch it.
type ConfigWatch = watch::Receiver<Shared>;
