//! Stock SPIRE agents: as much of the protocol between agent and server as an agent needs to attest with a join token,
//! renew its SVID, and get the SVIDs of the one satellite that it serves.
//!
//! The agent's identity holds a hash of its token and never the token. An SVID for the satellite carries the epoch of the
//! present registration, as one that the satellite got by itself would. Everything is looked up in the database with
//! each call: who is revoked gets nothing at the next one.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use http::StatusCode;
use identity::SpiffeId;
use identity::key::Csr;
use jiff::Timestamp;
use registry_server::listen::PeerCertificates;
use rustls::pki_types::CertificateDer;
use spire::agent::{
    self, AttestAgentRequest, AttestAgentResponse, AttestAnswer, AttestParams, AttestResult, AttestStep,
    BatchNewX509SvidRequest, BatchNewX509SvidResponse, DenialReason, GetAuthorizedEntriesRequest,
    GetAuthorizedEntriesResponse, GetBundleRequest, NewX509SvidParams, NewX509SvidResult, PostStatusRequest,
    PostStatusResponse, RenewAgentRequest, RenewAgentResponse, SyncAuthorizedEntriesRequest,
    SyncAuthorizedEntriesResponse, permission_denied,
};
use spire::rpc;
use spire::types::{Bundle, Entry, Selector, X509Certificate, X509Svid};
use tonic::{Code, Status, Streaming};
use tower::limit::ConcurrencyLimitLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use super::attest::is_hex;
use super::{Authority, AuthorityError, Signer};
use crate::domain::StoreError;
use crate::domain::audit::{Actor, ActorKind, Authentication};
use crate::domain::identity::{AgentEntry, AttestAttempt, IssueRefusal, NodeAgent};
use crate::domain::secret::Purpose;

/// The node attestor that there is.
const JOIN_TOKEN: &str = "join_token";
/// Largest request but one for SVIDs: a CSR and a few names.
const SMALL_BODY: usize = 64 * 1024;
/// Largest request for SVIDs.
const BATCH_BODY: usize = 1024 * 1024;
/// The most SVIDs in one request; what an agent of ours asks for is one.
const BATCH: usize = 100;
/// Requests that are worked on at the same time.
const AT_ONCE: usize = 1024;
/// Requests for SVIDs that are worked on at the same time.
const BATCHES_AT_ONCE: usize = 64;
/// How long a request may take, its way here included.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often an agent should look at the bundle, in seconds.
const REFRESH_HINT: i64 = 3600;
/// Bytes of the hash in an agent's identity.
const AGENT_HASH: usize = 16;

type Answer<T> = Result<tonic::Response<T>, Status>;

