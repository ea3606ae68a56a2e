//! How far what is desired is at the satellites.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::heartbeat::Report;
use crate::satellite::SatelliteState;

/// How far a group's published list is at one satellite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Progress {
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

impl Progress {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Current, Self::Fetching, Self::Failed, Self::Waiting, Self::Unreachable];

    /// The name in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Fetching => "fetching",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Unreachable => "unreachable",
        }
    }

    /// How it stands with a satellite in this state of which `kept` was noted when it reported last: what somebody who is not
    /// heard of said then is no news, unless it was that all is there.
    pub fn of(kept: Self, state: SatelliteState) -> Self {
        match (kept, state) {
            (Self::Current, _) => Self::Current,
            (kept, SatelliteState::Online) => kept,
            _ => Self::Unreachable,
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Progress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|progress| progress.as_str() == text);
        named.ok_or_else(|| format!("{text:?} is no progress of a rollout"))
    }
}

/// How many members of a group are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of Progress")]
pub struct Totals {
    pub current: u64,
    pub fetching: u64,
    pub failed: u64,
    pub waiting: u64,
    pub unreachable: u64,
}

impl Totals {
    /// All members.
    pub fn wanted(&self) -> u64 {
        self.current + self.fetching + self.failed + self.waiting + self.unreachable
    }

    /// Those of one progress.
    pub fn of(&mut self, progress: Progress) -> &mut u64 {
        match progress {
            Progress::Current => &mut self.current,
            Progress::Fetching => &mut self.fetching,
            Progress::Failed => &mut self.failed,
            Progress::Waiting => &mut self.waiting,
            Progress::Unreachable => &mut self.unreachable,
        }
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its name.
    pub satellite: String,
    /// Where it stands in its life.
    pub state: SatelliteState,
    /// How far it is.
    pub progress: Progress,
    /// When it was heard of last.
    pub last_seen: Option<Timestamp>,
    /// What it said then.
    pub report: Option<Report>,
}

/// Why a member has not all yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// In words; `None` where there is nothing to say.
    pub text: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Bytes of what is on its way that are there.
    pub bytes: u64,
    /// Bytes of it in all, as far as they are known.
    pub total_bytes: u64,
}

impl Member {
    /// Why it has not all of `digests` yet.
    pub fn reason(&self, digests: &BTreeSet<String>) -> Reason {
        let wanted = |digest: Option<&oci::Digest>| digest.is_some_and(|d| digests.contains(&d.to_string()));
        match (self.progress, &self.report) {
            (Progress::Failed, Some(report)) => {
                let failed: Vec<_> = report.failed.iter().filter(|one| wanted(one.digest.as_ref())).collect();
                let first = failed.iter().min_by_key(|one| one.since);
                Reason {
                    text: first.map(|one| match failed.len() {
                        1 => format!("{}: {}", one.reference, one.reason),
                        n => format!("{}: {} (and {} more)", one.reference, one.reason, n - 1),
                    }),
                    since: first.map(|one| one.since),
                    ..Reason::default()
                }
            }
            (Progress::Fetching, Some(report)) => {
                let fetching = report.fetching.iter().filter(|one| wanted(one.digest.as_ref()));
                fetching.fold(Reason::default(), |sum, one| Reason {
                    bytes: sum.bytes.saturating_add(one.bytes),
                    total_bytes: sum.total_bytes.saturating_add(one.total_bytes),
                    ..sum
                })
            }
            (Progress::Unreachable, _) => Reason {
                text: Some(match self.state {
                    SatelliteState::Revoked => "the satellite is revoked".to_owned(),
                    SatelliteState::AwaitingApproval => "the satellite waits for approval".to_owned(),
                    _ if self.last_seen.is_none() => "the satellite was never heard of".to_owned(),
                    _ => "the satellite is silent".to_owned(),
                }),
                since: self.last_seen,
                ..Reason::default()
            },
            _ => Reason::default(),
        }
    }
}

/// How a group's list is at its members.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// The digests of the list that was published last, what has none left out.
    pub digests: BTreeSet<String>,
    /// How many are how far.
    pub totals: Totals,
    /// Whether members are still looked at since the list was published: the totals may be those of the list before.
    pub settling: bool,
    /// A page of the members asked for, in the order in which they were made.
    pub members: crate::Paged<Member>,
}

/// How an artifact is at a satellite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SatelliteArtifact {
    /// The group that wants it; `None` where nobody does and it is there.
    pub group: Option<String>,
    /// Its repository; the whole reference where nobody wants it.
    pub repository: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its digest; `None` where nobody knows it yet.
    pub digest: Option<String>,
    /// Whether the satellite holds it.
    pub there: bool,
}

/// How satellites are, all together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// How many are in which state; deleted ones are not counted.
    pub states: Vec<(SatelliteState, u64)>,
    /// Satellites whose artifacts differ from what they shall have.
    pub drifting: u64,
}
