//! What failed, and when it is tried again.
//!
//! Each thing fails by itself: its wait doubles with each failure, with jitter, up to a bound that is short for what
//! passes by itself (network, overload) and longer for what somebody has to put right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::events::{Event, Events};
use crate::plan::{Artifact, OpenTag, Removal};
use crate::status::FailedArtifact;

/// Below the usual interval of the replication also with jitter, so that the next turn is the next try.
const FIRST: Duration = Duration::from_secs(7);
const MOST_TEMPORARY: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(300);
/// However long the other side asks us to wait.
const MOST_ASKED: Duration = Duration::from_secs(3600);
const JITTER: f64 = 0.2;

/// What can fail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failing {
    /// To bring an artifact here or to move its tags.
    Get(Artifact),
    /// To find out what a tag means.
    Resolve(OpenTag),
    /// To remove something.
    Remove(Removal),
}

#[derive(Debug)]
struct Failure {
    reference: String,
    reason: String,
    since: Timestamp,
    attempts: u32,
    due: Instant,
    due_at: Timestamp,
}

/// Everything that failed and is not in order yet.
#[derive(Debug)]
pub(crate) struct Failures {
    entries: BTreeMap<Failing, Failure>,
    events: Events,
}

impl Failures {
    pub(crate) fn new(events: Events) -> Self {
        Self { entries: BTreeMap::new(), events }
    }

    pub(crate) fn fail(
        &mut self,
        what: Failing,
        reference: String,
        reason: String,
        temporary: bool,
        retry_after: Option<Duration>,
    ) {
        let now = Timestamp::now();
        let entry = self.entries.entry(what).or_insert_with(|| Failure {
            reference: reference.clone(),
            reason: String::new(),
            since: now,
            attempts: 0,
            due: Instant::now(),
            due_at: now,
        });
        entry.attempts = entry.attempts.saturating_add(1);
        let wait = wait(entry.attempts, temporary, retry_after, rand::random());
        entry.due = Instant::now() + wait;
        entry.due_at = now.checked_add(wait).unwrap_or(now);
        entry.reference.clone_from(&reference);
        entry.reason.clone_from(&reason);
        self.events.emit(Event::Failed { reference, reason, attempts: entry.attempts, retry_in: wait });
    }

    pub(crate) fn clear(&mut self, what: &Failing) {
        if let Some(failure) = self.entries.remove(what) {
            self.events.emit(Event::Recovered { reference: failure.reference });
        }
    }

    /// Whether it failed and its time has not come.
    pub(crate) fn is_waiting(&self, what: &Failing) -> bool {
        self.entries.get(what).is_some_and(|failure| failure.due > Instant::now())
    }

    pub(crate) fn waiting_artifacts(&self) -> BTreeSet<Artifact> {
        let now = Instant::now();
        self.entries
            .iter()
            .filter(|(_, failure)| failure.due > now)
            .filter_map(|(what, _)| match what {
                Failing::Get(artifact) => Some(artifact.clone()),
                Failing::Resolve(_) | Failing::Remove(_) => None,
            })
            .collect()
    }

    /// The world has changed: what failed may work now.
    pub(crate) fn try_all_now(&mut self) {
        let now = Instant::now();
        for failure in self.entries.values_mut() {
            failure.due = now;
        }
    }

    /// Forgets what nobody wants any more.
    pub(crate) fn keep_only(&mut self, wanted: impl Fn(&Failing) -> bool) {
        self.entries.retain(|what, _| wanted(what));
    }

    pub(crate) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn has(&self, artifact: &Artifact) -> bool {
        self.entries.contains_key(&Failing::Get(artifact.clone()))
    }

    /// The time until the next one may be tried; `None` where nothing failed.
    pub(crate) fn next_try(&self) -> Option<Duration> {
        let now = Instant::now();
        self.entries.values().map(|failure| failure.due.saturating_duration_since(now)).min()
    }

    /// How often in a row an artifact failed.
    pub(crate) fn attempts(&self, artifact: &Artifact) -> u32 {
        self.entries.get(&Failing::Get(artifact.clone())).map_or(0, |failure| failure.attempts)
    }

    pub(crate) fn list(&self) -> Vec<FailedArtifact> {
        self.entries
            .iter()
            .map(|(what, failure)| FailedArtifact {
                reference: failure.reference.clone(),
                digest: match what {
                    Failing::Get(artifact) | Failing::Remove(Removal::Manifest(artifact)) => {
                        Some(artifact.digest.to_string())
                    }
                    Failing::Remove(Removal::Tag { digest, .. }) => Some(digest.to_string()),
                    Failing::Resolve(_) => None,
                },
                reason: failure.reason.clone(),
                since: Some(failure.since),
                attempts: failure.attempts,
                next_try: Some(failure.due_at),
            })
            .collect()
    }
}

/// How long to wait after so many failures in a row; `chance`, from 0 to 1, is the jitter.
fn wait(attempts: u32, temporary: bool, retry_after: Option<Duration>, chance: f64) -> Duration {
    let most = if temporary { MOST_TEMPORARY } else { MOST };
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1).min(16)));
    let wait = doubled.min(most).mul_f64(1.0 - JITTER + 2.0 * JITTER * chance);
    wait.max(retry_after.unwrap_or_default().min(MOST_ASKED))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::status::StatusBoard;

    proptest! {
        #[test]
        fn a_wait_is_bounded_and_honours_what_is_asked(
            attempts in 1_u32..u32::MAX, temporary: bool, asked in 0_u64..10_000, chance in 0.0..1.0_f64,
        ) {
            let wait = wait(attempts, temporary, Some(Duration::from_secs(asked)), chance);
            prop_assert!(wait >= Duration::from_secs(5));
            prop_assert!(wait >= Duration::from_secs(asked.min(3600)));
            prop_assert!(wait <= MOST.mul_f64(1.0 + JITTER).max(Duration::from_secs(asked)));
        }
    }

    #[test]
    fn a_failure_keeps_its_beginning_and_counts() {
        let mut failures = Failures::new(Events::new(StatusBoard::default()));
        let artifact = Artifact { repository: "a/b".parse().unwrap(), digest: Digest::sha256(b"x") };
        let what = Failing::Get(artifact.clone());
        failures.fail(what.clone(), "h/a/b:1".into(), "no route".into(), true, None);
        let first = failures.list();
        assert!(failures.is_waiting(&what) && failures.has(&artifact));
        failures.try_all_now();
        assert!(!failures.is_waiting(&what) && failures.waiting_artifacts().is_empty());
        failures.fail(what.clone(), "h/a/b:1".into(), "404".into(), false, None);
        let second = failures.list();
        assert_eq!(second[0].since, first[0].since);
        assert_eq!((second[0].attempts, second[0].reason.as_str()), (2, "404"));
        failures.clear(&what);
        assert_eq!(failures.count(), 0);
    }

    use oci::Digest;
}