impl Authority {
    /// The agents' listener as a router (gRPC), to be served by `registry_server::listen::serve` under
    /// [`Authority::agent_tls`].
    pub fn agent_router(self: &Arc<Self>) -> Router {
        let batch = Router::new()
            .route(agent::BATCH_NEW_X509_SVID, post(batch_new_x509_svid))
            .layer(RequestBodyLimitLayer::new(BATCH_BODY))
            .layer(ConcurrencyLimitLayer::new(BATCHES_AT_ONCE));
        let of_agents = Router::new()
            .route(agent::RENEW_AGENT, post(renew_agent))
            .route(agent::POST_STATUS, post(post_status))
            .route(agent::GET_AUTHORIZED_ENTRIES, post(get_authorized_entries))
            .route(agent::SYNC_AUTHORIZED_ENTRIES, post(sync_authorized_entries))
            .layer(RequestBodyLimitLayer::new(SMALL_BODY))
            .merge(batch)
            .layer(from_fn(identified));
        Router::new()
            .route(agent::GET_BUNDLE, post(get_bundle))
            .route(agent::ATTEST_AGENT, post(attest_agent))
            .layer(RequestBodyLimitLayer::new(SMALL_BODY))
            .merge(of_agents)
            .layer(ConcurrencyLimitLayer::new(AT_ONCE))
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, PATIENCE))
            .fallback(|request: Request| async move {
                rpc::unimplemented(request.uri().path()).map(Body::new).into_response()
            })
            .with_state(Arc::clone(self))
    }

    /// The agent whose SVID was shown in the handshake, as the database knows it now.
    async fn caller(&self, extensions: &http::Extensions) -> Result<NodeAgent, Status> {
        let Some(PeerCertificates(shown)) = extensions.get::<PeerCertificates>() else {
            return Err(nobody());
        };
        let leaf = identity::tls::peer(shown).map_err(|error| Status::unauthenticated(error.to_string()))?;
        if leaf.is_expired(Timestamp::now()) {
            let text = format!("the SVID of {} has expired", leaf.id);
            return Err(permission_denied(DenialReason::AgentExpired, text));
        }
        let id = leaf.id.to_string();
        let known = self.store.node_agent(&id).await.map_err(|error| unavailable(&error))?;
        let Some(agent) = known else {
            return Err(permission_denied(DenialReason::AgentNotAttested, format!("{id} is no agent")));
        };
        if agent.banned {
            return Err(permission_denied(DenialReason::AgentBanned, format!("agent {id} is banned")));
        }
        let key = STANDARD.encode(&leaf.public_key);
        if !agent.keys.contains(&key) {
            let text = format!("agent {id} has a newer SVID");
            return Err(permission_denied(DenialReason::AgentNotActive, text));
        }
        if agent.keys.first() == Some(&key) {
            self.store.agent_used(&id, &key).await.map_err(|error| unavailable(&error))?;
        }
        Ok(agent)
    }

    /// What the agent may serve: its own satellite, while that is admitted.
    async fn entries(&self, agent: &NodeAgent) -> Result<Vec<AgentEntry>, Status> {
        let mut entries = self
            .store
            .agent_entries(&agent.satellite.parent_id)
            .await
            .map_err(|error| unavailable(&error))?;
        // A name may have had an earlier life, whose agent is nobody any more.
        entries.retain(|entry| entry.registration.satellite == agent.satellite.satellite);
        Ok(entries)
    }

    /// An agent's identity: a function of its token, from which the token cannot be told.
    fn agent_id(&self, token: &str) -> Result<SpiffeId, Status> {
        let mac = self.agent_key.mac(&[token.as_bytes()]);
        let hash = hex::encode(&mac[..AGENT_HASH]);
        format!("spiffe://{}/spire/agent/{JOIN_TOKEN}/{hash}", self.trust_domain)
            .parse()
            .map_err(|error: identity::IdError| Status::internal(error.to_string()))
    }

    async fn attest_node(&self, params: AttestParams, now: Timestamp) -> Result<AttestResult, Status> {
        let invalid = |what: &str| Status::invalid_argument(what.to_owned());
        let data = params.data.ok_or_else(|| invalid("no attestation data"))?;
        if data.r#type != JOIN_TOKEN {
            return Err(Status::invalid_argument(format!(
                "node attestor {:?} is not known here, use {JOIN_TOKEN}",
                data.r#type
            )));
        }
        let csr = csr(&params.params.ok_or_else(|| invalid("no parameters of the SVID"))?.csr)
            .map_err(Status::invalid_argument)?;
        let unknown = || invalid("join token does not exist or has already been used");
        let token = std::str::from_utf8(&data.payload).ok().filter(|token| is_hex(token));
        let token = token.ok_or_else(unknown)?;
        let id = self.agent_id(token)?;
        let signer = self.signer(now).map_err(|error| broken(&error))?;
        let attempt = AttestAttempt {
            token: self.hash_key.hash(Purpose::JoinToken, token),
            public_key: STANDARD.encode(&csr.public_key),
            expires_at: signer.expires_at,
            agent: Some(id.to_string()),
        };
        let by = Actor::new(ActorKind::Satellite, "", Authentication::JoinToken);
        let claimed =
            self.store.acting_for(by).attest(attempt, now).await.map_err(|error| unavailable(&error))?;
        let grant = claimed.map_err(|refusal| {
            tracing::info!(reason = %refusal, "agent not attested");
            match refusal {
                IssueRefusal::NotAdmitted => Status::permission_denied(refusal.to_string()),
                IssueRefusal::Expired => invalid("join token expired"),
                _ => unknown(),
            }
        })?;
        tracing::info!(satellite = grant.name, agent = %id, again = grant.again, "agent attested");
        let svid = issue(&signer, id, csr.public_key, grant.epoch)?;
        Ok(AttestResult { svid: Some(svid), reattestable: false })
    }

    async fn renew_node(&self, agent: NodeAgent, request: RenewAgentRequest) -> Result<X509Svid, Status> {
        let params = request.params.ok_or_else(|| Status::invalid_argument("no parameters of the SVID"))?;
        let csr = csr(&params.csr).map_err(Status::invalid_argument)?;
        let signer = self.signer(Timestamp::now()).map_err(|error| broken(&error))?;
        let id: SpiffeId = agent
            .spiffe_id
            .parse()
            .map_err(|error: identity::IdError| Status::internal(error.to_string()))?;
        let svid = issue(&signer, id, csr.public_key.clone(), 0)?;
        let new_key = STANDARD.encode(&csr.public_key);
        let by = Actor::new(ActorKind::Satellite, &agent.satellite.name, Authentication::Svid);
        self.store
            .acting_for(by)
            .renew_agent(&agent.spiffe_id, &new_key, signer.expires_at)
            .await
            .map_err(|error| unavailable(&error))?;
        Ok(svid)
    }

    fn workload_svid(
        &self,
        signer: &Signer,
        entries: &[AgentEntry],
        wanted: NewX509SvidParams,
    ) -> Result<X509Svid, (Code, String)> {
        let entry = entries.iter().find(|entry| entry_id(entry) == wanted.entry_id);
        let entry = entry.ok_or((Code::NotFound, "entry not found or not authorized".to_owned()))?;
        let csr = csr(&wanted.csr).map_err(|what| (Code::InvalidArgument, what))?;
        let failed = |error: Status| (error.code(), error.message().to_owned());
        let id = self
            .satellite_id(&entry.registration.region, &entry.registration.name)
            .map_err(|error| failed(unavailable(&error)))?;
        issue(signer, id, csr.public_key, entry.epoch).map_err(failed)
    }

    fn entry(&self, entry: &AgentEntry) -> Result<Entry, Status> {
        let registration = &entry.registration;
        let id = self
            .satellite_id(&registration.region, &registration.name)
            .map_err(|error| unavailable(&error))?;
        let parent: SpiffeId = registration
            .parent_id
            .parse()
            .map_err(|error: identity::IdError| Status::internal(error.to_string()))?;
        Ok(Entry {
            id: entry_id(entry),
            spiffe_id: Some((&id).into()),
            parent_id: Some((&parent).into()),
            selectors: registration.selectors.iter().filter_map(|text| Selector::parse(text)).collect(),
            revision_number: entry.updated_at.as_millisecond(),
            created_at: entry.updated_at.as_second(),
            ..Entry::default()
        })
    }

    async fn authorized(&self, extensions: &http::Extensions) -> Result<Vec<Entry>, Status> {
        let agent = self.caller(extensions).await?;
        self.entries(&agent).await?.iter().map(|entry| self.entry(entry)).collect()
    }
}

