//! An agent as SPIRE's own behaves, call for call.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use identity::key::{Csr, KeyPair};
use identity::tls::{Expected, bootstrap_client_config, client_config};
use identity::{Identity, Leaf, SpiffeId, Svid, TrustBundle, TrustDomain};
use prost::Message;
use rustls::pki_types::{CertificateDer, ServerName};
use spire::agent::{
    self, AgentX509SvidParams, AttestAgentRequest, AttestAgentResponse, AttestAnswer, AttestParams,
    AttestStep, BatchNewX509SvidRequest, BatchNewX509SvidResponse, DenialReason, GetAuthorizedEntriesRequest,
    GetAuthorizedEntriesResponse, GetBundleRequest, NewX509SvidParams, PostStatusRequest, PostStatusResponse,
    RenewAgentRequest, RenewAgentResponse, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
    denial_reason,
};
use spire::types::{AttestationData, Bundle, Entry, EntryMask, X509Svid};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::support::{Cloud, Invitation};

/// A connection of an agent.
struct Connection(tonic::client::Grpc<Channel>);

impl Connection {
    async fn open(address: SocketAddr, config: rustls::ClientConfig) -> Self {
        let tls = TlsConnector::from(Arc::new(config));
        let connector = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::IpAddress(address.ip().into());
                tls.connect(name, stream).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://spire-server");
        Self(tonic::client::Grpc::new(endpoint.connect_with_connector(connector).await.unwrap()))
    }

