//! The administrator's calls: join tokens, agents, entries, the bundle.
//!
//! Output masks are left out: an absent one asks for every field.

use std::fmt;

use crate::types::{Agent, Entry, SelectorMatch, SpiffeId, Status};

pub use crate::agent::{GET_BUNDLE, GetBundleRequest};

/// [`ListAgentsRequest`] → [`ListAgentsResponse`].
pub const LIST_AGENTS: &str = "/spire.api.server.agent.v1.Agent/ListAgents";
/// [`CountAgentsRequest`] → [`CountAgentsResponse`].
pub const COUNT_AGENTS: &str = "/spire.api.server.agent.v1.Agent/CountAgents";
/// [`AgentRequest`] → [`Agent`].
pub const GET_AGENT: &str = "/spire.api.server.agent.v1.Agent/GetAgent";
/// [`AgentRequest`] → nothing. Shuts out a present agent, and its attestation anew until it is deleted.
pub const BAN_AGENT: &str = "/spire.api.server.agent.v1.Agent/BanAgent";
/// [`AgentRequest`] → nothing. Forgets an agent, its ban, and the alias entry of its join token.
pub const DELETE_AGENT: &str = "/spire.api.server.agent.v1.Agent/DeleteAgent";
/// [`CreateJoinTokenRequest`] → [`crate::types::JoinToken`].
pub const CREATE_JOIN_TOKEN: &str = "/spire.api.server.agent.v1.Agent/CreateJoinToken";
/// [`ListEntriesRequest`] → [`ListEntriesResponse`].
pub const LIST_ENTRIES: &str = "/spire.api.server.entry.v1.Entry/ListEntries";
/// [`GetEntryRequest`] → [`Entry`].
pub const GET_ENTRY: &str = "/spire.api.server.entry.v1.Entry/GetEntry";
/// [`BatchCreateEntryRequest`] → [`BatchCreateEntryResponse`].
pub const BATCH_CREATE_ENTRY: &str = "/spire.api.server.entry.v1.Entry/BatchCreateEntry";
/// [`BatchDeleteEntryRequest`] → [`BatchDeleteEntryResponse`].
pub const BATCH_DELETE_ENTRY: &str = "/spire.api.server.entry.v1.Entry/BatchDeleteEntry";

/// `ListAgentsRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ListAgentsRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub filter: Option<AgentFilter>,
    /// How many at once; 0 is all.
    #[prost(int32, tag = "3")]
    pub page_size: i32,
    /// Where to go on.
    #[prost(string, tag = "4")]
    pub page_token: String,
}

/// `ListAgentsRequest.Filter`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct AgentFilter {
    /// How it attested; empty is any.
    #[prost(string, tag = "1")]
    pub by_attestation_type: String,
    /// What its attestation showed.
    #[prost(message, optional, tag = "2")]
    pub by_selector_match: Option<SelectorMatch>,
    /// Whether it is shut out.
    #[prost(message, optional, tag = "3")]
    pub by_banned: Option<bool>,
    /// Whether it may attest again.
    #[prost(message, optional, tag = "4")]
    pub by_can_reattest: Option<bool>,
    /// When its SVID ends at the latest.
    #[prost(string, tag = "5")]
    pub by_expires_before: String,
}

/// `ListAgentsResponse`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ListAgentsResponse {
    /// One page.
    #[prost(message, repeated, tag = "1")]
    pub agents: Vec<Agent>,
    /// Where to go on; empty at the end.
    #[prost(string, tag = "2")]
    pub next_page_token: String,
}

/// `CountAgentsRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct CountAgentsRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub filter: Option<AgentFilter>,
}

/// `CountAgentsResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct CountAgentsResponse {
    /// How many.
    #[prost(int32, tag = "1")]
    pub count: i32,
}

/// `GetAgentRequest`, `BanAgentRequest`, `DeleteAgentRequest`: of the same form.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct AgentRequest {
    /// Which agent.
    #[prost(message, optional, tag = "1")]
    pub id: Option<SpiffeId>,
}

/// `CreateJoinTokenRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
#[prost(skip_debug)]
pub struct CreateJoinTokenRequest {
    /// Seconds, at least 1.
    #[prost(int32, tag = "1")]
    pub ttl: i32,
    /// The token's value; empty lets the server make one.
    #[prost(string, tag = "2")]
    pub token: String,
    /// A second name for the agent that will come with the token: the server makes an entry that maps it.
    #[prost(message, optional, tag = "3")]
    pub agent_id: Option<SpiffeId>,
}

impl fmt::Debug for CreateJoinTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateJoinTokenRequest")
            .field("ttl", &self.ttl)
            .field("agent_id", &self.agent_id)
            .finish_non_exhaustive()
    }
}

/// `ListEntriesRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ListEntriesRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub filter: Option<EntryFilter>,
    /// How many at once; 0 is all.
    #[prost(int32, tag = "3")]
    pub page_size: i32,
    /// Where to go on.
    #[prost(string, tag = "4")]
    pub page_token: String,
}

/// `ListEntriesRequest.Filter`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct EntryFilter {
    /// The identity granted.
    #[prost(message, optional, tag = "1")]
    pub by_spiffe_id: Option<SpiffeId>,
    /// The agent.
    #[prost(message, optional, tag = "2")]
    pub by_parent_id: Option<SpiffeId>,
    /// What the workload must show.
    #[prost(message, optional, tag = "3")]
    pub by_selectors: Option<SelectorMatch>,
}

/// `ListEntriesResponse`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct ListEntriesResponse {
    /// One page.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// Where to go on; empty at the end.
    #[prost(string, tag = "2")]
    pub next_page_token: String,
}

/// `GetEntryRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct GetEntryRequest {
    /// The server's name for it.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// `BatchCreateEntryRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct BatchCreateEntryRequest {
    /// What to make.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
}

/// `BatchCreateEntryResponse`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct BatchCreateEntryResponse {
    /// In the order asked.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<CreateEntryResult>,
}

/// `BatchCreateEntryResponse.Result`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct CreateEntryResult {
    /// `ALREADY_EXISTS` where there is one with the same identity, parent and selectors.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The one that was made, or that exists.
    #[prost(message, optional, tag = "2")]
    pub entry: Option<Entry>,
}

/// `BatchDeleteEntryRequest`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct BatchDeleteEntryRequest {
    /// The server's names for them.
    #[prost(string, repeated, tag = "1")]
    pub ids: Vec<String>,
}

/// `BatchDeleteEntryResponse`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct BatchDeleteEntryResponse {
    /// In the order asked.
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<DeleteEntryResult>,
}

/// `BatchDeleteEntryResponse.Result`.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct DeleteEntryResult {
    /// How it went.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// Which.
    #[prost(string, tag = "2")]
    pub id: String,
}
