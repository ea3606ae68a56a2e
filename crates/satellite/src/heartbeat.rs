//! What the heartbeat says: the status in the form of the fleet's protocol, and this process's own figures.

use std::time::Instant;

use fleet_protocol::heartbeat::{
    CachedImage, Conflict, DocumentError, FailedArtifact, FetchingArtifact, Heartbeat, MAX_NODES,
    NodeFailure, NodePresence,
};
use fleet_protocol::inventory;
use jiff::Timestamp;

use crate::config::{Effective, Metrics};
use crate::site::nodes::{NodeStatus, SILENT};
use crate::status::Status;

/// The most images that one heartbeat lists; `image_count` tells how many there are. Keeps the body below a megabyte.
const MAX_IMAGES: usize = 4000;
/// The most failures and conflicts that one heartbeat lists.
const MAX_FAILURES: usize = 200;
/// The most failures of nodes that one heartbeat lists, and those of one node.
const MAX_NODE_FAILURES: usize = 100;
const MAX_FAILURES_PER_NODE: usize = 3;
/// How much of a reason travels.
const MAX_REASON: usize = 500;

/// Figures of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Percent of one processor since the last look.
    pub cpu_percent: f64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// Bytes of the store on the disk.
    pub storage_bytes: u64,
}

/// Reads the process's figures; remembers the last look, since load is a difference.
#[derive(Debug)]
pub struct ProcessMeter {
    last: Option<(Instant, u64)>,
}

impl Default for ProcessMeter {
    fn default() -> Self {
        Self { last: cpu_ticks().map(|ticks| (Instant::now(), ticks)) }
    }
}

impl ProcessMeter {
    /// The figures now, those that `metrics` allows; what cannot be read is 0.
    pub fn read(&mut self, metrics: Metrics, store: &blob_store::Store) -> Figures {
        let cpu_percent = if metrics.cpu { self.cpu() } else { 0.0 };
        let memory_bytes = if metrics.memory { resident_bytes().unwrap_or(0) } else { 0 };
        let storage_bytes =
            if metrics.storage { store.usage().map(|usage| usage.bytes).unwrap_or(0) } else { 0 };
        Figures { cpu_percent, memory_bytes, storage_bytes }
    }

    fn cpu(&mut self) -> f64 {
        let Some(ticks) = cpu_ticks() else { return 0.0 };
        let now = Instant::now();
        let before = self.last.replace((now, ticks));
        let Some((then, ticks_then)) = before else { return 0.0 };
        let seconds = now.duration_since(then).as_secs_f64();
        if seconds < 0.001 {
            return 0.0;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "ticks of a process fit a double for millions of years"
        )]
        let used = ticks.saturating_sub(ticks_then) as f64 / rustix::param::clock_ticks_per_second() as f64;
        (used / seconds * 1000.0).round() / 10.0
    }
}

/// Processor time of this process in clock ticks: fields 14 and 15 of proc(5)'s `stat`.
fn cpu_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name, which may hold spaces and parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory: the second field of proc(5)'s `statm`, in pages.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// What a heartbeat says beside the status.
#[derive(Debug, Clone, Default)]
pub struct Told<'a> {
    /// Figures of this process.
    pub figures: Figures,
    /// The greatest generation that was told.
    pub generation: u64,
    /// The user name that the registry accepted last.
    pub registry_username: Option<String>,
    /// The digest of the list of images that Ground Control knows, by its last answer: the same list is not told again.
    pub known_images: Option<&'a str>,
    /// And that of the list of nodes.
    pub known_nodes: Option<&'a str>,
    /// Artifacts that are on their way.
    pub fetching: Vec<FetchingArtifact>,
}

