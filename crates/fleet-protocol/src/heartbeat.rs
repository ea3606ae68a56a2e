//! The heartbeat, `POST /satellites/sync`.
//!
//! With `Prefer: wait=N` (RFC 7240 section 4.3, at most [`MAX_WAIT_SECONDS`]) the same request is a long poll: it is answered
//! when what is desired changes, or after N seconds. An answer without `Preference-Applied` comes from a Ground Control that
//! knows no waiting.

use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Deserializer, Serialize};

use crate::desired::Desired;
use crate::inventory;

/// The longest time that a heartbeat may ask to wait for a change.
pub const MAX_WAIT_SECONDS: u32 = 60;

/// What a satellite says of itself. The first fields are the field's; what stands under `failed` and later is ours and is
/// passed over by deployed Ground Controls. Identity comes from the credential, never from `name`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Heartbeat {
    /// The satellite's name as it knows it.
    pub name: String,
    /// What it is doing, for people.
    pub activity: String,
    /// Its heartbeat interval as a schedule: `@every 00h00m30s`.
    pub state_report_interval: String,
    /// Digest of the satellite state document that is in force; empty before the first.
    pub latest_state_digest: String,
    /// Digest of the config document that is in force; empty before the first.
    pub latest_config_digest: String,
    /// Resident memory of the satellite's process, in bytes.
    pub memory_used_bytes: u64,
    /// Bytes of its store on disk.
    pub storage_used_bytes: u64,
    /// CPU of its process since the last heartbeat, in percent of one core.
    pub cpu_percent: f64,
    /// When this was made.
    pub request_created_time: Option<Timestamp>,
    /// How long the last replication took, in milliseconds.
    pub last_sync_duration_ms: i64,
    /// Number of images.
    pub image_count: u64,
    /// The images. Left out where [`Self::inventory_digest`] tells a Ground Control that knows the list that it is the same.
    #[serde(deserialize_with = "null_is_empty")]
    pub cached_images: Vec<CachedImage>,
    /// [`inventory::digest`] of all images, whether or not they are listed here; empty from deployed satellites.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub inventory_digest: String,
    /// The user name that the registry last accepted: an account that it took the place of can go.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registry_username: String,
    /// The greatest generation ([`Desired::generation`]) that it was told and took, whether or not all of it is there yet; 0
    /// before the first. A heartbeat that waits is answered at once only where Ground Control has a greater one.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Artifacts that are on their way.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub fetching: Vec<FetchingArtifact>,
    /// Artifacts that could not be brought where they belong.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub failed: Vec<FailedArtifact>,
    /// Tags on which groups disagree.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub conflicts: Vec<Conflict>,
    /// Why the last remote config was refused; empty where it is in force.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub config_refusals: Vec<String>,
    /// Documents that could not be read, whose last good version stays in force.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub document_errors: Vec<DocumentError>,
    /// The nodes of the site's cluster, as their agents report; at most [`MAX_NODES`]. Left out where [`Self::nodes_digest`]
    /// tells a Ground Control that knows the list that it is the same.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub nodes: Vec<NodePresence>,
    /// [`crate::nodes::digest`] of all nodes, whether or not they are listed here; empty where there are none, and from a
    /// satellite that always lists them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nodes_digest: String,
    /// Version of the satellite's program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}

/// The most nodes that a heartbeat tells of.
pub const MAX_NODES: usize = 512;

/// How a node of the site's cluster stands. It says nothing new as long as nothing changes there, so that it is no news.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodePresence {
    /// Its name in the cluster.
    pub name: String,
    /// Its container runtime: `containerd`, `cri-o`; empty while none answers there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// The runtime's version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime_version: String,
    /// The version of its agent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent_version: String,
    /// Images of its site that its runtime has.
    pub present: u64,
    /// Images that it does not have yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: u64,
    /// Images that it could not get, which are tried again.
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// The first of those that failed: which, and why.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub failures: Vec<NodeFailure>,
    /// What keeps its agent from its work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When it was heard of last, where that is a while ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Timestamp>,
}

