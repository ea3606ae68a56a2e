//! The calls of a node agent, and how a server refuses one.
//!
//! An agent attests once (server-authenticated TLS; the server must be `spiffe://<td>/spire/server`), and shows the SVID
//! that it was given from then on.

use prost::Message as _;

use crate::types::{AttestationData, BundleMask, Entry, EntryMask, Status, X509Svid};

/// Answers a bundle to anybody: [`GetBundleRequest`] → [`crate::types::Bundle`].
pub const GET_BUNDLE: &str = "/spire.api.server.bundle.v1.Bundle/GetBundle";
/// Stream of [`AttestAgentRequest`] → stream of [`AttestAgentResponse`].
pub const ATTEST_AGENT: &str = "/spire.api.server.agent.v1.Agent/AttestAgent";
/// [`RenewAgentRequest`] → [`RenewAgentResponse`].
pub const RENEW_AGENT: &str = "/spire.api.server.agent.v1.Agent/RenewAgent";
/// [`PostStatusRequest`] → [`PostStatusResponse`].
pub const POST_STATUS: &str = "/spire.api.server.agent.v1.Agent/PostStatus";
/// [`GetAuthorizedEntriesRequest`] → [`GetAuthorizedEntriesResponse`].
pub const GET_AUTHORIZED_ENTRIES: &str = "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries";
/// Stream of [`SyncAuthorizedEntriesRequest`] → stream of [`SyncAuthorizedEntriesResponse`].
pub const SYNC_AUTHORIZED_ENTRIES: &str = "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries";
/// [`BatchNewX509SvidRequest`] → [`BatchNewX509SvidResponse`].
pub const BATCH_NEW_X509_SVID: &str = "/spire.api.server.svid.v1.SVID/BatchNewX509SVID";

/// `GetBundleRequest`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct GetBundleRequest {
    /// What is wanted.
    #[prost(message, optional, tag = "1")]
    pub output_mask: Option<BundleMask>,
}

/// `AgentX509SVIDParams`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct AgentX509SvidParams {
    /// DER of a CSR; only its public key counts.
    #[prost(bytes = "vec", tag = "1")]
    pub csr: Vec<u8>,
}

/// `AttestAgentRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct AttestAgentRequest {
    /// What this message is.
    #[prost(oneof = "AttestStep", tags = "1, 2")]
    pub step: Option<AttestStep>,
}

/// `AttestAgentRequest.step`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Oneof)]
pub enum AttestStep {
    /// The first message.
    #[prost(message, tag = "1")]
    Params(AttestParams),
    /// The answer to a challenge.
    #[prost(bytes, tag = "2")]
    ChallengeResponse(Vec<u8>),
}

/// `AttestAgentRequest.Params`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct AttestParams {
    /// The proof.
    #[prost(message, optional, tag = "1")]
    pub data: Option<AttestationData>,
    /// What the SVID is to be made of.
    #[prost(message, optional, tag = "2")]
    pub params: Option<AgentX509SvidParams>,
}

/// `AttestAgentResponse`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct AttestAgentResponse {
    /// What this message is.
    #[prost(oneof = "AttestAnswer", tags = "1, 2")]
    pub step: Option<AttestAnswer>,
}

/// `AttestAgentResponse.step`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Oneof)]
pub enum AttestAnswer {
    /// The end of attestation.
    #[prost(message, tag = "1")]
    Result(AttestResult),
    /// Something to answer.
    #[prost(bytes, tag = "2")]
    Challenge(Vec<u8>),
}

/// `AttestAgentResponse.Result`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct AttestResult {
    /// The agent's SVID.
    #[prost(message, optional, tag = "1")]
    pub svid: Option<X509Svid>,
    /// Whether it attests again instead of renewing.
    #[prost(bool, tag = "2")]
    pub reattestable: bool,
}

/// `RenewAgentRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct RenewAgentRequest {
    /// What the SVID is to be made of.
    #[prost(message, optional, tag = "1")]
    pub params: Option<AgentX509SvidParams>,
}

/// `RenewAgentResponse`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct RenewAgentResponse {
    /// The agent's new SVID.
    #[prost(message, optional, tag = "1")]
    pub svid: Option<X509Svid>,
}

/// `PostStatusRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct PostStatusRequest {
    /// The bundle that the agent hands out.
    #[prost(uint64, tag = "1")]
    pub current_bundle_serial: u64,
    /// Its version.
    #[prost(string, tag = "2")]
    pub agent_version: String,
}

/// `PostStatusResponse`: empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct PostStatusResponse {}

