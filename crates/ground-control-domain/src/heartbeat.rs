//! What satellites report: one latest report, a bounded history, and the images they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

pub use fleet_protocol::Heartbeat as Report;
pub use fleet_protocol::heartbeat::CachedImage;
use fleet_protocol::heartbeat::{FetchingArtifact, MAX_NODES, NodePresence};
pub use fleet_protocol::nodes::Nodes;

use crate::SatelliteId;
use crate::identity::IdentityRecord;
use crate::satellite::{LifecycleEvent, Robot};

/// How many reports the history of one satellite keeps.
pub const HISTORY: i64 = 64;

/// How often the history takes a report that says nothing new; one that does is always taken.
pub const HISTORY_EVERY: Duration = Duration::from_secs(5 * 60);

/// The most artifacts under way that are kept of one report.
const MAX_PENDING: usize = 1000;

/// The most images that are kept of one report.
pub const MAX_IMAGES: usize = 10_000;

/// An authenticated report to be recorded.
#[derive(Debug, Clone)]
pub struct HeartbeatRecord {
    /// Whose report it is, by its credential and never by the name inside.
    pub satellite: SatelliteId,
    /// When it arrived.
    pub received_at: Timestamp,
    /// The report.
    pub report: Report,
}

/// A recorded report.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// When it arrived.
    pub received_at: Timestamp,
    /// The report. In a history its lists of images and of nodes are empty.
    pub report: Report,
}

/// What is known of who sends a report, before it is recorded.
#[derive(Debug, Clone)]
pub struct Sender {
    /// What an SVID is compared with.
    pub identity: IdentityRecord,
    /// Its robot, which has no secret before the first registration.
    pub robot: Robot,
    /// How often it says that it reports.
    pub interval: Option<String>,
    /// Whether the token that it registered with is still answered.
    pub open_token: bool,
    /// What is kept of its last report; `None` before the first.
    pub kept: Option<KeptReport>,
}

/// By what the next report is known to be news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReport {
    /// [`HeartbeatRecord::content`].
    pub content: String,
    /// The digest that the satellite gave with the list of images that is kept; empty where it gave none.
    pub inventory: String,
    /// [`fingerprint`] of the images that are kept.
    pub images_hash: String,
    /// The digest by which the list of nodes is known that is kept; empty where there is none.
    pub nodes: String,
}

impl Sender {
    /// Whether the report says anything but that the satellite is still there.
    pub fn hears_news(&self, record: &HeartbeatRecord) -> bool {
        let Some(kept) = &self.kept else { return true };
        let moves = self.identity.state.after(LifecycleEvent::Heartbeat) != Some(self.identity.state);
        let interval = record.interval().is_some_and(|interval| Some(interval) != self.interval.as_deref());
        moves
            || interval
            || self.open_token
            || record.content() != kept.content
            || match record.listed(&kept.inventory) {
                Listed::Here => fingerprint(&record.images()) != kept.images_hash,
                Listed::AsBefore | Listed::Missing => false,
            }
            || record.renames_nodes(&kept.nodes)
    }
}

/// Where a report's list of images is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// In the report.
    Here,
    /// It is the one that is kept.
    AsBefore,
    /// It is another one, and not in the report: the satellite is to be asked for it.
    Missing,
}

/// What became of one report of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// It is recorded.
    Recorded {
        /// Whether it is the first that was heard of the satellite since it was `pending`.
        first: bool,
        /// When its robot's secret was made; `None` where it has no robot yet.
        secret_rotated_at: Option<Timestamp>,
    },
    /// The satellite was revoked (or waits for approval) in the meantime: 403.
    Refused,
    /// It was deleted in the meantime: 401.
    Gone,
}

/// The longest interval text that is kept, in bytes.
const MAX_INTERVAL: usize = 64;

impl HeartbeatRecord {
    /// The images as they are kept: sorted, each reference once (the last one counts), at most [`MAX_IMAGES`].
    pub fn images(&self) -> BTreeMap<&str, &CachedImage> {
        self.report
            .cached_images
            .iter()
            .filter(|image| storable(&image.reference, MAX_REFERENCE))
            .take(MAX_IMAGES)
            .map(|image| (image.reference.as_str(), image))
            .collect()
    }

    /// How often the satellite says that it reports, if that is worth keeping.
    pub fn interval(&self) -> Option<&str> {
        Some(self.report.state_report_interval.as_str()).filter(|text| storable(text, MAX_INTERVAL))
    }

    /// Where the list of images is, where the one that is kept came with the digest `kept`.
    pub fn listed(&self, kept: &str) -> Listed {
        let digest = self.report.inventory_digest.as_str();
        if digest.is_empty() {
            Listed::Here
        } else if digest == kept {
            Listed::AsBefore
        } else if digest.len() <= MAX_DIGEST && self.report.lists_images() {
            Listed::Here
        } else {
            Listed::Missing
        }
    }