/// Puts a heartbeat together.
#[must_use]
pub fn compose(status: &Status, config: &Effective, told: Told<'_>, now: Timestamp) -> Heartbeat {
    let figures = told.figures;
    let whole = || status.images.iter().filter(|image| image.whole);
    let mut cached_images: Vec<CachedImage> = whole()
        .flat_map(|image| {
            let base = format!("{}/{}", image.registry, image.repository);
            let size_bytes = image.size_bytes;
            let names: Vec<String> = if image.tags.is_empty() {
                vec![format!("{base}@{}", image.digest)]
            } else {
                image.tags.iter().map(|tag| format!("{base}:{tag}@{}", image.digest)).collect()
            };
            names.into_iter().map(move |reference| CachedImage { reference, size_bytes })
        })
        .take(MAX_IMAGES)
        .collect();
    let inventory_digest = inventory::digest(&cached_images);
    if told.known_images == Some(inventory_digest.as_str()) {
        cached_images.clear();
    }
    let failed = status
        .failed
        .iter()
        .take(MAX_FAILURES)
        .map(|failed| FailedArtifact {
            reference: failed.reference.clone(),
            digest: failed.digest.as_deref().and_then(|digest| digest.parse().ok()),
            reason: shortened(&failed.reason),
            since: failed.since.unwrap_or(now),
            attempts: failed.attempts,
        })
        .collect();
    let conflicts = status
        .conflicts
        .iter()
        .take(MAX_FAILURES)
        .map(|conflict| {
            let mut groups: Vec<String> = conflict.wanted.values().flatten().cloned().collect();
            groups.sort_unstable();
            groups.dedup();
            Conflict {
                reference: conflict.reference.clone(),
                digests: conflict.wanted.keys().filter_map(|digest| digest.parse().ok()).collect(),
                groups,
            }
        })
        .collect();
    let state_error = status
        .desired
        .error
        .iter()
        .map(|reason| DocumentError { document: "satellite state".to_owned(), reason: shortened(reason) });
    let group_errors = status.desired.groups.iter().filter_map(|group| {
        let reason = shortened(group.error.as_deref()?);
        Some(DocumentError { document: group.url.clone(), reason })
    });
    let message = Heartbeat {
        name: status.name.clone().unwrap_or_default(),
        activity: status.activity.clone(),
        state_report_interval: config.heartbeat_interval.to_string(),
        latest_state_digest: status.desired.state_digest.clone().unwrap_or_default(),
        latest_config_digest: status.config.digest.clone().unwrap_or_default(),
        memory_used_bytes: figures.memory_bytes,
        storage_used_bytes: figures.storage_bytes,
        cpu_percent: figures.cpu_percent,
        request_created_time: Some(now),
        last_sync_duration_ms: status
            .last_sync
            .as_ref()
            .map_or(0, |sync| i64::try_from(sync.duration_ms).unwrap_or(i64::MAX)),
        image_count: whole().count() as u64,
        cached_images,
        inventory_digest,
        registry_username: told.registry_username.unwrap_or_default(),
        generation: told.generation,
        fetching: told.fetching,
        failed,
        conflicts,
        config_refusals: status.config.refused.iter().map(|refused| shortened(&refused.reason)).collect(),
        document_errors: state_error.chain(group_errors).take(MAX_FAILURES).collect(),
        nodes: Vec::new(),
        nodes_digest: String::new(),
        version: status.version.clone(),
    };
    message.with_nodes(nodes(&status.nodes, now), told.known_nodes)
}

/// How the nodes of the cluster stand, with as many failures as fit.
fn nodes(nodes: &[NodeStatus], now: Timestamp) -> Vec<NodePresence> {
    let mut room = MAX_NODE_FAILURES;
    let told = nodes.iter().take(MAX_NODES).map(|node| {
        let failures: Vec<NodeFailure> = node
            .failures
            .iter()
            .take(room.min(MAX_FAILURES_PER_NODE))
            .map(|failure| NodeFailure {
                reference: failure.reference.clone(),
                reason: shortened(&failure.reason),
            })
            .collect();
        room -= failures.len();
        NodePresence {
            name: node.name.clone(),
            runtime: node.runtime.clone(),
            runtime_version: node.runtime_version.clone(),
            agent_version: node.agent_version.clone(),
            present: node.present,
            missing: node.pulling.saturating_add(node.waiting).saturating_add(node.failed),
            failed: node.failed,
            failures,
            problem: node.problem.as_deref().map(shortened),
            silent_since: (now.duration_since(node.seen_at) > SILENT).then_some(node.seen_at),
        }
    });
    told.collect()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
