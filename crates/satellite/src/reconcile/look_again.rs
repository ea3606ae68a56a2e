//! When the referrers of an artifact that has not changed are looked at again.
//!
//! Where its group's document says what stands for them, when that changes: what was found before is kept on disk. Where it
//! does not, every once in a while.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::Digest;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::plan::Artifact;

/// How far the times are spread, as a part of the interval.
const SPREAD: f64 = 0.2;
/// Name of the file.
const FILE: &str = "referrers.json";
const VERSION: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    found: Vec<Found>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Found {
    #[serde(flatten)]
    artifact: Artifact,
    referrers: BTreeSet<Digest>,
}

/// The time of the next look, for each artifact, and what stood for its referrers at the last.
#[derive(Debug)]
pub(super) struct LookAgain {
    next: BTreeMap<Artifact, Instant>,
    found: BTreeMap<Artifact, BTreeSet<Digest>>,
    file: PathBuf,
    changed: bool,
}

impl LookAgain {
    /// Opens what was found before. Without it each artifact is looked at once more.
    pub(super) fn open(state_dir: &Path) -> Self {
        let file = state_dir.join(FILE);
        let content = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice::<Content>(&bytes).ok(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(file = %file.display(), %error, "what refers to artifacts cannot be read from disk");
                }
                None
            }
        };
        let found = content.filter(|content| content.version == VERSION).unwrap_or_default().found;
        let found = found.into_iter().map(|found| (found.artifact, found.referrers)).collect();
        Self { next: BTreeMap::new(), found, file, changed: false }
    }

    /// Those of `wanted`, each with what stands for its referrers, that are due. What is in order from before this process
    /// began is looked at at some time within the interval; what is `unsettled`, at once.
    pub(super) fn due(
        &mut self,
        wanted: BTreeMap<Artifact, BTreeSet<Digest>>,
        unsettled: &BTreeSet<Artifact>,
        interval: Duration,
    ) -> BTreeSet<Artifact> {
        let now = Instant::now();
        let mut due = BTreeSet::new();
        for (artifact, referrers) in wanted {
            if !referrers.is_empty() {
                if !self.found.get(&artifact).is_some_and(|found| referrers.is_subset(found)) {
                    due.insert(artifact);
                }
                continue;
            }
            let at = self.next.entry(artifact.clone()).or_insert_with(|| {
                if unsettled.contains(&artifact) { now } else { now + interval.mul_f64(rand::random()) }
            });
            if *at <= now {
                due.insert(artifact);
            }
        }
        due
    }

    /// It was looked at just now, when `referrers` stood for what refers to it.
    pub(super) fn looked_at(&mut self, artifact: &Artifact, referrers: BTreeSet<Digest>, interval: Duration) {
        let spread = 1.0 - SPREAD / 2.0 + SPREAD * rand::random::<f64>();
        self.next.insert(artifact.clone(), Instant::now() + interval.mul_f64(spread));
        if referrers.is_empty() {
            self.changed |= self.found.remove(artifact).is_some();
        } else {
            self.changed |= self.found.insert(artifact.clone(), referrers.clone()) != Some(referrers);
        }
    }

    /// Forgets what is wanted no more.
    pub(super) fn keep_only(&mut self, wanted: impl Fn(&Artifact) -> bool) {
        self.next.retain(|artifact, _| wanted(artifact));
        let before = self.found.len();
        self.found.retain(|artifact, _| wanted(artifact));
        self.changed |= self.found.len() != before;
    }

    /// Writes what was found, where that has changed.
    pub(super) fn keep(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let found = self.found.iter();
        let found = found
            .map(|(artifact, referrers)| Found { artifact: artifact.clone(), referrers: referrers.clone() })
            .collect();
        let content = Content { version: VERSION, found };
        let written = serde_json::to_vec(&content)
            .map_err(io::Error::from)
            .and_then(|bytes| blob_store::durable::write_file(&self.file, &bytes, 0o600));
        if let Err(error) = written {
            // It is known all the same; only after a restart each artifact is looked at once more.
            tracing::warn!(file = %self.file.display(), %error, "what refers to artifacts cannot be kept on disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn artifact(seed: &str) -> Artifact {
        Artifact { repository: "a/b".parse().unwrap(), digest: Digest::sha256(seed.as_bytes()) }
    }

    fn set(seeds: &[&str]) -> BTreeSet<Digest> {
        seeds.iter().map(|seed| Digest::sha256(seed.as_bytes())).collect()
    }

    #[test]
    fn what_stands_for_the_referrers_decides_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut look = LookAgain::open(dir.path());
        let (one, none) = (artifact("one"), BTreeSet::new());
        let wanted = |seeds: &[&str]| BTreeMap::from([(one.clone(), set(seeds))]);
        assert_eq!(look.due(wanted(&["r1"]), &none, HOUR).len(), 1, "not looked at yet");
        look.looked_at(&one, set(&["r1"]), HOUR);
        look.keep();
        let mut look = LookAgain::open(dir.path());
        let unsettled = BTreeSet::from([one.clone()]);
        assert!(
            look.due(wanted(&["r1"]), &unsettled, Duration::ZERO).is_empty(),
            "the same, whenever it was"
        );
        assert_eq!(look.due(wanted(&["r2"]), &none, HOUR).len(), 1);
        // Two groups that were looked at at different times.
        look.looked_at(&one, set(&["r1", "r2"]), HOUR);
        assert!(look.due(wanted(&["r2"]), &none, HOUR).is_empty());
        look.keep_only(|_| false);
        look.keep();
        assert!(LookAgain::open(dir.path()).found.is_empty());
    }

    #[test]
    fn without_that_it_is_a_matter_of_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut look = LookAgain::open(dir.path());
        let one = artifact("one");
        let wanted = || BTreeMap::from([(one.clone(), BTreeSet::new())]);
        assert_eq!(look.due(wanted(), &BTreeSet::from([one.clone()]), HOUR).len(), 1);
        look.looked_at(&one, BTreeSet::new(), HOUR);
        assert!(look.due(wanted(), &BTreeSet::new(), HOUR).is_empty());
        look.looked_at(&one, BTreeSet::new(), Duration::ZERO);
        assert_eq!(look.due(wanted(), &BTreeSet::new(), HOUR).len(), 1);
    }
}
