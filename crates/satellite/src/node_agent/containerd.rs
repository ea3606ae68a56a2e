//! A node whose runtime is containerd: pulls by CRI, labels and removes through its own records of images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use container_runtimes::CallError;
use container_runtimes::cri::CriImages;
use container_runtimes::images::{ImageRecord, Images, PINNED};

use super::decide::{Labels, Record, Seen};
use super::ledger::Made;
use super::round::Node;

/// Our label on a record; see [`Record::own_mark`].
pub const MARK: &str = "io.goharbor.satellite.node-agent";

/// containerd on this node.
#[derive(Debug, Clone)]
pub struct Containerd {
    cri: CriImages,
    images: Images,
    limit: Duration,
}

impl Containerd {
    /// At a socket; nothing is asked yet. A pull may take as long as `limit`.
    #[must_use]
    pub fn new(socket: &Path, limit: Duration) -> Self {
        Self { cri: CriImages::new(socket), images: Images::new(socket), limit }
    }
}

fn record(image: ImageRecord) -> Record {
    let made = image.created_at.unwrap_or_default();
    Record {
        target: image.target.map(|target| target.digest).unwrap_or_default(),
        made: Made(made.seconds, made.nanos),
        pinned: image.labels.get(PINNED.0).is_some_and(|value| value == PINNED.1),
        mark: image.labels.get(MARK).cloned(),
        name: image.name,
    }
}

impl Node for Containerd {
    async fn look(&self) -> Result<Seen, CallError> {
        let records = self.images.list().await?.into_iter().map(record).collect();
        let mut images = BTreeMap::new();
        for image in self.cri.list().await? {
            for name in image.tags.into_iter().chain(image.digests) {
                images.insert(name, image.id.clone());
            }
        }
        Ok(Seen { records, images })
    }

    async fn pull(&self, name: &str) -> Result<(), CallError> {
        self.cri.pull(name, self.limit).await.map(drop)
    }

    async fn label(&self, labels: &Labels) -> Result<(), CallError> {
        let pin = if labels.pinned { PINNED.1 } else { "" };
        let wanted = [(PINNED.0, pin), (MARK, labels.mark.as_str())];
        let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.images.label(&labels.name, BTreeMap::from(wanted)).await
    }

    async fn remove(&self, wanted: &Record) -> Result<bool, CallError> {
        let Some(image) = self.images.get(&wanted.name).await? else { return Ok(true) };
        let target = image.target.clone();
        let now = record(image);
        if (now.made, &now.target) != (wanted.made, &wanted.target) {
            return Ok(true);
        }
        // With the identifier the last name of the content goes.
        let collect = !wanted.name.contains('/');
        self.images.delete(&wanted.name, target, collect).await?;
        tracing::info!(name = %wanted.name, digest = %wanted.target, "image record removed");
        Ok(true)
    }

    async fn hold(&self, _names: &[String], _stay: &BTreeSet<String>) -> Result<(), String> {
        Ok(())
    }
}
