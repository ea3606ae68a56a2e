//! One simulated satellite: it connects, sends heartbeats, follows what it is told, and has accidents.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_protocol::heartbeat::REFRESH_CREDENTIALS;
use fleet_protocol::{Desired, Heartbeat, HeartbeatAnswer};
use jiff::{SignedDuration, Timestamp};
use testbed::Result;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};

use super::connection::{Answer, Connection, Route, post};
use super::member::Member;
use super::script::{Event, Nature, Script};
use super::stats::Of;
use super::world::{Content, Order, World};

/// How much longer than it asked to wait a satellite is patient.
const PATIENCE: Duration = Duration::from_secs(20);
/// The least time between two heartbeats of a satellite that is answered at once without having been told anything.
const BREATH: Duration = Duration::from_secs(1);

/// A satellite's own state.
pub(super) struct Satellite {
    world: Arc<World>,
    number: usize,
    member: Arc<Member>,
    nature: Nature,
    script: Script,
    orders: watch::Receiver<Order>,
    /// What it has.
    content: Arc<Content>,
    /// What it was told to have and has.
    desired: Desired,
    /// Whether Ground Control said that it knows the list of images.
    known: bool,
    failures: u32,
    /// Its next accident at the present rate of churn.
    next: Option<(Instant, Event)>,
    rate: f64,
}

