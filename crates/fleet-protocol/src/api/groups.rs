//! Groups of artifacts, what their lists stand for, and their history.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::registration::exposed;
use crate::rule::Pattern;
use crate::state::Artifact;

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
    /// Chooses satellites by their labels, beside those that are in the group by name.
    #[serde(default)]
    pub selector: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// `GET /api/groups/{g}`: a group, and what its list stands for at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupDetail {
    /// The group with its list as people gave it.
    #[serde(flatten)]
    pub group: Group,
    /// Each tag, each rule and each digest of the list, in its order, with what satellites are given for it.
    #[serde(default)]
    pub resolutions: Vec<ArtifactResolution>,
}

/// What a tag, a rule or a digest of a group's list stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactResolution {
    /// The repository.
    pub repository: String,
    /// The tag, where it is one.
    pub tag: Option<String>,
    /// The digest, where it is one.
    pub digest: Option<String>,
    /// The rule, where it is one.
    #[serde(rename = "match")]
    pub pattern: Option<Pattern>,
    /// How many tags the rule keeps.
    pub keep: Option<u32>,
    /// What satellites are given; empty: the tag as it is, or nothing for a rule.
    pub resolved: Vec<ResolvedArtifact>,
    /// Since when that is so.
    pub resolved_at: Option<Timestamp>,
    /// Why the registry gives nothing for it at this moment: what was found before stays.
    pub unresolved: Option<UnresolvedArtifact>,
}

/// A manifest that satellites are given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedArtifact {
    /// The tag that points at it.
    pub tag: Option<String>,
    /// Its digest.
    pub digest: String,
    /// Stands for all that refers to it; another one where anything came or went.
    pub referrers: Option<String>,
}

/// Why nothing was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnresolvedArtifact {
    /// In words.
    pub reason: String,
    /// Since when no look has found anything.
    pub since: Timestamp,
}

/// `POST /api/groups/{g}/replication-secret`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicationUrl {
    /// Where the group's replication adapter posts to. Whoever has it can add to the group.
    #[serde(serialize_with = "exposed")]
    pub url: SecretString,
}

/// `PUT /api/groups/{g}/selector`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSelector {
    /// A label selector in Kubernetes' syntax; absent or empty: only satellites by name.
    pub selector: Option<String>,
}

/// What a change did to a group's list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupDifference {
    /// Artifacts that came.
    pub added: Vec<Artifact>,
    /// Artifacts that went.
    pub removed: Vec<Artifact>,
    /// Artifacts of the same repository that are another digest now, or have other tags, labels, platforms or another rule.
    pub changed: Vec<ArtifactChange>,
    /// Whether those that stayed stand in another order.
    pub reordered: bool,
}

/// One artifact before and after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ArtifactChange {
    pub from: Artifact,
    pub to: Artifact,
}

/// `GET /api/groups/{g}/revisions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRevision {
    /// Counts the changes of the group, from 1.
    pub number: u64,
    /// Who made the change; empty where that was not kept yet.
    pub author: String,
    /// When.
    pub created_at: Timestamp,
    /// The revision whose list this one took over.
    pub restored_from: Option<u64>,
    /// How many artifacts came.
    pub added: u64,
    /// How many went.
    pub removed: u64,
    /// How many changed.
    pub changed: u64,
    /// Whether those that stayed stand in another order.
    pub reordered: bool,
}

/// `GET /api/groups/{g}/revisions/{n}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRevisionDetail {
    /// Number, author, time.
    #[serde(flatten)]
    pub revision: GroupRevision,
    /// The whole list after the change.
    pub artifacts: Vec<Artifact>,
    /// What the change did to the list before.
    pub difference: GroupDifference,
}

/// `POST` and `DELETE /api/groups/satellite`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct GroupMember {
    pub satellite: String,
    pub group: String,
}
