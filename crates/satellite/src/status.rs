//! What the satellite knows about itself, for the status socket and the heartbeat.
//!
//! One value, written only by [`crate::events::Events`] and the reconcile, read by anybody: a snapshot is always
//! consistent, and a subscriber is woken by each change. It holds no secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::site::nodes::NodeStatus;
use crate::transfers::Transfers;

/// Everything that `satellite status` and `satellite images` show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The satellite's name, once registration told it.
    pub name: Option<String>,
    /// Version of this program.
    pub version: String,
    /// When the process started.
    pub started_at: Timestamp,
    /// What it is doing, in a few words (`idle`, `replicating 3 artifacts`, …).
    pub activity: String,
    /// Where registration stands.
    pub registration: Registration,
    /// By what the satellite identifies itself.
    pub identity: IdentityStatus,
    /// The schedulers by name: `registration`, `replication`, `heartbeat`.
    pub schedulers: BTreeMap<String, SchedulerStatus>,
    /// By what it follows what it shall have.
    pub follow: FollowStatus,
    /// What was asked for, and how far it could be read.
    pub desired: DesiredStatus,
    /// What is held and whole.
    pub images: Vec<ImageStatus>,
    /// What should be here and is not, each with the reason.
    pub failed: Vec<FailedArtifact>,
    /// Tags for which groups ask two digests.
    pub conflicts: Vec<TagConflict>,
    /// The configuration from Ground Control.
    pub config: ConfigStatus,
    /// The mirrors of this machine's container runtimes.
    pub mirrors: MirrorsStatus,
    /// The listener for other machines of the site, if there shall be one.
    pub lan: Option<LanStatus>,
    /// By destination: what is brought from here to image folders and nodes.
    pub deliveries: BTreeMap<String, DeliveryStatus>,
    /// Docker's own listener, where it needs one.
    pub docker_mirror: Option<DockerMirrorStatus>,
    /// The nodes of the site's cluster, by their agents' reports.
    pub nodes: Vec<NodeStatus>,
    /// The last reconcile.
    pub last_sync: Option<LastSync>,
    /// Things that a person should look at and that belong to no artifact.
    pub warnings: Vec<String>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            name: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Timestamp::now(),
            activity: "starting".to_owned(),
            registration: Registration::default(),
            identity: IdentityStatus::default(),
            schedulers: BTreeMap::new(),
            follow: FollowStatus::default(),
            desired: DesiredStatus::default(),
            images: Vec::new(),
            failed: Vec::new(),
            conflicts: Vec::new(),
            config: ConfigStatus::default(),
            mirrors: MirrorsStatus::default(),
            lan: None,
            deliveries: BTreeMap::new(),
            docker_mirror: None,
            nodes: Vec::new(),
            last_sync: None,
            warnings: Vec::new(),
        }
    }
}

/// Where registration stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Registration {
    /// `pending`, `registered`, `refused` or `not_configured`.
    pub state: RegistrationState,
    /// Since when it stands there.
    pub since: Option<Timestamp>,
    /// What a person should know: the last error, or what to do.
    pub message: Option<String>,
}

/// The states of a registration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrationState {
    /// Not yet answered; it is being tried.
    #[default]
    Pending,
    /// Credentials are held.
    Registered,
    /// Ground Control says no (token unknown, used or expired; satellite revoked or deleted); it is tried on, slowly.
    Refused,
    /// No Ground Control or no token is configured.
    NotConfigured,
}

/// By what the satellite identifies itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityStatus {
    /// `token`, `workload_api` or `builtin`.
    pub source: String,
    /// The SPIFFE ID of the last SVID.
    pub spiffe_id: Option<String>,
    /// When that SVID ends.
    pub expires_at: Option<Timestamp>,
    /// Authorities in the trust bundle.
    pub authorities: u64,
    /// When this process took the SVID into use.
    pub taken_at: Option<Timestamp>,
    /// Why there is none, or why it is not renewed.
    pub problem: Option<String>,
    /// Since when.
    pub problem_since: Option<Timestamp>,
}

