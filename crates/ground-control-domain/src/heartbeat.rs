//! What satellites report: one latest report, a bounded history, and the images they hold.

use jiff::Timestamp;

pub use fleet_protocol::Heartbeat as Report;
pub use fleet_protocol::heartbeat::CachedImage;

use crate::SatelliteId;

/// How many reports the history of one satellite keeps.
pub const HISTORY: i64 = 64;

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
    /// The report. In a history its list of images is empty.
    pub report: Report,
}

/// What became of one report of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatOutcome {
    /// It is recorded. `first`: it is the first that was heard of this satellite since it was pending.
    Recorded {
        /// Whether the satellite came from `pending`.
        first: bool,
    },
    /// The satellite was revoked (or waits for approval) in the meantime: 403.
    Refused,
    /// It was deleted in the meantime: 401.
    Gone,
}
