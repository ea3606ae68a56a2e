//! When a scheduler's job runs.

use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::schedule::Schedule;
use jiff::{Timestamp, Zoned};
use rand::RngExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ConfigWatch, Pick};
use crate::events::{Event, Events, Scheduler};

/// The longest wait before the first try after a failure.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// Failures of a job with a short interval are tried again after this long at most …
const SHORT_RETRY: Duration = Duration::from_secs(60);
/// … and those of one with a long interval after this long.
const LONG_RETRY: Duration = Duration::from_secs(300);
/// A schedule that never comes again is looked at this often: it may change.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// How far jitter moves a run, as a part of the wait, to either side.
const JITTER: f64 = 0.1;
/// A cron pattern names a moment for the whole fleet: each satellite comes this much later at most.
const CRON_SPREAD: Duration = Duration::from_secs(5);

/// How a run ended, and when the next one is.
#[derive(Debug)]
pub(crate) enum Next {
    /// Good; again by the schedule.
    Again,
    /// Good so far, and there is more to do at once.
    AtOnce,
    /// Good; again after this time, whatever the schedule.
    After(Duration),
    /// It cannot do anything until it is woken or the configuration changes.
    Park,
    /// It has done its work, until something wakes it.
    Done,
    /// It failed.
    Failed {
        /// Why.
        error: String,
        /// Not to be tried again before this has passed.
        not_before: Option<Duration>,
        /// To be tried again when this has passed, at the latest.
        within: Option<Duration>,
    },
}

impl Next {
    /// It failed; the next try is left to the schedule.
    pub(crate) fn failed(error: String, not_before: Option<Duration>) -> Self {
        Self::Failed { error, not_before, within: None }
    }
}

/// Runs one job by its schedule.
#[derive(Debug)]
pub(super) struct Clock {
    scheduler: Scheduler,
    events: Events,
    config: ConfigWatch,
    pick: Pick,
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl Clock {
    pub(super) fn new(
        scheduler: Scheduler,
        events: Events,
        config: ConfigWatch,
        pick: Pick,
        wake: Arc<Notify>,
        stop: CancellationToken,
    ) -> Self {
        Self { scheduler, events, config, pick, wake, stop }
    }

    /// Runs until the core stops. A run that is under way then is dropped where it stands.
    pub(super) async fn run(mut self, mut job: impl AsyncFnMut() -> Next) {
        let scheduler = self.scheduler;
        let mut failures = 0_u32;
        let schedule = (self.pick)(&self.config.borrow()).to_string();
        tracing::info!(scheduler = scheduler.name(), %schedule, "scheduler starts");
        loop {
            // What wakes the job from here on concerns the next run.
            let schedule = (self.pick)(&self.config.borrow_and_update()).clone();
            let began = Instant::now();
            self.events.emit(Event::Started { scheduler });
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                next = job() => next,
            };
            let error = match &next {
                Next::Failed { error, .. } => Some(error.clone()),
                _ => None,
            };
            failures = if error.is_some() { failures.saturating_add(1) } else { 0 };
            self.events.emit(Event::Finished { scheduler, took: began.elapsed(), error });
            let wait = match next {
                Next::Done => {
                    self.events.emit(Event::Retired { scheduler });
                    None
                }
                Next::AtOnce => Some((Duration::ZERO, Instant::now())),
                Next::After(wait) => Some((wait, Instant::now())),
                Next::Park => None,
                // By the schedule from the beginning of the run: a run that takes long does not shift the next.
                Next::Again => Some((delay(&schedule, &Zoned::now(), 0, chance()), began)),
                Next::Failed { not_before, within, .. } => {
                    let wait = delay(&schedule, &Zoned::now(), failures, chance());
                    let wait = wait.min(within.unwrap_or(wait));
                    Some((wait.max(not_before.unwrap_or_default()), Instant::now()))
                }
            };
            if !self.wait(schedule, wait).await {
                return;
            }
        }
    }

