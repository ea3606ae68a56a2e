//! What the satellites of a simulation share: orders, what is published, what each was told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_protocol::heartbeat::CachedImage;
use fleet_protocol::{Desired, GroupState, inventory, state_image};
use oci::{Digest, Manifest};
use testbed::registry::Registry;
use testbed::{Error, Result};
use tokio::sync::watch;

use super::script::Shares;
use super::stats::Stats;

/// Bytes that every image is said to have.
const IMAGE_BYTES: u64 = 50_000_000;
/// Broken promises that are told one by one.
const TOLD: usize = 20;

/// What the fleet is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Order {
    /// Whether satellites are up at all.
    pub(super) up: bool,
    /// Percent of the fleet whose connection breaks, or that start anew, in a minute.
    pub(super) churn: f64,
    /// Whether those that a partition cuts off are cut off.
    pub(super) partition: bool,
}

/// The images that a group document asks for, as a satellite that has them reports them.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The images.
    pub(super) images: Vec<CachedImage>,
    /// Their digest.
    pub(super) inventory: String,
}

impl Content {
    fn of(group: &GroupState) -> Self {
        let host = group.registry.split_once("://").map_or(group.registry.as_str(), |(_, host)| host);
        let image = |artifact: &fleet_protocol::Artifact| {
            let digest = artifact.digest.as_ref()?;
            let tag = artifact.tags.first().map_or_else(String::new, |tag| format!(":{tag}"));
            let reference = format!("{host}/{}{tag}@{digest}", artifact.repository);
            Some(CachedImage { reference, size_bytes: IMAGE_BYTES })
        };
        let images: Vec<CachedImage> = group.artifacts.iter().filter_map(image).collect();
        Self { inventory: inventory::digest(&images), images }
    }
}

/// What one satellite was told last.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// What it shall have.
    pub(super) desired: Desired,
    /// Since when it knows.
    pub(super) at: Option<Instant>,
    /// The last answer to a heartbeat.
    pub(super) answered: Option<Instant>,
}

/// What all share.
#[derive(Debug)]
pub(super) struct World {
    /// Decides, with a satellite's number, what befalls it.
    pub(super) seed: u64,
    /// Parts of the fleet.
    pub(super) shares: Shares,
    /// Ground Control's listener with the SVID.
    pub(super) to: SocketAddr,
    /// How long a heartbeat asks to be held back, in seconds; the interval, too.
    pub(super) wait: u32,
    /// The longest that a satellite takes to have what it was told to have.
    pub(super) reconcile: Duration,
    /// The group that all are in.
    pub(super) group: String,
    /// The central registry.
    pub(super) registry: Registry,
    /// What is seen.
    pub(super) stats: Stats,
    /// What is to be done.
    pub(super) orders: watch::Sender<Order>,
    contents: tokio::sync::Mutex<BTreeMap<Digest, Arc<Content>>>,
    told: Vec<Mutex<Told>>,
    broken: Mutex<(usize, BTreeSet<String>)>,
}

/// What a world is made of.
#[derive(Debug)]
pub(super) struct Founding {
    pub(super) seed: u64,
    pub(super) shares: Shares,
    pub(super) to: SocketAddr,
    pub(super) wait: u32,
    pub(super) group: String,
    pub(super) registry: Registry,
    pub(super) satellites: usize,
}

impl World {
    pub(super) fn new(founding: Founding) -> Self {
        let Founding { seed, shares, to, wait, group, registry, satellites } = founding;
        Self {
            seed,
            shares,
            to,
            wait,
            reconcile: Duration::from_secs(u64::from(wait)) / 6,
            group,
            registry,
            stats: Stats::default(),
            orders: watch::Sender::default(),
            contents: tokio::sync::Mutex::default(),
            told: (0..satellites).map(|_| Mutex::default()).collect(),
            broken: Mutex::default(),
        }
    }

    /// The satellite's interval.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_secs(self.wait.into())
    }

    /// What the satellite with this number was told.
    pub(super) fn told(&self, number: usize) -> MutexGuard<'_, Told> {
        // Numbers come from the list that this was made with.
        let number = number.min(self.told.len().saturating_sub(1));
        self.told[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all were told.
    pub(super) fn all_told(&self) -> impl Iterator<Item = Told> + '_ {
        (0..self.told.len()).map(|number| self.told(number).clone())
    }

    /// Notes that Ground Control did not do as it should.
    pub(super) fn broke(&self, promise: String) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.0 += 1;
        if broken.1.len() < TOLD {
            broken.1.insert(promise);
        }
    }

    /// An error with what Ground Control did not do as it should.
    pub(super) fn check(&self) -> Result<()> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.0 == 0 {
            return Ok(());
        }
        let some: Vec<&str> = broken.1.iter().map(String::as_str).collect();
        Err(Error::Content(format!("{} broken promises: {}", broken.0, some.join("; "))))
    }

    /// What the group document with this digest asks for: read once from the registry, for all satellites.
    pub(super) async fn content(&self, document: &Digest) -> Result<Arc<Content>> {
        let mut contents = self.contents.lock().await;
        if let Some(known) = contents.get(document) {
            return Ok(Arc::clone(known));
        }
        let name = self.group.parse().map_err(|error| Error::Content(format!("{error}")))?;
        let repository = fleet_protocol::state::group_repository(&name);
        let found = self.registry.manifest(&repository, &document.to_string()).await?;
        let found = found.ok_or_else(|| {
            Error::Content(format!("group document {document} was told and is not in the registry"))
        })?;
        let manifest = Manifest::parse(Some(&found.media_type), &found.bytes)
            .map_err(|error| Error::Content(error.to_string()))?;
        let layer = state_image::candidate_layers(&manifest)
            .next()
            .ok_or_else(|| Error::Content(format!("group document {document} has no layer")))?;
        let bytes = self.registry.blob(&repository, &layer.digest).await?;
        let bytes = bytes
            .ok_or_else(|| Error::Content(format!("the layer of group document {document} is not there")))?;
        let group = state_image::decode(&bytes).map_err(|error| Error::Content(error.to_string()))?;
        let content = Arc::new(Content::of(&group));
        contents.insert(*document, Arc::clone(&content));
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_what_a_satellite_reports() {
        let digest = Digest::sha256(b"a");
        let group = serde_json::json!({"group": "g", "registry": "https://registry.example.com", "artifacts": [
            {"repository": "a/b", "tag": ["1"], "type": "image", "digest": digest},
            {"repository": "a/c", "tag": ["2"], "type": "image"}]});
        let content = Content::of(&serde_json::from_value(group).unwrap());
        let references: Vec<&str> = content.images.iter().map(|image| image.reference.as_str()).collect();
        assert_eq!(references, [format!("registry.example.com/a/b:1@{digest}")]);
        assert_eq!(content.inventory, inventory::digest(&content.images));
    }
}