    /// Whether it brings another list of nodes than the one that is kept with the digest `kept`.
    fn renames_nodes(&self, kept: &str) -> bool {
        self.report.nodes_listed(kept) == Nodes::Here && self.report.nodes_name() != kept
    }

    /// The digest by which the list of nodes is known that is kept after this report, and the list where it is to be written,
    /// where `kept` was the digest before.
    pub fn nodes(&self, kept: &str) -> (String, Option<&[NodePresence]>) {
        let list = &self.report.nodes;
        let list = list.get(..MAX_NODES).unwrap_or(list);
        match self.report.nodes_listed(kept) {
            Nodes::AsBefore | Nodes::Missing => (kept.to_owned(), None),
            Nodes::Here if list.is_empty() && kept.is_empty() => (String::new(), None),
            // Also under the name that is known: it may hold what an older program left out.
            Nodes::Here => (self.report.nodes_name().into_owned(), Some(list)),
        }
    }

    /// Tells apart what reports say: figures that change all the time, the images, and how far artifacts under way are, do not
    /// count. Nodes count by their digest, whether they are listed or not.
    pub fn content(&self) -> String {
        let fetching = self.report.fetching.iter();
        let report = Report {
            memory_used_bytes: 0,
            storage_used_bytes: 0,
            cpu_percent: 0.0,
            request_created_time: None,
            last_sync_duration_ms: 0,
            fetching: fetching
                .map(|one| FetchingArtifact { bytes: 0, total_bytes: 0, ..one.clone() })
                .collect(),
            nodes_digest: self.report.nodes_name().into_owned(),
            ..self.summary()
        };
        let text = serde_json::to_string(&report).unwrap_or_default();
        oci::Digest::sha256(text.as_bytes()).to_string()
    }

    /// The wanted digests that are not there yet, and whether they are `fetching` or `failed`; at most a thousand.
    pub fn pending(&self) -> BTreeSet<(String, &'static str)> {
        let fetching = self.report.fetching.iter().filter_map(|one| Some((one.digest?, "fetching")));
        let failed = self.report.failed.iter().filter_map(|one| Some((one.digest?, "failed")));
        failed.chain(fetching).take(MAX_PENDING).map(|(digest, state)| (digest.to_string(), state)).collect()
    }

    /// The report as it is kept beside its images and its nodes.
    pub fn summary(&self) -> Report {
        // Field by field, so that a long list is not copied to be thrown away.
        let Report {
            name,
            activity,
            state_report_interval,
            latest_state_digest,
            latest_config_digest,
            memory_used_bytes,
            storage_used_bytes,
            cpu_percent,
            request_created_time,
            last_sync_duration_ms,
            image_count,
            cached_images: _,
            inventory_digest,
            registry_username,
            generation,
            fetching,
            failed,
            conflicts,
            config_refusals,
            document_errors,
            nodes: _,
            nodes_digest,
            version,
        } = &self.report;
        Report {
            name: name.clone(),
            activity: activity.clone(),
            state_report_interval: state_report_interval.clone(),
            latest_state_digest: latest_state_digest.clone(),
            latest_config_digest: latest_config_digest.clone(),
            memory_used_bytes: *memory_used_bytes,
            storage_used_bytes: *storage_used_bytes,
            cpu_percent: *cpu_percent,
            request_created_time: *request_created_time,
            last_sync_duration_ms: *last_sync_duration_ms,
            image_count: *image_count,
            cached_images: Vec::new(),
            inventory_digest: inventory_digest.clone(),
            registry_username: registry_username.clone(),
            generation: *generation,
            fetching: fetching.clone(),
            failed: failed.clone(),
            conflicts: conflicts.clone(),
            config_refusals: config_refusals.clone(),
            document_errors: document_errors.clone(),
            nodes: Vec::new(),
            nodes_digest: nodes_digest.clone(),
            version: version.clone(),
        }
    }
}

/// Tells lists of images apart: equal lists have equal fingerprints.
pub fn fingerprint(images: &BTreeMap<&str, &CachedImage>) -> String {
    let mut text = String::new();
    for image in images.values() {
        text.push_str(&image.reference);
        text.push(' ');
        text.push_str(&image.size_bytes.to_string());
        text.push('\n');
    }
    oci::Digest::sha256(text.as_bytes()).to_string()
}

/// The digest within an image's reference; empty where it has none.
pub fn digest_of(reference: &str) -> &str {
    reference.rsplit_once('@').map_or("", |(_, digest)| digest)
}

/// The longest reference that is kept: a host, a repository of 255 characters, a tag and a digest.
const MAX_REFERENCE: usize = 1024;

/// The longest digest of an inventory: that of `sha512`.
const MAX_DIGEST: usize = 7 + 128;

/// PostgreSQL's text cannot hold NUL, and no list may grow without bound.
fn storable(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.contains('\0')
}

#[cfg(test)]
mod tests;
