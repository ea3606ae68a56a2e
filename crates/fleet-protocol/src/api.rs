//! Requests and answers of the people's REST routes, shared by the server and its command line.
//!
//! Keys are snake_case, times RFC 3339, what is absent is `null`, an empty list `[]`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::heartbeat::{CachedImage, Heartbeat};
use crate::state::Artifact;

/// Every error: `{"message", "code"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed, on what, why, what to do.
    pub message: String,
    /// The HTTP status.
    pub code: u16,
}

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything except users and SPIRE; pulls.
    Viewer,
    /// Changes everything except users, SPIRE and what removes a group; pushes, pulls and deletes images.
    Admin,
    /// May do everything.
    SystemAdmin,
}

impl Role {
    /// The role as documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
            Self::SystemAdmin => "system_admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "admin" => Ok(Self::Admin),
            "system_admin" => Ok(Self::SystemAdmin),
            other => Err(format!("`{other}` is no role; use viewer, admin or system_admin")),
        }
    }
}

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

/// `POST /login`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LoginRequest {
    pub username: String,
    pub password: String,
}

/// The answer to `POST /login`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LoginAnswer {
    pub token: String,
    pub expires_at: Timestamp,
}

/// `GET /api/users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct User {
    pub id: String,
    pub username: String,
    pub role: Role,
    pub created_at: Timestamp,
}

/// `POST /api/users`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct NewUser {
    pub username: String,
    pub password: String,
    #[serde(default = "admin")]
    pub role: Role,
}

fn admin() -> Role {
    Role::Admin
}

/// `PATCH /api/users/password`, of oneself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ChangePassword {
    pub current_password: String,
    pub new_password: String,
}

/// `PATCH /api/users/{u}/password`, of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SetPassword {
    pub new_password: String,
}

/// `GET /api/groups`. `POST /api/groups/sync` takes a [`crate::GroupState`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Group {
    pub id: String,
    pub group_name: String,
    pub registry_url: String,
    /// First path segments of the artifacts' repositories.
    pub projects: Vec<String>,
    pub artifacts: Vec<Artifact>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `POST` and `DELETE /api/groups/satellite`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct GroupMember {
    pub satellite: String,
    pub group: String,
}

/// A word that something was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// What was done.
    pub message: String,
}

/// `GET /api/configs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Config {
    pub id: String,
    pub config_name: String,
    pub registry_url: String,
    pub config: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `POST /api/configs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewConfig {
    /// Its name.
    pub config_name: String,
    /// Taken and passed over: Ground Control writes its own.
    #[serde(default)]
    pub registry: Option<String>,
    /// The document.
    pub config: Value,
}

/// `POST /api/configs/satellite`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ConfigAssignment {
    pub satellite: String,
    pub config_name: String,
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
