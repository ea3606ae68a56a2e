//! When the next heartbeat is sent, and how long its answer may wait for a change.
//!
//! A Ground Control that knows waiting is asked again as soon as it has answered: the link is one request that is always
//! under way. One that does not is asked by the schedule, as deployed ones are. What is new here is told early, and not more
//! often than every few seconds: the waiting request is given up and another one sent, so that there is one connection
//! for each satellite. Decisions only.

use std::time::Duration;

use fleet_protocol::heartbeat::MAX_WAIT_SECONDS;
use fleet_protocol::schedule::Schedule;

use crate::follow::Heard;

/// The wait of the first request, which shall soon tell how things stand.
const PROBE_SECONDS: u32 = 1;
/// While something is on its way its progress is told this often.
const BUSY_SECONDS: u32 = 10;
/// By how much a wait is shortened at most, as a part of it, so that a fleet does not beat in step.
const SPREAD: f64 = 0.2;
/// Requests to a Ground Control that knows waiting begin this far apart at least.
pub(super) const GAP: Duration = Duration::from_secs(1);
/// A request is given up for something new when it is at least this old.
const REPORT: Duration = Duration::from_secs(3);
/// The longest of the waits that double.
const MOST: Duration = Duration::from_secs(60);
/// After a change the next request follows within this time, or when what came of the change is there to be told: so most
/// changes are answered without a request that is given up.
const AFTER_CHANGE: Duration = Duration::from_secs(1);
/// After the first failure it is tried again between once and this many times this time.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_SPREAD: f64 = 5.0;

/// What is known from the answers so far.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// The last request was answered.
    settled: bool,
    /// Whether the last answer came from one that tells what is desired, or knows waiting; `None` before the first.
    follows: Option<bool>,
    /// It knows waiting. It may have nothing to tell for the moment.
    waits: bool,
    /// Answers in a row that came before their time and told nothing new.
    hasty: u32,
    /// Requests in a row that were given up.
    given_up: u32,
}

