//! When the referrers of an artifact that has not changed are looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Artifact;

/// How far the times are spread, as a part of the interval.
const SPREAD: f64 = 0.2;

/// The time of the next look, for each artifact.
#[derive(Debug, Default)]
pub(super) struct LookAgain {
    next: BTreeMap<Artifact, Instant>,
}

impl LookAgain {
    /// Those of `wanted` that are due. What is in order from before this process began is looked at at some time within
    /// the interval; what is `unsettled`, at once.
    pub(super) fn due(
        &mut self,
        wanted: BTreeSet<Artifact>,
        unsettled: &BTreeSet<Artifact>,
        interval: Duration,
    ) -> BTreeSet<Artifact> {
        let now = Instant::now();
        let mut due = BTreeSet::new();
        for artifact in wanted {
            let at = self.next.entry(artifact.clone()).or_insert_with(|| {
                if unsettled.contains(&artifact) { now } else { now + interval.mul_f64(rand::random()) }
            });
            if *at <= now {
                due.insert(artifact);
            }
        }
        due
    }

    /// It was looked at just now.
    pub(super) fn looked_at(&mut self, artifact: &Artifact, interval: Duration) {
        let spread = 1.0 - SPREAD / 2.0 + SPREAD * rand::random::<f64>();
        self.next.insert(artifact.clone(), Instant::now() + interval.mul_f64(spread));
    }

    /// Forgets what is wanted no more.
    pub(super) fn keep_only(&mut self, wanted: impl Fn(&Artifact) -> bool) {
        self.next.retain(|artifact, _| wanted(artifact));
    }
}