/// `GetAuthorizedEntriesRequest`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct GetAuthorizedEntriesRequest {
    /// What is wanted.
    #[prost(message, optional, tag = "1")]
    pub output_mask: Option<EntryMask>,
}

/// `GetAuthorizedEntriesResponse`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct GetAuthorizedEntriesResponse {
    /// All that the agent may serve.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
}

/// `SyncAuthorizedEntriesRequest`: the first asks for what there is, those that follow for entries by their names.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SyncAuthorizedEntriesRequest {
    /// What is wanted; in the first message only.
    #[prost(message, optional, tag = "1")]
    pub output_mask: Option<EntryMask>,
    /// Entries to send in full; in the messages that follow.
    #[prost(string, repeated, tag = "2")]
    pub ids: Vec<String>,
}

/// `SyncAuthorizedEntriesResponse`: all entries where they fit into one answer; else their revisions, page by page, and
/// then those that the agent asks for.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SyncAuthorizedEntriesResponse {
    /// What there is.
    #[prost(message, repeated, tag = "1")]
    pub entry_revisions: Vec<EntryRevision>,
    /// Entries in full.
    #[prost(message, repeated, tag = "2")]
    pub entries: Vec<Entry>,
    /// Whether another page follows.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

/// `EntryRevision`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct EntryRevision {
    /// The entry's name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Counts its changes.
    #[prost(int64, tag = "2")]
    pub revision_number: i64,
    /// When it was made (Unix seconds).
    #[prost(int64, tag = "3")]
    pub created_at: i64,
}

/// `NewX509SVIDParams`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct NewX509SvidParams {
    /// Which entry.
    #[prost(string, tag = "1")]
    pub entry_id: String,
    /// DER of a CSR; only its public key counts.
    #[prost(bytes = "vec", tag = "2")]
    pub csr: Vec<u8>,
}

/// `BatchNewX509SVIDRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct BatchNewX509SvidRequest {
    /// One for each SVID.
    #[prost(message, repeated, tag = "1")]
    pub params: Vec<NewX509SvidParams>,
}

/// `BatchNewX509SVIDResponse`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct BatchNewX509SvidResponse {
    /// In the order asked.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<NewX509SvidResult>,
}

/// `BatchNewX509SVIDResponse.Result`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct NewX509SvidResult {
    /// How it went.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The SVID, where it went well.
    #[prost(message, optional, tag = "2")]
    pub svid: Option<X509Svid>,
}

/// `PermissionDeniedDetails.Reason`: what a stock agent reads out of a `PERMISSION_DENIED`. Told that it is not attested,
/// expired or must attest again, it throws its SVID away; told that it is banned, it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DenialReason {
    /// Not said.
    Unknown = 0,
    /// Its SVID has ended.
    AgentExpired = 1,
    /// The server does not know it.
    AgentNotAttested = 2,
    /// A newer SVID of it is in use.
    AgentNotActive = 3,
    /// It is shut out.
    AgentBanned = 4,
    /// It has to attest again instead of renewing.
    AgentMustReattest = 5,
}

/// `PermissionDeniedDetails`, as [`permission_denied`] packs it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct PermissionDeniedDetails {
    /// Why.
    #[prost(enumeration = "DenialReason", tag = "1")]
    pub reason: i32,
}

/// `google.rpc.Status`, the form of gRPC's error details.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

const DENIAL_TYPE: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

/// `PERMISSION_DENIED` with the reason that a stock agent acts upon.
#[must_use]
pub fn permission_denied(reason: DenialReason, message: impl Into<String>) -> tonic::Status {
    let message = message.into();
    let code = tonic::Code::PermissionDenied;
    let details = PermissionDeniedDetails { reason: reason.into() }.encode_to_vec();
    let status = RpcStatus {
        code: code as i32,
        message: message.clone(),
        details: vec![Any { type_url: DENIAL_TYPE.to_owned(), value: details }],
    };
    tonic::Status::with_details(code, message, status.encode_to_vec().into())
}

/// The reason in a `PERMISSION_DENIED`, where it has one.
#[must_use]
pub fn denial_reason(status: &tonic::Status) -> Option<DenialReason> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let ours = details.into_iter().find(|any| any.type_url == DENIAL_TYPE)?;
    DenialReason::try_from(PermissionDeniedDetails::decode(ours.value.as_slice()).ok()?.reason).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_refusal_reads_back() {
        let status = permission_denied(DenialReason::AgentBanned, "agent is banned");
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        assert_eq!(status.message(), "agent is banned");
        assert_eq!(denial_reason(&status), Some(DenialReason::AgentBanned));
        assert_eq!(denial_reason(&tonic::Status::permission_denied("no")), None);
    }
}
