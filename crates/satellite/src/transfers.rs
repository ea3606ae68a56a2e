//! What is on its way at this moment, for the status; and what of it belongs into the log.
//!
//! The fetch engine tells every blob's start, progress and end on the task where it happens, so this takes a lock for
//! as long as a map entry needs and nothing more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleet_protocol::heartbeat::FetchingArtifact;
use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Serialize};
use transfer::{Event, Observer, Progress};

use crate::plan::Artifact;

/// Blobs shown at most; the engine has far fewer on their way.
const MOST: usize = 256;

/// Artifacts told at most; few are on their way at once.
const MOST_ARTIFACTS: usize = 64;

/// One blob on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferStatus {
    /// Digest of the blob.
    pub digest: String,
    /// Its size.
    pub size_bytes: u64,
    /// How much of it is here, from earlier attempts too.
    pub position_bytes: u64,
    /// Since when it is on its way.
    pub since: Timestamp,
    /// How often it was cut and continued.
    pub retries: u32,
    /// What cut it last.
    pub last_error: Option<String>,
}

/// The blobs on their way, and the artifacts that they belong to. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Transfers(Arc<Mutex<Present>>);

#[derive(Debug, Default)]
struct Present {
    blobs: BTreeMap<Digest, TransferStatus>,
    artifacts: BTreeMap<Artifact, Fetching>,
    /// Tells one download of an artifact from the next.
    begun: u64,
}

#[derive(Debug)]
struct Fetching {
    number: u64,
    reference: String,
    progress: Arc<Progress>,
}

/// An artifact is shown as on its way as long as this lives.
#[derive(Debug)]
pub struct Shown {
    transfers: Transfers,
    artifact: Artifact,
    number: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut present = self.transfers.present();
        if present.artifacts.get(&self.artifact).is_some_and(|known| known.number == self.number) {
            present.artifacts.remove(&self.artifact);
        }
    }
}

impl Transfers {
    /// The blobs that are on their way now, by digest.
    #[must_use]
    pub fn snapshot(&self) -> Vec<TransferStatus> {
        self.present().blobs.values().cloned().collect()
    }

    /// The artifacts that are on their way now, the first [`MOST_ARTIFACTS`].
    #[must_use]
    pub fn fetching(&self) -> Vec<FetchingArtifact> {
        let present = self.present();
        let position = |digest: &Digest| present.blobs.get(digest).map(|blob| blob.position_bytes);
        let artifacts = present.artifacts.iter().take(MOST_ARTIFACTS);
        artifacts
            .map(|(artifact, fetching)| {
                let (bytes, total_bytes) = fetching.progress.bytes(position);
                FetchingArtifact {
                    reference: fetching.reference.clone(),
                    digest: Some(artifact.digest),
                    bytes,
                    total_bytes,
                }
            })
            .collect()
    }

    /// An artifact is on its way from now on, under the name that people know.
    #[must_use]
    pub fn begin(&self, artifact: Artifact, reference: String, progress: Arc<Progress>) -> Shown {
        let mut present = self.present();
        present.begun += 1;
        let number = present.begun;
        present.artifacts.insert(artifact.clone(), Fetching { number, reference, progress });
        Shown { transfers: self.clone(), artifact, number }
    }

    /// Forgets all blobs: what was on its way was stopped, which the engine does not tell.
    pub fn clear(&self) {
        self.present().blobs.clear();
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Digest, TransferStatus>)) {
        change(&mut self.present().blobs);
    }
}

