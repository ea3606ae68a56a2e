//! How far what is wanted is at the satellites.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SatelliteLifecycle;

/// How far what a group wants is at a satellite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutProgress {
    /// All of it is there.
    Current,
    /// Some of it is on its way.
    Fetching,
    /// Some of it failed.
    Failed,
    /// Some of it is absent, and the satellite has said nothing of it yet.
    Waiting,
    /// Some of it is absent, and the satellite is not heard of.
    Unreachable,
}

/// `GET /api/groups/{g}/rollout`: how far the list that a group published last is at its satellites.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The group.
    pub group_name: String,
    /// The manifest digest of the group's published document; absent before the first.
    pub digest: Option<String>,
    /// When that was published.
    pub published_at: Option<Timestamp>,
    /// How many artifacts the published list has, by digest.
    pub artifacts: u64,
    /// Whether satellites are still looked at since then: totals may lag behind the list for some seconds.
    pub settling: bool,
    /// How many satellites are how far.
    pub totals: RolloutTotals,
    /// A page of the satellites asked for, in the order in which they were made.
    pub satellites: Vec<RolloutSatellite>,
}

/// How many satellites of a group are how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RolloutTotals {
    /// All of them: the sum of the others.
    pub wanted: u64,
    /// [`RolloutProgress::Current`].
    pub current: u64,
    /// [`RolloutProgress::Fetching`].
    pub fetching: u64,
    /// [`RolloutProgress::Failed`].
    pub failed: u64,
    /// [`RolloutProgress::Waiting`].
    pub waiting: u64,
    /// [`RolloutProgress::Unreachable`].
    pub unreachable: u64,
}

/// How far a group's list is at one satellite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutSatellite {
    /// Its name.
    pub satellite: String,
    /// Where it stands in its life.
    pub state: SatelliteLifecycle,
    /// How far it is.
    pub progress: RolloutProgress,
    /// Why it has not all of it, in words.
    pub reason: Option<String>,
    /// Since when that is so.
    pub since: Option<Timestamp>,
    /// Bytes that are there of what is on its way.
    pub bytes: u64,
    /// Bytes of it in all, as far as they are known.
    pub total_bytes: u64,
    /// When it was heard of last.
    pub last_seen: Option<Timestamp>,
}

/// How an artifact is at a satellite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactState {
    /// Wanted, and there.
    There,
    /// Wanted, and on its way.
    Fetching,
    /// Wanted, and it failed.
    Failed,
    /// Wanted, and not there.
    Wanted,
    /// Wanted by a tag of which nobody knows the digest yet.
    Unresolved,
    /// There, and wanted by nobody.
    Undesired,
}

/// `GET /api/satellites/{s}/artifacts`: an artifact that a satellite shall have or holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SatelliteArtifact {
    /// The group that wants it; absent where nobody does.
    pub group_name: Option<String>,
    /// Its repository; the whole reference where nobody wants it.
    pub repository: String,
    /// Its tags.
    pub tag: Vec<String>,
    /// Its digest.
    pub digest: Option<String>,
    /// How it is.
    pub state: ArtifactState,
    /// Bytes that are there, while it is on its way.
    pub bytes: Option<u64>,
    /// Bytes of it in all, as far as they are known.
    pub total_bytes: Option<u64>,
    /// Why it failed.
    pub reason: Option<String>,
    /// Since when it fails.
    pub since: Option<Timestamp>,
    /// How often it was tried.
    pub attempts: Option<u32>,
}
