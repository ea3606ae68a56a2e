//! Requests and answers of the people's REST routes, shared by the server and its command line.
//!
//! Keys are snake_case, times RFC 3339, what is absent is `null`, an empty list `[]`.

mod audit;
mod tokens;

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::audit::AuditEntry;
use crate::heartbeat::{CachedImage, Heartbeat};
use crate::registration::exposed;
use crate::rule::Pattern;
use crate::state::Artifact;

pub use tokens::{ApiToken, CreatedApiToken, NewApiToken, Scope, TOKEN_PREFIX};

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

/// `GET /auth/oidc`: the identity provider whose people log in here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityProvider {
    /// The provider, as it names itself.
    pub issuer: String,
    /// Where a browser begins a login.
    pub login_url: String,
}

/// `POST /auth/oidc/token`: what a command line got on loopback, and what shows that it is the one that asked (RFC 7636).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LoginCode {
    #[serde(serialize_with = "exposed")]
    pub code: SecretString,
    #[serde(serialize_with = "exposed")]
    pub code_verifier: SecretString,
}

/// The answer to `POST /auth/oidc/token`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SignedIn {
    #[serde(serialize_with = "exposed")]
    pub token: SecretString,
    pub expires_at: Timestamp,
    pub username: String,
    pub role: Role,
}

/// `GET /auth/session`: who asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct OwnSession {
    pub username: String,
    pub role: Role,
    /// What a change by cookie sends as `X-CSRF-Token`; absent for whoever asks without a cookie, who needs none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub csrf_token: Option<String>,
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

/// `PATCH /api/users/{u}`, of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SetRole {
    pub role: Role,
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
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub config_name: Option<String>,
    pub last_seen: Option<Timestamp>,
    /// A schedule, as its last heartbeat said.
    pub heartbeat_interval: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// How a satellite's accounts at the registry are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// It is given none of its own there, or is not known there yet.
    #[default]
    None,
    /// They are as they should be.
    Ready,
    /// They are being made or changed.
    Preparing,
    /// That failed, and is tried again.
    Failed,
    /// It is refused here already, and its accounts there are still to be deleted.
    RemovalPending,
    /// They are deleted.
    Removed,
}

/// An account at the registry, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryAccount {
    /// `making`, `prepared` (not handed out yet), `current`, `retiring` (good until the current one is seen in use),
    /// `condemned` (to be deleted) or `removed`.
    pub role: String,
    /// The name that the registry gave it.
    pub username: Option<String>,
    /// The projects that it may read.
    pub projects: Vec<String>,
    /// When the registry made it.
    pub created_at: Option<Timestamp>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was handed out.
    pub given_at: Option<Timestamp>,
    /// When it was first seen in use.
    pub used_at: Option<Timestamp>,
}

/// `GET /api/satellites/{s}/accounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SatelliteAccounts {
    /// How they are doing.
    pub state: AccountState,
    /// Why the last try failed.
    pub error: Option<String>,
    /// Since when it fails.
    pub error_since: Option<Timestamp>,
    /// Failures in a row.
    pub attempts: u32,
    /// When it is tried, or looked at, again.
    pub next_try: Option<Timestamp>,
    /// The latest first.
    pub accounts: Vec<RegistryAccount>,
}

/// A satellite whose accounts are not as they should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFailure {
    /// Its name.
    pub satellite: String,
    /// Why.
    pub error: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Failures in a row.
    pub attempts: u32,
    /// When it is tried again.
    pub next_try: Option<Timestamp>,
}

/// `GET /api/groups/{g}/accounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupAccounts {
    /// The projects that its list names.
    pub projects: Vec<String>,
    /// Whether the group's document is held back until every satellite may read them or has failed.
    pub held_back: bool,
    /// Its satellites that are let in.
    pub satellites: u64,
    /// Those whose accounts are as they should be.
    pub ready: u64,
    /// Those that are being worked on.
    pub waiting: u64,
    /// Those that failed, and are tried again.
    pub failed: u64,
    /// The first hundred of these.
    pub failures: Vec<AccountFailure>,
}

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

/// How the agent of an edge proves which node it is (SPIRE's node attestation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttestationMethod {
    /// A token that is good once.
    #[default]
    JoinToken,
    /// A certificate of the site's own authority.
    X509pop,
    /// An SSH host certificate.
    Sshpop,
}

impl AttestationMethod {
    /// The name in documents, and SPIRE's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join_token",
            Self::X509pop => "x509pop",
            Self::Sshpop => "sshpop",
        }
    }
}

impl std::str::FromStr for AttestationMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "join_token" => Ok(Self::JoinToken),
            "x509pop" => Ok(Self::X509pop),
            "sshpop" => Ok(Self::Sshpop),
            other => Err(format!("`{other}` is no attestation method; use join_token, x509pop or sshpop")),
        }
    }
}

/// `POST /api/satellites/register`: gives a satellite a SPIFFE identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegisterSatellite {
    /// Its name.
    pub satellite_name: String,
    /// Its region; `default` where it is absent or empty.
    pub region: Option<String>,
    /// What a workload must show to be this satellite, as `type:value`.
    pub selectors: Vec<String>,
    /// How its agent attests.
    pub attestation_method: AttestationMethod,
    /// How long the join token is good, in seconds; 600 where it is absent.
    pub ttl_seconds: Option<u32>,
    /// The SPIFFE ID of the agent, where it is known already.
    pub parent_agent_id: Option<String>,
    /// Its groups, beside those that it is in already.
    pub groups: Option<Vec<String>>,
    /// Its config; `default` for a new satellite where it is absent or empty.
    pub config_name: Option<String>,
}

/// The answer to `POST /api/satellites/register`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegisteredSatellite {
    /// Its name.
    pub satellite: String,
    /// Its region.
    pub region: String,
    /// Its identity.
    pub spiffe_id: String,
    /// The agent that serves it.
    pub parent_agent_id: String,
    /// The one-time join token, shown once; absent where the agent attests otherwise.
    #[serde(serialize_with = "maybe_exposed")]
    pub join_token: Option<SecretString>,
    /// When the join token is worth nothing any more.
    pub expires_at: Option<Timestamp>,
    /// Where the agent finds its server.
    pub spire_server_address: Option<String>,
    /// That server's port.
    pub spire_server_port: Option<u16>,
    /// The trust domain.
    pub trust_domain: String,
    /// The authorities of the trust domain (PEM).
    pub trust_bundle: String,
}

fn maybe_exposed<S: serde::Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => exposed(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// `GET /api/spire/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpireStatus {
    /// Whether identities are SPIFFE's.
    pub enabled: bool,
    /// The trust domain.
    pub trust_domain: Option<String>,
    /// Where Ground Control's own identity comes from: `sidecar`, `static` or `builtin`.
    pub provider: Option<String>,
    /// Whether the server that makes identities answers.
    pub connected: bool,
}

/// `GET /api/spire/agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpireAgents {
    /// The agents.
    pub agents: Vec<SpireAgent>,
}

/// An agent that attested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpireAgent {
    /// Its identity.
    pub spiffe_id: String,
    /// How it attested.
    pub attestation_type: String,
    /// What its attestation showed, as `type:value`.
    pub selectors: Vec<String>,
    /// The end of its SVID.
    pub expires_at: Option<Timestamp>,
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
