//! How the nodes stand, by what their agents report; in memory, and gone some time after the last report.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Site;
use super::wire::{ImageState, LONGEST_NAME, LONGEST_REASON, NodeReport};
use crate::status::StatusBoard;

/// The most nodes of a site.
pub const MOST_NODES: usize = 512;
/// A node that is silent for this long is no longer counted as there.
pub const SILENT: SignedDuration = SignedDuration::from_mins(5);
/// And after this it is forgotten.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(24);
/// The most failures that are kept of a node.
const MOST_FAILED: usize = 20;
const LONGEST_WORD: usize = 100;
/// How often the status tells when each node was seen.
const SHOW: Duration = Duration::from_secs(30);

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// The last report.
    pub seen_at: Timestamp,
    /// `containerd`, `cri-o`; empty while no runtime answers there.
    pub runtime: String,
    /// The runtime's version.
    pub runtime_version: String,
    /// The agent's version.
    pub agent_version: String,
    /// Images of the plan that it has.
    pub present: u64,
    /// Images that it pulls at this moment.
    pub pulling: u64,
    /// Images that it does not have yet.
    pub waiting: u64,
    /// Images that it could not get; [`Self::failures`] names the first of them.
    pub failed: u64,
    /// What failed, and why.
    pub failures: Vec<NodeFailure>,
    /// What keeps its agent from its work.
    pub problem: Option<String>,
}

/// One image that a node could not get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFailure {
    /// The name by which it was asked for.
    pub reference: String,
    /// The digest that it shall have.
    pub digest: String,
    /// Why.
    pub reason: String,
}

/// Too many nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this site has {MOST_NODES} nodes already; one that is silent for a day makes room")]
pub struct Full;

/// The nodes of a site.
#[derive(Debug)]
pub struct Nodes {
    known: Mutex<BTreeMap<String, NodeStatus>>,
    changes: watch::Sender<u64>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { known: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Nodes {
    fn known(&self) -> MutexGuard<'_, BTreeMap<String, NodeStatus>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a report.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(&self, name: &str, report: NodeReport, now: Timestamp) -> Result<(), Full> {
        let status = status(name, report, now);
        let mut known = self.known();
        known.retain(|_, node| now.duration_since(node.seen_at) < FORGOTTEN);
        if !known.contains_key(name) && known.len() >= MOST_NODES {
            return Err(Full);
        }
        let before = known.insert(name.to_owned(), status.clone());
        drop(known);
        let same = before.is_some_and(|before| NodeStatus { seen_at: now, ..before } == status);
        if !same {
            self.changes.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    /// All that were heard of within a day, by name.
    #[must_use]
    pub fn list(&self, now: Timestamp) -> Vec<NodeStatus> {
        let known = self.known();
        known.values().filter(|node| now.duration_since(node.seen_at) < FORGOTTEN).cloned().collect()
    }

    /// Woken when a node stands otherwise than before.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn status(name: &str, report: NodeReport, now: Timestamp) -> NodeStatus {
    let count = |state: ImageState| report.images.iter().filter(|image| image.state == state).count() as u64;
    let (present, pulling) = (count(ImageState::Present), count(ImageState::Pulling));
    let (waiting, failed) = (count(ImageState::Waiting), count(ImageState::Failed));
    let failures = report.images.iter().filter(|image| image.state == ImageState::Failed);
    let failures = failures.take(MOST_FAILED).map(|image| NodeFailure {
        reference: cut(&image.name, LONGEST_NAME),
        digest: cut(&image.digest, LONGEST_NAME),
        reason: cut(image.reason.as_deref().unwrap_or_default(), LONGEST_REASON),
    });
    NodeStatus {
        name: name.to_owned(),
        seen_at: now,
        runtime: cut(&report.runtime, LONGEST_WORD),
        runtime_version: cut(&report.runtime_version, LONGEST_WORD),
        agent_version: cut(&report.agent_version, LONGEST_WORD),
        present,
        pulling,
        waiting,
        failed,
        failures: failures.collect(),
        problem: report.problem.as_deref().map(|problem| cut(problem, LONGEST_REASON)),
    }
}

/// What others write is shown to people: no control characters, and not without end.
fn cut(text: &str, most: usize) -> String {
    text.chars().filter(|char| !char.is_control()).take(most).collect()
}

/// Shows in the status how the nodes stand, for as long as it is polled.
pub async fn show(site: Site, board: StatusBoard) {
    let mut changes = site.nodes().subscribe();
    loop {
        changes.mark_unchanged();
        let nodes = site.nodes().list(Timestamp::now());
        if board.read(|status| status.nodes != nodes) {
            board.update(|status| status.nodes = nodes);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(SHOW) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::wire::NodeImage;

    fn report(states: &[ImageState]) -> NodeReport {
        let image = |state: &ImageState| NodeImage {
            name: "q.io/a:1".to_owned(),
            digest: "sha256:1".to_owned(),
            state: *state,
            reason: Some("x\n".repeat(2000)),
        };
        NodeReport {
            runtime: "containerd".to_owned(),
            images: states.iter().map(image).collect(),
            ..NodeReport::default()
        }
    }

    #[test]
    fn what_a_node_says_is_counted_and_cut() {
        let (nodes, now) = (Nodes::default(), Timestamp::now());
        let mut states = vec![ImageState::Failed; 30];
        states.extend([ImageState::Present, ImageState::Present, ImageState::Pulling, ImageState::Waiting]);
        nodes.take("n1", report(&states), now).unwrap();
        let listed = nodes.list(now);
        let node = &listed[0];
        assert_eq!((node.present, node.pulling, node.waiting, node.failed), (2, 1, 1, 30));
        assert_eq!((node.failures.len(), node.failures[0].reason.len()), (MOST_FAILED, LONGEST_REASON));
        assert!(!node.failures[0].reason.contains('\n'));
    }

    #[test]
    fn only_another_state_is_a_change() {
        let (nodes, now) = (Nodes::default(), Timestamp::now());
        let changes = nodes.subscribe();
        nodes.take("n1", report(&[ImageState::Waiting]), now).unwrap();
        assert_eq!(*changes.borrow(), 1);
        nodes.take("n1", report(&[ImageState::Waiting]), now + SILENT).unwrap();
        assert_eq!(*changes.borrow(), 1);
        nodes.take("n1", report(&[ImageState::Present]), now + SILENT).unwrap();
        assert_eq!(*changes.borrow(), 2);
    }

    #[test]
    fn nodes_are_bounded_and_silent_ones_make_room() {
        let (nodes, now) = (Nodes::default(), Timestamp::now());
        for number in 0..MOST_NODES {
            nodes.take(&format!("n{number}"), NodeReport::default(), now).unwrap();
        }
        assert_eq!(nodes.take("new", NodeReport::default(), now), Err(Full));
        nodes.take("n0", NodeReport::default(), now + SILENT).unwrap();
        nodes.take("new", NodeReport::default(), now + FORGOTTEN).unwrap();
        let names: Vec<String> = nodes.list(now + FORGOTTEN).into_iter().map(|node| node.name).collect();
        assert_eq!(names, ["n0", "new"]);
    }
}
