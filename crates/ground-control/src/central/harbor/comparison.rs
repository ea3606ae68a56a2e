//! Robots are compared with Harbor's list, again and again: what somebody deleted there is made anew before its site misses it
//! for long, and what somebody disabled, or nobody knows, is shown.

use std::sync::Arc;
use std::time::Duration;

use ::harbor::{Client, Error, Robot, RobotId};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::keeper::KeeperHandle;
use super::login::{Login, LoginError};
use crate::domain::StoreError;
use crate::domain::harbor::comparison::{Difference, KnownRobot, ListedRobot, compare};
use crate::metrics::{Job, Metrics};
use crate::store::SharedStore;

/// One replica compares for all.
const LEASE: &str = "harbor-comparison";
/// How often is looked whether it is time.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long is waited where nothing was compared: another replica did, or something failed.
const AGAIN: Duration = Duration::from_secs(300);
/// How many records are read at once.
const PAGE: u32 = 1000;
/// How long after it was made a robot may still be without its record.
const RECENT: SignedDuration = SignedDuration::from_mins(10);
/// The most names that one line of the log has.
const MOST_NAMES: usize = 10;

/// Compares robots with Harbor's list; [`Comparison::run`] is its task.
#[derive(Debug)]
pub struct Comparison {
    store: SharedStore,
    login: Arc<Login>,
    keeper: KeeperHandle,
    interval: Duration,
    /// Who holds the lease.
    holder: String,
}

/// Why nothing was compared. Nothing follows from that.
#[derive(Debug, thiserror::Error)]
pub enum ComparisonError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Our own account.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Harbor.
    #[error(transparent)]
    Harbor(#[from] Error),
}

/// What a comparison found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compared {
    /// Robots that are not at Harbor any more, and are made anew.
    pub lost: u64,
    /// Robots that somebody disabled there.
    pub disabled: u64,
    /// Robots there that look like ours, and of which there is no record.
    pub unknown: u64,
}

impl Comparison {
    /// Of what the store knows with the Harbor of this login, once in each `interval`.
    pub(super) fn new(
        store: SharedStore,
        login: Arc<Login>,
        keeper: KeeperHandle,
        interval: Duration,
    ) -> Self {
        Self { store, login, keeper, interval, holder: format!("{:016x}", rand::random::<u64>()) }
    }

    /// Compares until `stop`: in each interval, and when Harbor is back after it was away.
    pub async fn run(self, metrics: Metrics, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut due, mut was_away) = (tokio::time::Instant::now(), false);
        // A start has other things to do first.
        ticks.reset();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let away = self.login.is_away();
            let is_back = std::mem::replace(&mut was_away, away) && !away;
            if away || (!is_back && tokio::time::Instant::now() < due) {
                continue;
            }
            let run = metrics.job(Job::Comparison);
            let compared = tokio::select! {
                () = stop.cancelled() => return,
                compared = self.turn(is_back) => compared,
            };
            run.ended(compared.is_ok());
            let pause =
                if matches!(compared, Ok(Some(_))) { self.interval } else { self.interval.min(AGAIN) };
            due = tokio::time::Instant::now() + pause;
            match compared {
                Ok(Some(compared)) => metrics.set_astray_robots(compared),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "robots not compared with harbor, tried again later"),
            }
        }
    }

    /// Compares where no other replica did so in this interval.
    async fn turn(&self, is_back: bool) -> Result<Option<Compared>, ComparisonError> {
        let now = Timestamp::now();
        let interval = SignedDuration::try_from(self.interval).unwrap_or(SignedDuration::MAX);
        let until = now.checked_add(interval).unwrap_or(Timestamp::MAX);
        let taken = self.store.take_lease(LEASE, &self.holder, now, until).await?;
        // Each replica sees by itself that Harbor was away, and comparing twice is no harm.
        if taken.is_err() && !is_back {
            return Ok(None);
        }
        self.look().await.map(Some)
    }

    /// Compares once.
    ///
    /// # Errors
    /// [`ComparisonError`]; nothing was changed then, or part of it.
    pub async fn look(&self) -> Result<Compared, ComparisonError> {
        let before = self.known().await?;
        let client = self.login.client().await?;
        let recent = Timestamp::now().checked_sub(RECENT).unwrap_or(Timestamp::MIN);
        let listed: Vec<ListedRobot> =
            client.robots().await?.into_iter().map(|robot| listed(robot, recent)).collect();
        let after = self.known().await?;
        let difference = compare(&before, &listed, &after);
        drop((before, listed, after));
        tell(&difference);
        let mut compared = Compared {
            lost: 0,
            disabled: difference.disabled.len().try_into().unwrap_or(u64::MAX),
            unknown: difference.unknown.len().try_into().unwrap_or(u64::MAX),
        };
        for robot in &difference.missing {
            if self.make_anew(&client, robot).await? {
                compared.lost += 1;
            }
        }
        Ok(compared)
    }

    async fn known(&self) -> Result<Vec<KnownRobot>, StoreError> {
        let mut all: Vec<KnownRobot> = Vec::new();
        loop {
            let last = all.last().map(|robot| robot.id.clone()).unwrap_or_default();
            let page = self.store.known_robots(&last, PAGE).await?;
            let more = page.len() == PAGE as usize;
            all.extend(page);
            if !more {
                return Ok(all);
            }
        }
    }

    /// A robot that was not listed is asked for by itself: only what Harbor says not to know is gone.
    async fn make_anew(&self, client: &Client, robot: &KnownRobot) -> Result<bool, ComparisonError> {
        match client.robot(RobotId(robot.harbor_id)).await {
            Ok(_) => return Ok(false),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        tracing::warn!(
            satellite = %robot.satellite_name, robot = robot.harbor_id,
            "somebody deleted a robot at harbor, another one is made"
        );
        self.store.robot_gone(&robot.id).await?;
        let change = format!("gone {}", robot.id);
        self.store.ask_site(&robot.satellite_name, &change, Timestamp::now()).await?;
        self.keeper.wake();
        Ok(true)
    }
}

fn listed(robot: Robot, recent: Timestamp) -> ListedRobot {
    ListedRobot {
        harbor_id: robot.id.0,
        name: robot.name,
        description: robot.description,
        disabled: robot.disabled,
        recent: robot.created_at > recent,
    }
}

fn tell(difference: &Difference) {
    if !difference.disabled.is_empty() {
        let names: Vec<&str> =
            difference.disabled.iter().take(MOST_NAMES).map(|(_, name)| name.as_str()).collect();
        tracing::warn!(
            robots = names.join(", "),
            count = difference.disabled.len(),
            "robots of satellites are disabled at harbor, enable or delete them there"
        );
    }
    if !difference.unknown.is_empty() {
        let names: Vec<&str> = difference.unknown.iter().take(MOST_NAMES).map(String::as_str).collect();
        tracing::warn!(
            robots = names.join(", "),
            count = difference.unknown.len(),
            "robots at harbor look like ours and are recorded nowhere, they are left alone"
        );
    }
}