    /// Waits until the next run is due; `false` when there is none any more. `wait` counts from a moment.
    async fn wait(&mut self, mut schedule: Schedule, wait: Option<(Duration, Instant)>) -> bool {
        let mut due = wait.map(|(wait, from)| from + wait);
        loop {
            if let Some(due) = due {
                let left = due.saturating_duration_since(Instant::now());
                let next = Timestamp::now().checked_add(left).unwrap_or(Timestamp::MAX);
                self.events.emit(Event::Scheduled {
                    scheduler: self.scheduler,
                    schedule: schedule.to_string(),
                    next,
                });
            }
            let sleep = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                () = self.wake.notified() => return true,
                () = sleep => return true,
                changed = self.config.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    let new = (self.pick)(&self.config.borrow_and_update()).clone();
                    // What was parked may have what it lacked; what waits, waits by the new schedule if that is sooner.
                    let Some(old) = due else { return true };
                    if new != schedule {
                        tracing::info!(scheduler = self.scheduler.name(), schedule = %new, "rescheduled");
                        let candidate = Instant::now() + delay(&new, &Zoned::now(), 0, chance());
                        due = Some(if new.interval() < schedule.interval() { candidate.min(old) } else { candidate });
                        schedule = new;
                    }
                }
            }
        }
    }
}

fn chance() -> f64 {
    rand::rng().random::<f64>()
}

/// How long to wait for the next run. `failures` counts the failed runs in a row; `chance`, from 0 to 1, is the jitter.
pub(super) fn delay(schedule: &Schedule, now: &Zoned, failures: u32, chance: f64) -> Duration {
    let regular = schedule.next_after(now).unwrap_or(NEVER);
    let around = |wait: Duration| wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance);
    if failures == 0 {
        return match schedule.interval() {
            Some(_) => around(regular),
            None => regular + CRON_SPREAD.mul_f64(chance),
        };
    }
    let first = regular.min(FIRST_RETRY);
    let most = regular.clamp(SHORT_RETRY, LONG_RETRY);
    around(first.saturating_mul(2_u32.saturating_pow((failures - 1).min(16))).min(most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noon() -> Zoned {
        "2026-11-21T12:00:00+00:00[UTC]".parse().unwrap()
    }

    #[test]
    fn failures_wait_longer_and_longer_up_to_a_bound() {
        let every = |text: &str| text.parse::<Schedule>().unwrap();
        let waits = |schedule: &Schedule| -> Vec<u64> {
            (0..8).map(|failures| delay(schedule, &noon(), failures, 0.5).as_secs()).collect()
        };
        assert_eq!(waits(&every("@every 10s")), [10, 10, 20, 40, 60, 60, 60, 60]);
        assert_eq!(waits(&every("@every 30s")), [30, 30, 60, 60, 60, 60, 60, 60]);
        assert_eq!(waits(&every("@every 1h")), [3600, 30, 60, 120, 240, 300, 300, 300]);
    }

    #[test]
    fn a_cron_pattern_is_met_and_spread() {
        let schedule: Schedule = "30 12 * * *".parse().unwrap();
        assert_eq!(delay(&schedule, &noon(), 0, 0.0), Duration::from_secs(1800));
        assert_eq!(delay(&schedule, &noon(), 0, 1.0), Duration::from_secs(1805));
    }

    proptest! {
        #[test]
        fn a_wait_is_never_absurd(seconds in 1_u64..100_000, failures in 0_u32..u32::MAX, chance in 0.0..1.0_f64) {
            let schedule = Schedule::every(Duration::from_secs(seconds));
            let wait = delay(&schedule, &noon(), failures, chance);
            prop_assert!(wait >= Duration::from_millis(900));
            let most = if failures == 0 { Duration::from_secs(seconds) } else { LONG_RETRY.min(Duration::from_secs(seconds.max(60))) };
            prop_assert!(wait <= most.mul_f64(1.1 + f64::EPSILON));
        }
    }
}
