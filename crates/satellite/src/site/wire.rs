//! What a site's satellite and its node agents say to each other, as JSON over TLS.

use serde::{Deserialize, Serialize};

/// Where the plan is.
pub const PLAN_PATH: &str = "/site/v1/plan";
/// Where nodes tell how they stand, followed by a node's name.
pub const NODES_PATH: &str = "/site/v1/nodes/";
/// The largest plan, in bytes.
pub const LARGEST_PLAN: usize = 4 * 1024 * 1024;
/// The largest report of a node, in bytes.
pub const LARGEST_REPORT: usize = 1024 * 1024;
/// The most images of a plan, and of a report.
pub const MOST_IMAGES: usize = 4000;
/// The longest name of an image, in bytes.
pub const LONGEST_NAME: usize = 512;
/// The longest reason, in characters.
pub const LONGEST_REASON: usize = 500;

/// What every node of the site shall have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePlan {
    /// The images. Each is there once, whatever it is called.
    pub images: Vec<PlannedImage>,
    /// Whether this is all: only then may a node remove what is not here.
    pub whole: bool,
}

/// One image of the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedImage {
    /// The name by which runtimes pull it: of the upstream registry, which the site's satellite stands in for.
    pub name: String,
    /// The central registry's names of the same content.
    #[serde(default)]
    pub also: Vec<String>,
    /// The digest that the name stands for; empty where that is not known before it is local.
    pub digest: String,
    /// Whether the satellite has it whole; before that a node does not ask for it.
    pub local: bool,
}

/// How a node stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Version of the agent's program.
    pub agent_version: String,
    /// What the runtime calls itself: `containerd`, `cri-o`.
    pub runtime: String,
    /// The runtime's version.
    pub runtime_version: String,
    /// How it stands with each image of the plan.
    pub images: Vec<NodeImage>,
    /// What keeps the agent from its work, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How it stands with one image on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeImage {
    /// The name by which it was planned.
    pub name: String,
    /// The digest that was planned.
    pub digest: String,
    /// How it stands.
    pub state: ImageState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The states of an image on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// The runtime has it under that name, with that digest.
    Present,
    /// The runtime pulls it.
    Pulling,
    /// It is not there yet, and nothing failed.
    Waiting,
    /// The runtime did not get it; it is tried again.
    Failed,
}

/// Whether a text can be a node's name: 1 to 253 letters, digits, dots, hyphens and underscores, as Kubernetes has them.
#[must_use]
pub fn is_node_name(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=253).contains(&text.len()) && text.bytes().all(inside) && text.bytes().any(|b| b != b'.')
}