/// An image that a node could not get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFailure {
    /// The name by which it was asked for.
    pub reference: String,
    /// What failed, and why.
    pub reason: String,
}

/// An image that is on the satellite.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedImage {
    /// `host/repository:tag@sha256:…`.
    pub reference: String,
    /// Bytes of its blobs and manifests.
    #[serde(default)]
    pub size_bytes: u64,
}

impl Heartbeat {
    /// Whether the images are listed here. Where they are not, those of the last list with this `inventory_digest` are meant.
    pub fn lists_images(&self) -> bool {
        self.inventory_digest.is_empty() || inventory::digest(&self.cached_images) == self.inventory_digest
    }
}

/// An artifact that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchingArtifact {
    /// `repository:tag` or `repository@digest`.
    pub reference: String,
    /// The wanted digest.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// Bytes that are here, those of blobs that were here before included.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes of all blobs of it that are known so far; 0 while none is.
    #[serde(default)]
    pub total_bytes: u64,
}

/// An artifact that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedArtifact {
    /// `repository:tag` or `repository@digest`.
    pub reference: String,
    /// The wanted digest, where it is known.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// What failed, on what, and why.
    pub reason: String,
    /// Since when it fails.
    pub since: Timestamp,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
}

/// A tag for which groups want different digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// `repository:tag`.
    pub reference: String,
    /// The digests that are wanted.
    pub digests: Vec<Digest>,
    /// The groups that want them.
    pub groups: Vec<String>,
}

/// A document that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentError {
    /// Reference of the document.
    pub document: String,
    /// Why it could not be read.
    pub reason: String,
}

/// The event of a heartbeat's answer that asks for fresh registry credentials (`POST /satellites/credentials`).
pub const REFRESH_CREDENTIALS: &str = "refresh_credentials";

/// The answer to a heartbeat. An empty body is the same as an empty object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeartbeatAnswer {
    /// What the satellite is asked to do: `refresh_credentials`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub events: Vec<String>,
    /// What the satellite shall have, as it is published now; absent where Ground Control does not know that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<Desired>,
    /// The [`inventory::digest`] that Ground Control holds of this satellite: where it is the satellite's own, the next
    /// heartbeat need not list the images. Absent where Ground Control does not know of such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inventory_digest: Option<String>,
    /// The digest by which Ground Control knows the list of nodes that it holds, for who sent one: where it is the satellite's
    /// own, the next heartbeat need not list them. Absent where Ground Control does not know of such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes_digest: Option<String>,
}

impl HeartbeatAnswer {
    /// Reads an answer's body, which deployed Ground Controls leave empty.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        serde_json::from_slice::<Option<Self>>(body).map(Option::unwrap_or_default)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployed_heartbeat_is_read() {
        let text = r#"{"name":"edge-01","activity":"state synced","state_report_interval":"@every 00h00m30s",
          "latest_state_digest":"sha256:1","latest_config_digest":"","memory_used_bytes":1,"storage_used_bytes":2,
          "cpu_percent":0.5,"request_created_time":"2026-11-01T10:00:00.123456789Z","last_sync_duration_ms":3,
          "image_count":1,"cached_images":[{"reference":"h/r:t@sha256:2","size_bytes":4}]}"#;
        let heartbeat: Heartbeat = serde_json::from_str(text).unwrap();
        assert_eq!(heartbeat.cached_images[0].size_bytes, 4);
        let nothing: Heartbeat = serde_json::from_str(r#"{"cached_images":null,"new":1}"#).unwrap();
        assert!(nothing.cached_images.is_empty());
    }

    #[test]
    fn answers() {
        for body in ["", " \n", "{}", "null", r#"{"events":null,"desired":null,"later":{}}"#] {
            assert_eq!(
                HeartbeatAnswer::parse(body.as_bytes()).unwrap(),
                HeartbeatAnswer::default(),
                "{body}"
            );
        }
        let answer = HeartbeatAnswer::parse(br#"{"events":["refresh_credentials"]}"#).unwrap();
        assert_eq!(answer.events, ["refresh_credentials"]);
        assert!(HeartbeatAnswer::parse(b"<html>").is_err());
    }
}