impl Observer for Transfers {
    fn observe(&self, event: &Event) {
        log(event);
        match event {
            Event::BlobStarted { digest, size, offset } => self.change(|blobs| {
                if blobs.len() < MOST {
                    let blob = TransferStatus {
                        digest: digest.to_string(),
                        size_bytes: *size,
                        position_bytes: *offset,
                        since: Timestamp::now(),
                        retries: 0,
                        last_error: None,
                    };
                    blobs.insert(*digest, blob);
                }
            }),
            Event::BlobProgress { digest, position, .. } | Event::Resumed { digest, position } => {
                self.change(|blobs| {
                    if let Some(blob) = blobs.get_mut(digest) {
                        blob.position_bytes = *position;
                    }
                });
            }
            Event::Retrying { digest, position, error, .. } => self.change(|blobs| {
                if let Some(blob) = blobs.get_mut(digest) {
                    blob.position_bytes = *position;
                    blob.retries += 1;
                    blob.last_error = Some(error.clone());
                }
            }),
            Event::BlobDone { digest, .. }
            | Event::BlobFailed { digest, .. }
            | Event::BlobLinked { digest, .. }
            | Event::ForeignLayerSkipped { digest } => self.change(|blobs| {
                blobs.remove(digest);
            }),
            _ => {}
        }
    }
}

fn log(event: &Event) {
    match event {
        Event::CopyStarted { repository, digest } => tracing::debug!(%repository, %digest, "copy begins"),
        Event::CopyDone { repository, digest, fetched, duration } => {
            let took_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(%repository, %digest, fetched, took_ms, "copy done");
        }
        Event::BlobDone { digest, size, fetched, .. } => tracing::debug!(%digest, size, fetched, "blob done"),
        Event::Retrying { digest, position, failures, delay, error } => {
            let wait_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            tracing::info!(%digest, position, failures, wait_ms, %error, "transfer cut, continuing");
        }
        Event::Resumed { digest, position } => tracing::info!(%digest, position, "transfer continued"),
        Event::RangeIgnored { digest, skipped } => {
            tracing::warn!(%digest, skipped, "registry ignores ranges, bytes come a second time");
        }
        Event::Mismatch { digest } => {
            tracing::warn!(%digest, "bytes do not match the digest, thrown away");
        }
        Event::ForeignLayerSkipped { digest } => tracing::info!(%digest, "foreign layer left out"),
        Event::ReferrerSkipped { digest, reason } => tracing::info!(%digest, %reason, "referrer left out"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_artifact_is_shown_as_long_as_it_is_fetched() {
        let transfers = Transfers::default();
        let artifact = Artifact { repository: "a/b".parse().unwrap(), digest: Digest::sha256(b"x") };
        let shown = transfers.begin(artifact.clone(), "h/a/b:1".into(), Arc::default());
        let again = transfers.begin(artifact.clone(), "h/a/b:1".into(), Arc::default());
        drop(shown);
        let fetching = transfers.fetching();
        assert_eq!((fetching.len(), fetching[0].digest), (1, Some(artifact.digest)), "the later one goes on");
        assert_eq!((fetching[0].bytes, fetching[0].total_bytes), (0, 0));
        drop(again);
        assert!(transfers.fetching().is_empty());
    }

    #[test]
    fn a_blob_is_shown_from_its_start_to_its_end() {
        let transfers = Transfers::default();
        let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
        transfers.observe(&Event::BlobStarted { digest: one, size: 100, offset: 10 });
        transfers.observe(&Event::BlobStarted { digest: two, size: 5, offset: 0 });
        transfers.observe(&Event::BlobProgress { digest: one, size: 100, position: 60 });
        transfers.observe(&Event::Retrying {
            digest: one,
            position: 70,
            failures: 1,
            delay: Duration::ZERO,
            error: "reset".into(),
        });
        transfers.observe(&Event::BlobDone { digest: two, size: 5, fetched: 5, duration: Duration::ZERO });
        let shown = transfers.snapshot();
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].digest, one.to_string());
        assert_eq!((shown[0].size_bytes, shown[0].position_bytes, shown[0].retries), (100, 70, 1));
        assert_eq!(shown[0].last_error.as_deref(), Some("reset"));
        transfers.observe(&Event::BlobFailed { digest: one, error: "gone".into() });
        assert!(transfers.snapshot().is_empty());
        transfers.observe(&Event::BlobProgress { digest: one, size: 100, position: 60 });
        assert!(transfers.snapshot().is_empty(), "progress of what ended is nothing new");
    }
}
