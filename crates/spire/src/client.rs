//! The typed client of a SPIRE server's administrator side.

mod connection;
mod error;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use identity::tls::TlsError;
use identity::{Identity, SpiffeId, TrustDomain};
use prost::Message;
use secrecy::SecretString;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::rpc::MAX_MESSAGE;
use crate::server as api;
use crate::types::{Agent, Bundle, Entry, JoinToken};
use connection::Connection;
pub use error::ClientError;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// SPIRE answers a list without a page size in one message, which may be too long: so there always is one.
const PAGE: i32 = 200;
/// A fleet has tens of thousands; a server that never comes to an end is broken.
const MAX_PAGES: usize = 1_000;
/// How many entries are named in one call.
const BATCH: usize = 100;

/// A client of one SPIRE server; clones share its connection. Every call has a time limit, and is tried again where the
/// server could not be reached: none of them does harm when it happens twice.
#[derive(Clone)]
pub struct ServerClient {
    connection: Arc<Connection>,
    call_timeout: Duration,
}

/// A join token as it was made.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The secret.
    pub value: SecretString,
    /// Its end (Unix seconds).
    pub expires_at: i64,
}

/// An entry that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedEntry {
    /// As the server has it.
    pub entry: Entry,
    /// Whether it was there before.
    pub existed: bool,
}

impl fmt::Debug for ServerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerClient").field("server", &self.server()).finish_non_exhaustive()
    }
}