fn nobody() -> Status {
    Status::unauthenticated("an agent has to show its SVID")
}

/// Refuses whoever showed nothing before anything is read of what they send.
async fn identified(request: Request, next: Next) -> Response {
    if request.extensions().get::<PeerCertificates>().is_none() {
        return nobody().into_http::<Body>();
    }
    next.run(request).await
}

/// A new life of a satellite is another entry: an agent throws away what it holds of the earlier one.
fn entry_id(entry: &AgentEntry) -> String {
    format!("{}.{}", entry.registration.satellite, entry.epoch)
}

fn csr(der: &[u8]) -> Result<Csr, String> {
    Csr::from_der(der).map_err(|error| error.to_string())
}

fn issue(signer: &Signer, id: SpiffeId, public_key: Vec<u8>, epoch: i64) -> Result<X509Svid, Status> {
    let name = (&id).into();
    let certificate: CertificateDer<'_> =
        signer.issue(id, public_key, epoch).map_err(|error| broken(&error))?;
    Ok(X509Svid {
        cert_chain: vec![certificate.to_vec()],
        id: Some(name),
        expires_at: signer.expires_at.as_second(),
        hint: String::new(),
    })
}

fn unavailable(error: &StoreError) -> Status {
    tracing::warn!(%error, "the database failed an agent's request");
    Status::unavailable("the database does not answer, try again")
}

