//! Satellites as people see and make them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::heartbeat::{CachedImage, Heartbeat};

/// Where a satellite is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SatelliteLifecycle {
    /// Created, never seen.
    Pending,
    /// Its heartbeats come.
    Online,
    /// Its heartbeats stay away.
    Stale,
    /// Its identity is refused.
    Revoked,
    /// Registered itself and waits for a person.
    AwaitingApproval,
}

impl SatelliteLifecycle {
    /// The state as documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Online => "online",
            Self::Stale => "stale",
            Self::Revoked => "revoked",
            Self::AwaitingApproval => "awaiting_approval",
        }
    }
}

/// `GET /api/satellites`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Satellite {
    pub id: String,
    pub name: String,
    pub region: String,
    pub spiffe_id: Option<String>,
    pub state: SatelliteLifecycle,
    pub groups: Vec<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub config_name: Option<String>,
    pub last_seen: Option<Timestamp>,
    /// A schedule, as its last heartbeat said.
    pub heartbeat_interval: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `POST /api/satellites`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewSatellite {
    /// Its name.
    pub name: String,
    /// Its groups.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// Its config; `default` where it is absent or empty.
    #[serde(default)]
    pub config_name: Option<String>,
}

/// The answer to `POST /api/satellites`: the one-time token, shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewSatelliteAnswer {
    /// 32 hex digits, good for 24 hours.
    pub token: String,
}

/// `GET /api/satellites/{s}/status`: the latest heartbeat and when it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SatelliteStatus {
    /// The heartbeat as it came.
    #[serde(flatten)]
    pub heartbeat: Heartbeat,
    /// When it came.
    pub received_at: Timestamp,
}

/// `GET /api/satellites/{s}/images`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SatelliteImage {
    /// `host/repository:tag`, without the digest.
    pub reference: String,
    /// The digest, where the satellite told it.
    pub digest: Option<String>,
    /// Bytes.
    pub size_bytes: u64,
}

impl From<&CachedImage> for SatelliteImage {
    fn from(image: &CachedImage) -> Self {
        let (reference, digest) = match image.reference.split_once('@') {
            Some((reference, digest)) => (reference, Some(digest.to_owned())),
            None => (image.reference.as_str(), None),
        };
        Self { reference: reference.to_owned(), digest, size_bytes: image.size_bytes }
    }
}