    async fn call<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let answer = self.0.unary(tonic::Request::new(request), path, ProstCodec::<Q, A>::default()).await?;
        Ok(answer.into_inner())
    }

    /// The first answer of a stream.
    async fn stream<Q, A>(&mut self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Default + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let requests = futures_util::stream::iter([request]);
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.0.streaming(tonic::Request::new(requests), path, codec).await?;
        answer.into_inner().message().await.map(Option::unwrap)
    }

    async fn attest(&mut self, kind: &str, token: &str, key: &KeyPair) -> Result<X509Svid, Status> {
        let params = AttestParams {
            data: Some(AttestationData { r#type: kind.to_owned(), payload: token.as_bytes().to_vec() }),
            params: Some(AgentX509SvidParams { csr: csr(key) }),
        };
        let request = AttestAgentRequest { step: Some(AttestStep::Params(params)) };
        let answer: AttestAgentResponse = self.stream(agent::ATTEST_AGENT, request).await?;
        match answer.step {
            Some(AttestAnswer::Result(result)) => {
                assert!(!result.reattestable);
                Ok(result.svid.unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn sync(&mut self) -> Result<Vec<Entry>, Status> {
        let mask =
            EntryMask { spiffe_id: true, selectors: true, revision_number: true, ..EntryMask::default() };
        let request = SyncAuthorizedEntriesRequest { output_mask: Some(mask), ids: Vec::new() };
        let answer: SyncAuthorizedEntriesResponse =
            self.stream(agent::SYNC_AUTHORIZED_ENTRIES, request).await?;
        assert!(answer.entry_revisions.is_empty() && !answer.more);
        let all: GetAuthorizedEntriesResponse =
            self.call(agent::GET_AUTHORIZED_ENTRIES, GetAuthorizedEntriesRequest::default()).await?;
        assert_eq!(all.entries, answer.entries);
        Ok(answer.entries)
    }

    async fn svids(&mut self, params: Vec<NewX509SvidParams>) -> Result<BatchNewX509SvidResponse, Status> {
        self.call(agent::BATCH_NEW_X509_SVID, BatchNewX509SvidRequest { params }).await
    }

    async fn renew(&mut self, key: &KeyPair) -> Result<X509Svid, Status> {
        let request = RenewAgentRequest { params: Some(AgentX509SvidParams { csr: csr(key) }) };
        let answer: RenewAgentResponse = self.call(agent::RENEW_AGENT, request).await?;
        Ok(answer.svid.unwrap())
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn csr(key: &KeyPair) -> Vec<u8> {
    Csr::from_pem(&key.csr_pem(None).unwrap()).unwrap().der
}

fn leaf(svid: &X509Svid) -> Leaf {
    let [leaf] = svid.cert_chain.as_slice() else { panic!("{} certificates", svid.cert_chain.len()) };
    let leaf = Leaf::parse(&CertificateDer::from(leaf.clone())).unwrap();
    assert_eq!(leaf.id, svid.id.as_ref().unwrap().to_id().unwrap());
    assert_eq!(leaf.not_after.as_second(), svid.expires_at);
    leaf
}

fn spire_server() -> Expected {
    Expected::Exactly(SpiffeId::spire_server(&TrustDomain::default()))
}

fn identity_of(svid: &X509Svid, key: &KeyPair, bundle: &TrustBundle) -> Identity {
    let (keeper, identity) = identity::identity();
    let chain = svid.cert_chain.iter().cloned().map(CertificateDer::from).collect();
    keeper.set(Svid::from_der(chain, key.private_key()).unwrap(), bundle.clone());
    identity
}

fn address(cloud: &Cloud) -> SocketAddr {
    cloud.running.agents.unwrap()
}

async fn stranger(cloud: &Cloud, bundle: &TrustBundle) -> Connection {
    let config = bootstrap_client_config(bundle.clone(), spire_server(), &[b"h2"]).unwrap();
    Connection::open(address(cloud), config).await
}

async fn known(cloud: &Cloud, identity: &Identity) -> Connection {
    Connection::open(address(cloud), client_config(identity, spire_server(), &[b"h2"]).unwrap()).await
}

/// An agent that attested.
async fn attested(cloud: &Cloud, site: &Invitation) -> (KeyPair, X509Svid, Connection) {
    let key = key();
    let mut stranger = stranger(cloud, &site.trust_bundle).await;
    let svid = stranger.attest("join_token", &site.join_token, &key).await.unwrap();
    let connection = known(cloud, &identity_of(&svid, &key, &site.trust_bundle)).await;
    (key, svid, connection)
}

#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, Status>, reason: DenialReason) {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), denial_reason(&status)), (Code::PermissionDenied, Some(reason)), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_attests_and_serves_its_satellite() {
    let cloud = Cloud::start().await;
    let site = cloud.register("edge-01").await;
    let (_, svid, mut agent) = attested(&cloud, &site).await;
    let id = leaf(&svid).id.to_string();
    assert!(id.starts_with("spiffe://harbor-satellite.local/spire/agent/join_token/"), "{id}");
    assert!(!id.contains(&site.join_token), "the token is a secret");

    let bundle: Bundle = agent.call(agent::GET_BUNDLE, GetBundleRequest::default()).await.unwrap();
    assert_eq!(bundle.trust_domain, "harbor-satellite.local");
    let authorities: Vec<_> = site.trust_bundle.authorities.iter().map(|a| a.to_vec()).collect();
    assert_eq!(bundle.x509_authorities.into_iter().map(|a| a.asn1).collect::<Vec<_>>(), authorities);
    let status = PostStatusRequest { current_bundle_serial: 0, agent_version: "1.16.0".to_owned() };
    let _: PostStatusResponse = agent.call(agent::POST_STATUS, status).await.unwrap();

    let entries = agent.sync().await.unwrap();
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.spiffe_id.as_ref().unwrap().to_uri(), site.spiffe_id);
    assert_eq!(entry.selectors[0].to_text(), "unix:uid:0");
    assert!(entry.revision_number > 0 && entry.created_at > 0);

    let workload = key();
    let wanted = |entry_id: &str, csr: Vec<u8>| NewX509SvidParams { entry_id: entry_id.to_owned(), csr };
    let params = vec![
        wanted(&entry.id, csr(&workload)),
        wanted("another", csr(&workload)),
        wanted(&entry.id, b"no request".to_vec()),
    ];
    let answer = agent.svids(params).await.unwrap();
    let codes: Vec<i32> = answer.results.iter().map(|r| r.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [0, Code::NotFound as i32, Code::InvalidArgument as i32]);
    let svid = answer.results[0].svid.clone().unwrap();
    assert_eq!(
        (leaf(&svid).id.to_string(), leaf(&svid).public_key),
        (site.spiffe_id.clone(), workload.public_key())
    );
    // What the agent hands to the satellite opens Ground Control, as an SVID of its own would.
    let satellite = identity_of(&svid, &workload, &site.trust_bundle);
    cloud.known(&satellite).get("/satellites/spiffe-ztr").await.expect(200);
    // The administrator sees the agent.
    let listed = cloud.admin("GET", "/api/spire/agents?attestation_type=join_token", None).await.expect(200);
    assert_eq!(listed["agents"][0]["spiffe_id"], id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_attests_one_agent() {
    let cloud = Cloud::start().await;
    let site = cloud.register("edge-01").await;
    let mut stranger = stranger(&cloud, &site.trust_bundle).await;
    for (kind, token) in [
        ("x509pop", site.join_token.as_str()),
        ("join_token", ""),
        ("join_token", "0123456789abcdef0123456789abcdef"),
    ] {
        let status = stranger.attest(kind, token, &key()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{kind} {token:?}");
        assert!(!status.message().contains(&site.join_token));
    }
    let first = key();
    let id = |svid: &X509Svid| leaf(svid).id;
    let svid = stranger.attest("join_token", &site.join_token, &first).await.unwrap();
    // The answer was lost: the same key is the same agent.
    let again = stranger.attest("join_token", &site.join_token, &first).await.unwrap();
    assert_eq!(id(&svid), id(&again));
    assert_eq!(
        stranger.attest("join_token", &site.join_token, &key()).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    // A satellite cannot take the token that its agent came with, either.
    cloud.stranger(&site.trust_bundle).attest(&site.join_token, &key()).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_agent_is_served() {
    let cloud = Cloud::start().await;
    let site = cloud.register("edge-01").await;
    let mut stranger = stranger(&cloud, &site.trust_bundle).await;
    assert_eq!(stranger.sync().await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(stranger.renew(&key()).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(stranger.svids(Vec::new()).await.unwrap_err().code(), Code::Unauthenticated);
    let _: Bundle = stranger.call(agent::GET_BUNDLE, GetBundleRequest::default()).await.unwrap();
    let unknown: Result<Bundle, Status> =
        stranger.call("/spire.api.server.svid.v1.SVID/MintX509SVID", GetBundleRequest::default()).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
    // Ground Control itself is a member of the trust domain, and no agent.
    let own = cloud.running.state.identities.as_ref().unwrap().own.clone();
    denied(known(&cloud, &own).await.sync().await, DenialReason::AgentNotAttested);
    stranger.attest("join_token", &"a".repeat(100_000), &key()).await.unwrap_err();
    let (_, _, mut agent) = attested(&cloud, &site).await;
    let much = vec![NewX509SvidParams::default(); 101];
    assert_eq!(agent.svids(much).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_renews_and_its_old_key_ends_with_the_use_of_the_new_one() {
    let cloud = Cloud::start().await;
    let site = cloud.register("edge-01").await;
    let (_, svid, mut agent) = attested(&cloud, &site).await;
    // An answer that was lost, and another try with another key.
    agent.renew(&key()).await.unwrap();
    let second = key();
    let renewed = agent.renew(&second).await.unwrap();
    assert_eq!((leaf(&renewed).id, leaf(&renewed).public_key), (leaf(&svid).id, second.public_key()));
    agent.sync().await.unwrap();
    let mut next = known(&cloud, &identity_of(&renewed, &second, &site.trust_bundle)).await;
    next.sync().await.unwrap();
    denied(agent.sync().await, DenialReason::AgentNotActive);
    next.renew(&key()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_takes_the_entry_and_the_agent() {
    let cloud = Cloud::start().await;
    let (site, other) = (cloud.register("edge-01").await, cloud.register("edge-02").await);
    let (_, _, mut agent) = attested(&cloud, &site).await;
    let (_, _, mut untouched) = attested(&cloud, &other).await;
    let entry = agent.sync().await.unwrap().remove(0);
    cloud.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    denied(agent.sync().await, DenialReason::AgentBanned);
    let wanted = vec![NewX509SvidParams { entry_id: entry.id.clone(), csr: csr(&key()) }];
    denied(agent.svids(wanted.clone()).await, DenialReason::AgentBanned);
    denied(agent.renew(&key()).await, DenialReason::AgentBanned);
    assert_eq!(untouched.sync().await.unwrap().len(), 1);
    // Nobody gets SVIDs for a satellite that is not theirs.
    let foreign = untouched.svids(wanted).await.unwrap();
    assert_eq!(foreign.results[0].status.as_ref().unwrap().code, Code::NotFound as i32);

    let again = cloud.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(200);
    agent.sync().await.unwrap_err();
    let site = Invitation { join_token: again["join_token"].as_str().unwrap().to_owned(), ..site };
    let (_, _, mut agent) = attested(&cloud, &site).await;
    // The entry of its new life is another one: what was issued before is thrown away.
    assert_ne!(agent.sync().await.unwrap().remove(0).id, entry.id);
    cloud.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    denied(agent.sync().await, DenialReason::AgentBanned);
}