fn broken(error: &AuthorityError) -> Status {
    tracing::error!(%error, "no svid can be issued");
    Status::internal("no SVID can be issued, see the server's log")
}

async fn get_bundle(State(authority): State<Arc<Authority>>, request: Request) -> Response {
    let handler = |_: tonic::Request<GetBundleRequest>| {
        let authority = Arc::clone(&authority);
        async move {
            let known = authority.known();
            let newest = known.members.iter().map(|member| member.term.created_at.as_second()).max();
            let authorities = known.bundle.authorities.iter();
            Ok(tonic::Response::new(Bundle {
                trust_domain: authority.trust_domain.as_str().to_owned(),
                x509_authorities: authorities
                    .map(|certificate| X509Certificate { asn1: certificate.to_vec(), tainted: false })
                    .collect(),
                refresh_hint: REFRESH_HINT,
                sequence_number: newest.and_then(|second| u64::try_from(second).ok()).unwrap_or(0),
                ..Bundle::default()
            }))
        }
    };
    rpc::unary(request, handler).await.map(Body::new)
}

async fn attest_agent(State(authority): State<Arc<Authority>>, request: Request) -> Response {
    let handler = |request: tonic::Request<Streaming<AttestAgentRequest>>| {
        let authority = Arc::clone(&authority);
        async move {
            let step = request.into_inner().message().await?.and_then(|message| message.step);
            let Some(AttestStep::Params(params)) = step else {
                return Err(Status::invalid_argument("the first message must hold parameters"));
            };
            let result = authority.attest_node(params, Timestamp::now()).await?;
            let answer = AttestAgentResponse { step: Some(AttestAnswer::Result(result)) };
            Ok(tonic::Response::new(stream::iter([Ok(answer)])))
        }
    };
    rpc::streaming(request, handler).await.map(Body::new)
}

async fn renew_agent(State(authority): State<Arc<Authority>>, request: Request) -> Response {
    let handler = |request: tonic::Request<RenewAgentRequest>| {
        let authority = Arc::clone(&authority);
        async move {
            let agent = authority.caller(request.extensions()).await?;
            let svid = authority.renew_node(agent, request.into_inner()).await?;
            Ok(tonic::Response::new(RenewAgentResponse { svid: Some(svid) }))
        }
    };
    rpc::unary(request, handler).await.map(Body::new)
}

async fn post_status(State(authority): State<Arc<Authority>>, request: Request) -> Response {
    let handler = |request: tonic::Request<PostStatusRequest>| {
        let authority = Arc::clone(&authority);
        async move {
            authority.caller(request.extensions()).await?;
            Ok(tonic::Response::new(PostStatusResponse {}))
        }
    };
    rpc::unary(request, handler).await.map(Body::new)
}