/// By what the satellite follows what it shall have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FollowStatus {
    /// `waiting`, `interval`, `registry` or `kept`.
    pub by: FollowedBy,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The greatest generation that Ground Control told; 0 before the first.
    pub generation: u64,
}

/// The ways to follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowedBy {
    /// A request to Ground Control is always under way, and is answered when something changes.
    Waiting,
    /// Ground Control's answers to heartbeats, at their interval.
    Interval,
    /// The registry is looked at in each turn of the replication: Ground Control does not tell, or does not answer.
    #[default]
    Registry,
    /// What was read last, until Ground Control answers for the first time after the start.
    Kept,
}

/// One scheduler.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerStatus {
    /// The schedule in force (`@every …` or cron); empty when it is done.
    pub schedule: String,
    /// It has nothing left to do (registration that succeeded).
    pub done: bool,
    /// It runs at this moment.
    pub running: bool,
    /// When it runs next.
    pub next_run: Option<Timestamp>,
    /// When it ran last (its start).
    pub last_run: Option<Timestamp>,
    /// How long that took, in milliseconds.
    pub last_duration_ms: Option<u64>,
    /// Why the last run failed; `None` when it did not.
    pub last_error: Option<String>,
    /// Failed runs in a row.
    pub failures_in_a_row: u32,
    /// Runs since the start.
    pub runs: u64,
}

/// The desired state as it was last read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DesiredStatus {
    /// Digest of the satellite state in force.
    pub state_digest: Option<String>,
    /// When all of it was last read successfully.
    pub read_at: Option<Timestamp>,
    /// Every document was read; only then is anything removed.
    pub whole: bool,
    /// Removals that wait because not every document could be read.
    pub removals_held_back: u64,
    /// Why the satellite state itself could not be read, if so.
    pub error: Option<String>,
    /// The groups.
    pub groups: Vec<GroupStatus>,
}

/// One group's document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupStatus {
    /// The group's name, or its document's address while nothing of it was ever read.
    pub name: String,
    /// Where the document is.
    pub url: String,
    /// Digest of the content in force.
    pub digest: Option<String>,
    /// How many artifacts it lists.
    pub artifacts: u64,
    /// Why it could not be read this time; its last content stays in force.
    pub error: Option<String>,
    /// Since when it cannot be read.
    pub since: Option<Timestamp>,
}

/// One artifact that is held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageStatus {
    /// Host of the registry that it comes from.
    pub registry: String,
    /// Repository, with its project path.
    pub repository: String,
    /// Tags that point at it here.
    pub tags: Vec<String>,
    /// Its digest.
    pub digest: String,
    /// Bytes of everything that it consists of.
    pub size_bytes: u64,
    /// Groups that want it.
    pub groups: Vec<String>,
    /// Complete and served (an old version that waits for its successor is, too).
    pub whole: bool,
}

/// One artifact that could not be brought here, or not be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailedArtifact {
    /// `host/repository[:tag]`.
    pub reference: String,
    /// The digest, where it is known.
    pub digest: Option<String>,
    /// What failed and why.
    pub reason: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Tries so far.
    pub attempts: u32,
    /// When it is tried next.
    pub next_try: Option<Timestamp>,
}

/// A tag for which groups ask two digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TagConflict {
    /// `repository:tag`.
    pub reference: String,
    /// Digest that the tag keeps pointing at here, if it is set.
    pub kept: Option<String>,
    /// What is asked for: digest and the groups that ask.
    pub wanted: BTreeMap<String, Vec<String>>,
}

/// The configuration from Ground Control.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigStatus {
    /// Digest of the document in force.
    pub digest: Option<String>,
    /// When it came into force in this process.
    pub applied_at: Option<Timestamp>,
    /// The document that was refused, if the newest one was.
    pub refused: Option<RefusedConfig>,
    /// Settings that wait for a restart.
    pub restart_needed: Vec<String>,
    /// Keys that are not honoured.
    pub warnings: Vec<String>,
}