impl Pace {
    /// How long the next answer may wait, in seconds; `None` asks for no waiting. `chance` is from 0 to 1.
    pub(super) fn wait(&self, schedule: &Schedule, busy: bool, chance: f64) -> Option<u32> {
        if self.follows == Some(false) {
            return None;
        }
        if !self.settled {
            return Some(PROBE_SECONDS);
        }
        // Not longer than the interval: whoever hears nothing for a few of them takes the satellite for gone.
        let interval = schedule.interval().map_or(MAX_WAIT_SECONDS, |interval| {
            u32::try_from(interval.as_secs()).unwrap_or(u32::MAX).clamp(1, MAX_WAIT_SECONDS)
        });
        let most = if busy { interval.min(BUSY_SECONDS) } else { interval };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and MAX_WAIT_SECONDS"
        )]
        let less = (f64::from(most) * SPREAD * chance) as u32;
        Some((most - less).max(1))
    }

    /// Whether the Ground Control of the last answer knows waiting.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// How old a request has to be before it is given up for something new. On a link on which requests are given up
    /// again and again it grows, so that one gets through.
    pub(super) fn report_after(&self) -> Duration {
        REPORT.saturating_mul(2_u32.saturating_pow(self.given_up.min(16))).min(MOST)
    }

    /// A request was given up.
    pub(super) fn gave_up(&mut self) {
        self.given_up = self.given_up.saturating_add(1);
    }

    /// An answer came after `took`. Tells how soon the next request follows; `None` leaves that to the schedule.
    pub(super) fn answered(
        &mut self,
        heard: Heard,
        waits: bool,
        asked: Option<u32>,
        took: Duration,
        chance: f64,
    ) -> Option<Duration> {
        let probe = !std::mem::replace(&mut self.settled, true);
        self.given_up = 0;
        self.follows = Some(waits || heard != Heard::Nothing);
        self.waits = waits;
        if !self.waits {
            return None;
        }
        if heard == Heard::News {
            self.hasty = 0;
            return Some(AFTER_CHANGE.mul_f64(0.5 + chance / 2.0));
        }
        let asked = Duration::from_secs(u64::from(asked.unwrap_or_default()));
        if probe || took >= asked / 2 {
            self.hasty = 0;
            return Some(Duration::ZERO);
        }
        self.hasty = self.hasty.saturating_add(1);
        Some(GAP.saturating_mul(2_u32.saturating_pow(self.hasty.min(16))).min(MOST))
    }

    /// No answer came, or a refusal. Tells how soon it is tried again at the latest; `None` leaves that to the schedule.
    pub(super) fn failed(&mut self, chance: f64) -> Option<Duration> {
        let first = std::mem::replace(&mut self.settled, false);
        self.given_up = 0;
        // A server that drains ends the wait of all its satellites at once.
        (first && self.waits).then(|| RETRY.mul_f64(1.0 + (RETRY_SPREAD - 1.0) * chance))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn every(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    #[test]
    fn it_waits_with_whoever_knows_waiting_and_keeps_the_interval_with_others() {
        let schedule = every("@every 30s");
        let mut pace = Pace::default();
        assert_eq!(pace.wait(&schedule, false, 0.5), Some(1), "the first request asks how things stand");
        assert_eq!(pace.answered(Heard::Same, true, Some(1), Duration::ZERO, 0.5), Some(Duration::ZERO));
        assert_eq!(pace.wait(&schedule, false, 0.0), Some(30));
        assert_eq!(pace.wait(&schedule, false, 1.0), Some(24));
        assert_eq!(pace.wait(&schedule, true, 0.0), Some(10));
        assert_eq!(pace.wait(&every("@every 1h"), false, 0.0), Some(60));
        assert_eq!(pace.wait(&every("0 * * * *"), false, 0.0), Some(60));
        assert_eq!(pace.answered(Heard::Same, true, Some(30), 30 * SECOND, 0.5), Some(Duration::ZERO));
        // One that tells what is desired, and knows no waiting.
        assert_eq!(pace.answered(Heard::News, false, Some(30), Duration::ZERO, 0.5), None);
        assert_eq!(pace.wait(&schedule, false, 0.0), Some(30), "it may learn it");
        // One that knows waiting, and has nothing to tell yet.
        assert_eq!(pace.answered(Heard::Nothing, true, Some(30), 30 * SECOND, 0.5), Some(Duration::ZERO));
        assert_eq!(pace.wait(&schedule, false, 0.0), Some(30));
        // One that knows neither.
        assert_eq!(pace.answered(Heard::Nothing, false, Some(30), Duration::ZERO, 0.5), None);
        assert_eq!(pace.wait(&schedule, false, 0.0), None);
        assert_eq!(pace.failed(0.5), None);
        assert_eq!(pace.wait(&schedule, false, 0.0), None);
    }

    #[test]
    fn answers_that_come_at_once_and_say_nothing_are_asked_for_less_and_less_often() {
        let mut pace = Pace::default();
        pace.answered(Heard::Same, true, Some(1), Duration::ZERO, 0.0);
        let waits: Vec<u64> = (0..8)
            .map(|_| pace.answered(Heard::Same, true, Some(30), Duration::ZERO, 0.0).unwrap().as_secs())
            .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pace.answered(Heard::News, true, Some(30), Duration::ZERO, 1.0), Some(AFTER_CHANGE));
        assert_eq!(pace.answered(Heard::Older, true, Some(30), Duration::ZERO, 1.0), Some(2 * SECOND));
    }

    #[test]
    fn a_cut_wait_is_tried_again_soon_and_once() {
        let mut pace = Pace::default();
        pace.answered(Heard::News, true, Some(1), Duration::ZERO, 0.0);
        assert_eq!(pace.failed(0.0), Some(SECOND));
        assert_eq!(pace.failed(0.0), None, "then by the backoff of the schedule");
        assert_eq!(pace.wait(&every("@every 30s"), false, 0.0), Some(1));
    }

    #[test]
    fn a_slow_link_is_left_in_peace() {
        let mut pace = Pace::default();
        let mut ages = Vec::new();
        for _ in 0..6 {
            ages.push(pace.report_after().as_secs());
            pace.gave_up();
        }
        assert_eq!(ages, [3, 6, 12, 24, 48, 60]);
        pace.answered(Heard::Same, true, Some(30), SECOND, 0.0);
        assert_eq!(pace.report_after().as_secs(), 3);
    }

    proptest! {
        #[test]
        fn a_wait_is_what_may_be_asked_for(seconds in 1_u64..100_000, busy: bool, chance in 0.0..1.0_f64) {
            let mut pace = Pace::default();
            pace.answered(Heard::Same, true, Some(1), Duration::ZERO, 0.0);
            let wait = pace.wait(&Schedule::every(Duration::from_secs(seconds)), busy, chance).unwrap();
            prop_assert!((1..=MAX_WAIT_SECONDS).contains(&wait));
            prop_assert!(u64::from(wait) <= seconds);
        }
    }
}