async fn get_authorized_entries(State(authority): State<Arc<Authority>>, request: Request) -> Response {
    let handler = |request: tonic::Request<GetAuthorizedEntriesRequest>| {
        let authority = Arc::clone(&authority);
        async move {
            let entries = authority.authorized(request.extensions()).await?;
            Ok(tonic::Response::new(GetAuthorizedEntriesResponse { entries }))
        }
    };
    rpc::unary(request, handler).await.map(Body::new)
}

/// All entries in one answer: an agent has as many as fit, and takes a first answer without revisions for all there is.
async fn sync_authorized_entries(State(authority): State<Arc<Authority>>, request: Request) -> Response {
    let handler = |request: tonic::Request<Streaming<SyncAuthorizedEntriesRequest>>| {
        let authority = Arc::clone(&authority);
        async move {
            let entries = authority.authorized(request.extensions()).await?;
            let first = request.into_inner().message().await?;
            if first.is_none_or(|first| !first.ids.is_empty()) {
                return Err(Status::invalid_argument("the first message must not name entries"));
            }
            let answer = SyncAuthorizedEntriesResponse { entries, ..Default::default() };
            Ok(tonic::Response::new(stream::iter([Ok(answer)])))
        }
    };
    rpc::streaming(request, handler).await.map(Body::new)
}

async fn batch_new_x509_svid(State(authority): State<Arc<Authority>>, request: Request) -> Response {
    let handler = |request: tonic::Request<BatchNewX509SvidRequest>| {
        let authority = Arc::clone(&authority);
        async move { batch_svids(&authority, request).await }
    };
    rpc::unary(request, handler).await.map(Body::new)
}

async fn batch_svids(
    authority: &Authority,
    request: tonic::Request<BatchNewX509SvidRequest>,
) -> Answer<BatchNewX509SvidResponse> {
    let agent = authority.caller(request.extensions()).await?;
    let wanted = request.into_inner().params;
    if wanted.is_empty() || wanted.len() > BATCH {
        return Err(Status::invalid_argument(format!("1 to {BATCH} SVIDs can be asked for at once")));
    }
    let entries = authority.entries(&agent).await?;
    let signer = authority.signer(Timestamp::now()).map_err(|error| broken(&error))?;
    let results = wanted
        .into_iter()
        .map(|wanted| match authority.workload_svid(&signer, &entries, wanted) {
            Ok(svid) => NewX509SvidResult { status: Some(spire::types::Status::ok()), svid: Some(svid) },
            Err((code, what)) => {
                NewX509SvidResult { status: Some(spire::types::Status::new(code, what)), svid: None }
            }
        })
        .collect();
    Ok(tonic::Response::new(BatchNewX509SvidResponse { results }))
}

#[cfg(test)]
mod tests {
    use identity::key::KeyPair;
    use spire::agent::{AgentX509SvidParams, denial_reason};
    use spire::types::AttestationData;

    use super::super::tests::{Cloud, day};
    use super::*;

    #[tokio::test]
    async fn an_svid_that_ended_on_an_open_connection_is_refused() {
        let cloud = Cloud::start().await;
        let token = cloud.register("edge-01", day(0)).await;
        let key = KeyPair::generate().unwrap();
        let request = Csr::from_pem(&key.csr_pem(None).unwrap()).unwrap().der;
        let params = AttestParams {
            data: Some(AttestationData {
                r#type: JOIN_TOKEN.to_owned(),
                payload: secrecy::ExposeSecret::expose_secret(&token).as_bytes().to_vec(),
            }),
            params: Some(AgentX509SvidParams { csr: request }),
        };
        // The clock of the test began long before today.
        let svid = cloud.authority.attest_node(params, day(0)).await.unwrap().svid.unwrap();
        let mut extensions = http::Extensions::new();
        let shown: Arc<[CertificateDer<'static>]> =
            svid.cert_chain.into_iter().map(CertificateDer::from).collect();
        extensions.insert(PeerCertificates(shown));
        let status = cloud.authority.caller(&extensions).await.unwrap_err();
        assert_eq!(denial_reason(&status), Some(DenialReason::AgentExpired));
    }
}