/// Why a satellite stopped talking.
enum Ended {
    /// It is to be silent.
    Ordered,
    /// An accident.
    Event(Event),
    /// Something that should not have happened.
    Failed(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Satellite {
    /// The satellite with this number, which has `content` and knows nothing yet.
    pub(super) fn new(
        world: &Arc<World>,
        number: usize,
        member: &Arc<Member>,
        content: &Arc<Content>,
    ) -> Self {
        let (script, nature) = Script::new(world.seed, number, &world.shares);
        Self {
            world: Arc::clone(world),
            number,
            member: Arc::clone(member),
            nature,
            script,
            orders: world.orders.subscribe(),
            content: Arc::clone(content),
            desired: Desired::default(),
            known: false,
            failures: 0,
            next: None,
            rate: 0.0,
        }
    }

    /// What it is from its birth.
    pub(super) fn nature(&self) -> &Nature {
        &self.nature
    }

    /// Lives until it is dropped.
    pub(super) async fn live(mut self) {
        let mut first = true;
        loop {
            let cut_off = self.nature.partitioned;
            if !self.until(|order| order.up && !(cut_off && order.partition)).await {
                return;
            }
            if std::mem::take(&mut first) {
                // A fleet has not been started by one hand: its heartbeats are spread over the interval.
                sleep(self.world.interval().mul_f64(self.nature.phase)).await;
            }
            let ended = match self.connect().await {
                Ok(connection) => self.talk(connection).await,
                Err(error) => Ended::from(error),
            };
            match ended {
                Ended::Ordered | Ended::Event(Event::Reconnect) => {}
                Ended::Event(Event::Reboot) => {
                    self.desired = Desired::default();
                    self.known = false;
                }
                Ended::Failed(reason) => {
                    self.world.stats.failed(&reason);
                    self.failures += 1;
                    sleep(self.script.backoff(self.failures)).await;
                }
            }
        }
    }

    /// Waits for such an order; `false` where none will come any more.
    async fn until(&mut self, wanted: impl FnMut(&Order) -> bool) -> bool {
        self.orders.wait_for(wanted).await.is_ok()
    }

    async fn connect(&self) -> io::Result<Connection> {
        let begin = Instant::now();
        let route = Route::of(self.world.to, self.number);
        let opened = timeout(PATIENCE, Connection::open(route, &self.member.tls)).await;
        let connection = opened.map_err(|_| io::Error::other("no handshake in time"))??;
        self.world.stats.took(Of::Connected, begin.elapsed());
        Ok(connection)
    }

    /// Heartbeats on one connection, until something ends it.
    async fn talk(&mut self, mut connection: Connection) -> Ended {
        loop {
            match self.beat(&mut connection).await {
                Ok(pause) => {
                    self.failures = 0;
                    if let Some(ended) = self.pause(pause).await {
                        return self.out(connection, ended).await;
                    }
                }
                Err(ended) => return self.out(connection, ended).await,
            }
        }
    }

    /// In a partition nobody says goodbye: the connection stays, and nobody reads from it.
    async fn out(&mut self, connection: Connection, ended: Ended) -> Ended {
        if self.nature.partitioned && self.orders.borrow().partition {
            self.until(|order| !order.partition).await;
        }
        drop(connection);
        ended
    }

    /// One heartbeat; gives how long to wait until the next.
    async fn beat(&mut self, connection: &mut Connection) -> Result<Duration, Ended> {
        let wait = self.nature.waits.then_some(self.world.wait);
        let request = self.request(wait);
        let begin = Instant::now();
        connection.send(&request).await?;
        drop(request);
        let asked = Duration::from_secs(wait.unwrap_or_default().into());
        let answer = tokio::select! {
            answer = timeout(asked + PATIENCE, connection.receive()) => {
                answer.map_err(|_| Ended::Failed("no answer in time".to_owned()))??
            }
            ended = disturbed(&mut self.orders, &self.nature, &mut self.script, &mut self.next, &mut self.rate) => {
                return Err(ended);
            }
        };
        self.heard(connection, answer, begin).await
    }

    async fn heard(
        &mut self,
        connection: &mut Connection,
        answer: Answer,
        begin: Instant,
    ) -> Result<Duration, Ended> {
        let took = begin.elapsed();
        let answer = answer.success().map_err(Ended::Failed)?;
        let waited = answer.waited.map(|seconds| Duration::from_secs(seconds.into()));
        let answer = HeartbeatAnswer::parse(&answer.body)
            .map_err(|error| Ended::Failed(format!("the answer does not parse: {error}")))?;
        self.world.stats.answered();
        self.world.told(self.number).answered = Some(Instant::now());
        self.known = answer.inventory_digest.as_ref() == Some(&self.content.inventory);
        let news = match &answer.desired {
            Some(desired) => self.heed(desired).await.map_err(|error| Ended::Failed(error.to_string()))?,
            None => false,
        };
        if answer.events.iter().any(|event| event == REFRESH_CREDENTIALS) {
            let fresh = connection.ask(&post("/satellites/credentials", b"{}", None)).await?;
            fresh.success().map_err(Ended::Failed)?;
        }
        Ok(match waited {
            None => {
                self.world.stats.took(Of::Acknowledged, took);
                self.world.interval().saturating_sub(took)
            }
            Some(_) if news => Duration::ZERO,
            Some(asked) if took >= asked => {
                self.world.stats.took(Of::Late, took.saturating_sub(asked));
                Duration::ZERO
            }
            Some(_) => BREATH,
        })
    }

    /// Follows what it is told; gives whether that is new.
    async fn heed(&mut self, desired: &Desired) -> Result<bool> {
        if *desired == self.desired {
            return Ok(false);
        }
        if desired.generation < self.desired.generation {
            self.world.broke(format!(
                "satellite {} has generation {} and was told {}",
                self.number, self.desired.generation, desired.generation
            ));
            return Ok(false);
        }
        let (first, same) = (self.desired == Desired::default(), self.desired.groups == desired.groups);
        {
            let mut told = self.world.told(self.number);
            told.desired = desired.clone();
            told.at = Some(Instant::now());
        }
        if let Some(document) = desired.groups.get(&self.world.group).filter(|_| !same) {
            let content = self.world.content(document).await?;
            if !first {
                sleep(self.script.within(self.world.reconcile)).await;
            }
            self.known &= content.inventory == self.content.inventory;
            self.content = content;
        }
        self.desired = desired.clone();
        Ok(true)
    }

    async fn pause(&mut self, pause: Duration) -> Option<Ended> {
        tokio::select! {
            () = sleep(pause) => None,
            ended = disturbed(&mut self.orders, &self.nature, &mut self.script, &mut self.next, &mut self.rate) => Some(ended),
        }
    }

    fn request(&self, wait: Option<u32>) -> Vec<u8> {
        let lists = !(self.known && self.nature.waits);
        let report = report(&self.member.name, self.world.wait, &self.content, lists);
        let skew = SignedDuration::from_secs(self.nature.skew);
        let digest = |digest: Option<oci::Digest>| digest.map_or_else(String::new, |one| one.to_string());
        let report = Heartbeat {
            request_created_time: Timestamp::now().checked_add(skew).ok(),
            latest_state_digest: digest(self.desired.state),
            latest_config_digest: digest(self.desired.config),
            generation: self.desired.generation,
            inventory_digest: match self.nature.waits {
                true => self.content.inventory.clone(),
                false => String::new(),
            },
            ..report
        };
        // A report is text and numbers: it can always be written.
        post("/satellites/sync", &serde_json::to_vec(&report).unwrap_or_default(), wait)
    }
}

/// The report of a satellite that has these images.
pub(super) fn report(name: &str, interval: u32, content: &Content, lists: bool) -> Heartbeat {
    Heartbeat {
        name: name.to_owned(),
        activity: "idle".to_owned(),
        state_report_interval: format!("@every {interval}s"),
        memory_used_bytes: 12_000_000,
        storage_used_bytes: content.images.iter().map(|image| image.size_bytes).sum(),
        cpu_percent: 0.1,
        last_sync_duration_ms: 120,
        image_count: content.images.len() as u64,
        cached_images: if lists { content.images.clone() } else { Vec::new() },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Heartbeat::default()
    }
}

/// Returns when the satellite is to stop talking, by an order or by an accident.
async fn disturbed(
    orders: &mut watch::Receiver<Order>,
    nature: &Nature,
    script: &mut Script,
    next: &mut Option<(Instant, Event)>,
    rate: &mut f64,
) -> Ended {
    loop {
        let order = *orders.borrow_and_update();
        if !order.up || (order.partition && nature.partitioned) {
            return Ended::Ordered;
        }
        if order.churn.total_cmp(rate).is_ne() {
            *rate = order.churn;
            *next = (order.churn > 0.0).then(|| {
                let (after, event) = script.next(order.churn);
                (Instant::now() + after, event)
            });
        }
        let accident = async {
            match *next {
                Some((at, event)) => {
                    sleep_until(at.into()).await;
                    event
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = accident => {
                let (after, following) = script.next(*rate);
                *next = Some((Instant::now() + after, following));
                return Ended::Event(event);
            }
            changed = orders.changed() => if changed.is_err() { return Ended::Ordered },
        }
    }
}