impl ServerClient {
    /// Over the server's unix socket, where whoever may open it is an administrator. Connects with the first call.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { connection: Arc::new(Connection::unix(path.into())), call_timeout: CALL_TIMEOUT }
    }

    /// Over TCP with our own SVID, which has to be among the server's `admin_ids` (or have an entry marked `admin`). The
    /// server must be `spiffe://<trust domain>/spire/server`. Connects with the first call, and anew when the SVID changes.
    ///
    /// # Errors
    /// Where there can be no TLS at all.
    pub fn tcp(
        host: impl Into<String>,
        port: u16,
        identity: Identity,
        trust_domain: &TrustDomain,
    ) -> Result<Self, TlsError> {
        let connection = Connection::tcp(host.into(), port, identity, trust_domain)?;
        Ok(Self { connection: Arc::new(connection), call_timeout: CALL_TIMEOUT })
    }

    /// The same with another time limit for each call (10 s unless set).
    #[must_use]
    pub fn with_call_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    /// The server as messages name it.
    #[must_use]
    pub fn server(&self) -> String {
        self.connection.to_string()
    }

    /// Makes a join token, and the entry that gives the agent which comes with it a second name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_join_token(
        &self,
        ttl: Duration,
        alias: &SpiffeId,
    ) -> Result<IssuedToken, ClientError> {
        let request = api::CreateJoinTokenRequest {
            ttl: i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX),
            token: String::new(),
            agent_id: Some(alias.into()),
        };
        let token: JoinToken = self.call("CreateJoinToken", api::CREATE_JOIN_TOKEN, request).await?;
        if token.value.is_empty() {
            return Err(self.nonsense("CreateJoinToken", "no token"));
        }
        Ok(IssuedToken { value: token.value.into(), expires_at: token.expires_at })
    }

    /// The agents that pass the filter.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn agents(&self, filter: Option<api::AgentFilter>) -> Result<Vec<Agent>, ClientError> {
        let mut all = Vec::new();
        let mut request = api::ListAgentsRequest { filter, page_size: PAGE, page_token: String::new() };
        for _ in 0..MAX_PAGES {
            let page: api::ListAgentsResponse =
                self.call("ListAgents", api::LIST_AGENTS, request.clone()).await?;
            all.extend(page.agents);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
        Err(self.nonsense("ListAgents", "pages without end"))
    }

    /// How many agents there are. The cheapest call that only an administrator may make.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn count_agents(&self) -> Result<i32, ClientError> {
        let request = api::CountAgentsRequest { filter: None };
        let answer: api::CountAgentsResponse = self.call("CountAgents", api::COUNT_AGENTS, request).await?;
        Ok(answer.count)
    }

    /// One agent, by the name that attestation gave it (`/spire/agent/…`); `None` where it never attested.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn agent(&self, id: &SpiffeId) -> Result<Option<Agent>, ClientError> {
        self.found("GetAgent", api::GET_AGENT, api::AgentRequest { id: Some(id.into()) }).await
    }

    /// Shuts an agent out; `false` where it never attested.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ban_agent(&self, id: &SpiffeId) -> Result<bool, ClientError> {
        let request = api::AgentRequest { id: Some(id.into()) };
        Ok(self.found::<_, ()>("BanAgent", api::BAN_AGENT, request).await?.is_some())
    }

    /// Forgets an agent and its ban; `false` where it never attested.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_agent(&self, id: &SpiffeId) -> Result<bool, ClientError> {
        let request = api::AgentRequest { id: Some(id.into()) };
        Ok(self.found::<_, ()>("DeleteAgent", api::DELETE_AGENT, request).await?.is_some())
    }

    /// The entries that pass the filter.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn entries(&self, filter: api::EntryFilter) -> Result<Vec<Entry>, ClientError> {
        let mut all = Vec::new();
        let mut request =
            api::ListEntriesRequest { filter: Some(filter), page_size: PAGE, page_token: String::new() };
        for _ in 0..MAX_PAGES {
            let page: api::ListEntriesResponse =
                self.call("ListEntries", api::LIST_ENTRIES, request.clone()).await?;
            all.extend(page.entries);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
        Err(self.nonsense("ListEntries", "pages without end"))
    }

    /// Makes an entry; one with the same identity, parent and selectors is taken as it is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_entry(&self, entry: Entry) -> Result<CreatedEntry, ClientError> {
        const CALL: &str = "BatchCreateEntry";
        let request = api::BatchCreateEntryRequest { entries: vec![entry] };
        let answer: api::BatchCreateEntryResponse = self.call(CALL, api::BATCH_CREATE_ENTRY, request).await?;
        let [api::CreateEntryResult { status: Some(status), entry }] = answer.results.as_slice() else {
            return Err(self.nonsense(CALL, "another number of results than entries"));
        };
        let existed = match status.code() {
            Code::Ok => false,
            Code::AlreadyExists => true,
            code => {
                let status = Status::new(code, status.message.clone());
                return Err(ClientError::of(&self.server(), CALL, &status));
            }
        };
        match entry {
            Some(entry) if !entry.id.is_empty() => Ok(CreatedEntry { entry: entry.clone(), existed }),
            _ => Err(self.nonsense(CALL, "no entry")),
        }
    }

    /// Removes entries; those that are gone already are no error.
    ///
    /// # Errors
    /// See [`ClientError`]. The others of the same call are removed nevertheless.
    pub async fn delete_entries(&self, ids: &[String]) -> Result<(), ClientError> {
        const CALL: &str = "BatchDeleteEntry";
        let mut failure = None;
        for batch in ids.chunks(BATCH) {
            let request = api::BatchDeleteEntryRequest { ids: batch.to_vec() };
            let answer: api::BatchDeleteEntryResponse =
                self.call(CALL, api::BATCH_DELETE_ENTRY, request).await?;
            if answer.results.len() != batch.len() {
                return Err(self.nonsense(CALL, "another number of results than entries"));
            }
            for result in answer.results {
                let status = result.status.unwrap_or_default();
                if !matches!(status.code(), Code::Ok | Code::NotFound) {
                    let status = Status::new(status.code(), status.message);
                    failure = Some(ClientError::of(&self.server(), CALL, &status));
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// The authorities of the server's trust domain.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn bundle(&self) -> Result<Bundle, ClientError> {
        let bundle: Bundle =
            self.call("GetBundle", api::GET_BUNDLE, api::GetBundleRequest { output_mask: None }).await?;
        if bundle.x509_authorities.is_empty() {
            return Err(self.nonsense("GetBundle", "no authorities"));
        }
        Ok(bundle)
    }

    async fn found<Req, Res>(
        &self,
        name: &'static str,
        path: &'static str,
        request: Req,
    ) -> Result<Option<Res>, ClientError>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        match self.attempts(path, request).await {
            Ok(found) => Ok(Some(found)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.error(name, &status)),
        }
    }

    async fn call<Req, Res>(
        &self,
        name: &'static str,
        path: &'static str,
        request: Req,
    ) -> Result<Res, ClientError>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        self.attempts(path, request).await.map_err(|status| self.error(name, &status))
    }

    async fn attempts<Req, Res>(&self, path: &'static str, request: Req) -> Result<Res, Status>
    where
        Req: Message + Clone + 'static,
        Res: Message + Default + 'static,
    {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match self.once(path, request.clone()).await {
                Err(status) if attempt < ATTEMPTS && is_passing(&status) => {
                    tracing::debug!(server = %self.connection, path, %status, attempt, "spire server unavailable");
                    tokio::time::sleep(pause).await;
                    pause *= 4;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn once<Req, Res>(&self, path: &'static str, message: Req) -> Result<Res, Status>
    where
        Req: Message + 'static,
        Res: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.connection.channel()).max_decoding_message_size(MAX_MESSAGE);
        let mut request = Request::new(message);
        request.set_timeout(self.call_timeout);
        let answer = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<Req, Res>::default();
            grpc.unary(request, PathAndQuery::from_static(path), codec).await
        };
        match tokio::time::timeout(self.call_timeout, answer).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => {
                let limit = self.call_timeout.as_secs_f32();
                Err(Status::deadline_exceeded(format!("no answer within {limit} s")))
            }
        }
    }

    fn error(&self, call: &'static str, status: &Status) -> ClientError {
        if error::is_of_transport(status) && self.connection.lacks_identity() {
            return ClientError::NoIdentity { server: self.server(), call };
        }
        ClientError::of(&self.server(), call, status)
    }

    fn nonsense(&self, call: &'static str, what: &'static str) -> ClientError {
        ClientError::Answer { server: self.server(), call, what }
    }
}

/// Whether another try may find the server: it was not there, or went away during the call.
fn is_passing(status: &Status) -> bool {
    status.code() == Code::Unavailable || error::is_of_transport(status)
}