/// A config document that is not worked with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RefusedConfig {
    /// Its digest, where it could be read at all.
    pub digest: Option<String>,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// The mirrors of this machine's container runtimes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorsStatus {
    /// By runtime: those that shall have mirrors, and those that had them.
    pub runtimes: BTreeMap<String, RuntimeMirrors>,
    /// Why nothing could be done at all, if so.
    pub problem: Option<String>,
    /// When it was looked at last.
    pub looked_at: Option<Timestamp>,
}

/// One container runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeMirrors {
    /// `in_force`, `removed`, `restart_needed`, `refused` or `rolled_back`.
    pub state: String,
    /// Why, or what was done.
    pub message: Option<String>,
}

/// The listener for other machines of the site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LanStatus {
    /// Where it listens; `None` while it does not.
    pub address: Option<String>,
    /// Whose its certificate is: `local_ca` or `files`.
    pub certificate: String,
    /// What the certificate names, where the local authority signed it.
    pub names: Vec<String>,
    /// When the certificate ends.
    pub expires_at: Option<Timestamp>,
    /// When the local authority ends.
    pub authority_expires_at: Option<Timestamp>,
    /// Accounts that may log in.
    pub accounts: u64,
    /// Why it does not listen, or its certificate is not renewed.
    pub problem: Option<String>,
    /// Why the accounts are not those that the file says.
    pub accounts_problem: Option<String>,
}

/// A destination that takes what is whole here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveryStatus {
    /// `done`, `delivering` or `waiting`.
    pub state: String,
    /// Images that are there.
    pub delivered: u64,
    /// Those that shall be there and are not.
    pub missing: u64,
    /// The images that are there.
    pub images: Vec<DeliveredImage>,
    /// What could not be brought there, or not be removed, each with the reason.
    pub failed: Vec<FailedArtifact>,
    /// Why nothing can be done there at all, if so.
    pub problem: Option<String>,
    /// When it was looked at last.
    pub looked_at: Option<Timestamp>,
}

/// An image at a further destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeliveredImage {
    /// The repository at the central registry.
    pub repository: String,
    /// The tags under which it is there.
    pub tags: Vec<String>,
    /// Its digest.
    pub digest: String,
}

/// Docker's own listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerMirrorStatus {
    /// Where it listens; `None` while it does not.
    pub address: Option<String>,
    /// Why it does not.
    pub problem: Option<String>,
}

/// What the last reconcile did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastSync {
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Artifacts brought here.
    pub replicated: u64,
    /// Tags and manifests removed.
    pub removed: u64,
    /// Artifacts that failed.
    pub failed: u64,
    /// Bytes that came from upstream.
    pub bytes_fetched: u64,
}

/// The place where the status stands. Clones share it.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    sender: watch::Sender<Status>,
    transfers: Transfers,
}

impl Default for StatusBoard {
    fn default() -> Self {
        Self { sender: watch::Sender::new(Status::default()), transfers: Transfers::default() }
    }
}

impl StatusBoard {
    /// What is on its way at this moment. Apart from the rest, because it changes with every few megabytes and wakes
    /// nobody.
    #[must_use]
    pub fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// The status now.
    #[must_use]
    pub fn snapshot(&self) -> Status {
        self.sender.borrow().clone()
    }

    /// Reads the status without copying it.
    pub fn read<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        look(&self.sender.borrow())
    }

    /// Woken by each change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.sender.subscribe()
    }

    /// Changes the status; subscribers are woken once.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        self.sender.send_modify(change);
    }

    /// Adds a warning unless the same one already stands there.
    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        self.sender.send_if_modified(|status| {
            let new = !status.warnings.contains(&warning);
            if new {
                status.warnings.push(warning);
            }
            new
        });
    }
}
