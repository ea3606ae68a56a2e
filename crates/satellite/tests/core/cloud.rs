//! A stand-in for Ground Control that knows SPIFFE: it serves mTLS with its own SVID, has an authority of its own, and a
//! registry at the same address.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blob_store::Store;
use fleet_protocol::attestation::{AttestRequest, RenewRequest, renewal_message};
use identity::authority::{CertificateAuthority, Issue, serial};
use identity::key::{Csr, KeyPair, verify};
use identity::{Identity, IdentityKeeper, Leaf, SpiffeId, Svid, TrustBundle};
use jiff::{SignedDuration, Timestamp};
use registry_server::FullAccess;
use registry_server::listen::{self, Limits, PeerCertificates, TlsServer};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::fleet::STATE_REPOSITORY;

pub(crate) const TRUST_DOMAIN: &str = "td.example";
pub(crate) const EDGE: &str = "spiffe://td.example/satellite/region/default/edge-01";

/// What Ground Control knows and does.
#[derive(Debug)]
pub(crate) struct Book {
    /// Join tokens, and the key that each was claimed with.
    pub(crate) tokens: BTreeMap<String, Option<Vec<u8>>>,
    present: Vec<u8>,
    previous: Option<Vec<u8>>,
    not_after: Timestamp,
    nonces: BTreeSet<String>,
    /// How long the SVIDs live that are issued.
    pub(crate) life: SignedDuration,
    pub(crate) grace: SignedDuration,
    pub(crate) revoked: bool,
    pub(crate) unknown: bool,
    /// Everything is 503.
    pub(crate) down: bool,
    /// Do what is asked, and lose the answer.
    pub(crate) lose_attests: usize,
    pub(crate) lose_renewals: usize,
    /// Claims and renewals: the public key that the SVID was asked for.
    pub(crate) attests: Vec<Vec<u8>>,
    pub(crate) renewals: Vec<Vec<u8>>,
    pub(crate) registrations: usize,
    /// So many registrations are 503 with `Retry-After`: the registry's account is not there yet.
    pub(crate) not_yet: usize,
    pub(crate) refreshes: usize,
    pub(crate) heartbeats: Vec<Value>,
    /// Serial numbers of the SVIDs that heartbeats came with.
    pub(crate) serials: BTreeSet<Vec<u8>>,
    pub(crate) heartbeat_answer: String,
    /// Where the answers say that the registry is; empty for this address.
    pub(crate) registry_url: String,
    /// Secrets of the robot that the registry takes.
    pub(crate) secrets: BTreeSet<String>,
    /// Secrets that are handed out are not taken by the registry.
    pub(crate) hand_out_bad_secrets: bool,
    handed_out: usize,
    /// Requests at the registry that were let in.
    pub(crate) pulls: usize,
}

#[derive(Clone)]
struct Shared {
    book: Arc<Mutex<Book>>,
    authority: Option<Arc<CertificateAuthority>>,
    url: String,
}

/// The running stand-in.
pub(crate) struct Cloud {
    pub(crate) url: String,
    pub(crate) book: Arc<Mutex<Book>>,
    /// The authorities, as they are handed to an edge.
    pub(crate) bundle_pem: String,
    _keeper: Option<IdentityKeeper>,
    server: JoinHandle<()>,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Cloud {
    /// With an authority of its own.
    pub(crate) async fn start(store: &Store) -> Self {
        let now = Timestamp::now();
        let domain = TRUST_DOMAIN.parse().unwrap();
        let hour = SignedDuration::from_hours(1);
        let authority = CertificateAuthority::generate(&domain, now - hour, now + hour).unwrap();
        let bundle = TrustBundle::from_der(domain.clone(), vec![authority.certificate().clone()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = issue(&authority, &SpiffeId::ground_control(&domain), key.public_key(), hour / 2);
        let svid = Svid::from_der(vec![leaf], key.private_key()).unwrap();
        let (keeper, identity) = identity::identity();
        keeper.set(svid, bundle.clone());
        let mut cloud = Self::with(store, identity, Some(Arc::new(authority))).await;
        cloud.bundle_pem = bundle.to_pem();
        cloud._keeper = Some(keeper);
        cloud
    }

    /// With the SVID of somebody else's authority.
    pub(crate) async fn with(
        store: &Store,
        identity: Identity,
        authority: Option<Arc<CertificateAuthority>>,
    ) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let book = Arc::new(Mutex::new(Book {
            tokens: BTreeMap::new(),
            present: Vec::new(),
            previous: None,
            not_after: Timestamp::now(),
            nonces: BTreeSet::new(),
            life: SignedDuration::from_mins(20),
            grace: SignedDuration::from_hours(24),
            revoked: false,
            unknown: false,
            down: false,
            lose_attests: 0,
            lose_renewals: 0,
            attests: Vec::new(),
            renewals: Vec::new(),
            registrations: 0,
            not_yet: 0,
            refreshes: 0,
            heartbeats: Vec::new(),
            serials: BTreeSet::new(),
            heartbeat_answer: String::new(),
            registry_url: String::new(),
            secrets: BTreeSet::new(),
            hand_out_bad_secrets: false,
            handed_out: 0,
            pulls: 0,
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let shared = Shared { book: book.clone(), authority, url: url.clone() };
        let registry =
            registry_server::router(store.clone(), Arc::new(FullAccess), registry_server::Options::default())
                .layer(middleware::from_fn_with_state(shared.clone(), by_robot));
        let router = Router::new()
            .route("/satellites/attest", post(attest))
            .route("/satellites/renew", get(nonce).post(renew))
            .route("/satellites/spiffe-ztr", get(register))
            .route("/satellites/sync", post(heartbeat))
            .route("/satellites/credentials", post(credentials))
            .with_state(shared.clone())
            .merge(registry)
            .layer(middleware::from_fn_with_state(shared, is_up));
        let tls = identity::tls::server_config(&identity, &[b"http/1.1"]).unwrap();
        let tls = Some(TlsServer::new(Arc::new(tls)));
        let server = tokio::spawn(async move {
            listen::serve(listener, tls, router, Limits::default(), std::future::pending()).await.unwrap();
        });
        Self { url, book, bundle_pem: String::new(), _keeper: None, server }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.book.lock().unwrap());
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.book.lock().unwrap())
    }

    /// A fresh join token.
    pub(crate) fn join_token(&self) -> String {
        let token = hex::encode(rand::random::<[u8; 16]>());
        self.change(|book| drop(book.tokens.insert(token.clone(), None)));
        token
    }
}

fn issue(
    authority: &CertificateAuthority,
    id: &SpiffeId,
    public_key: Vec<u8>,
    life: SignedDuration,
) -> rustls::pki_types::CertificateDer<'static> {
    let now = Timestamp::now();
    authority
        .issue(&Issue {
            id: id.clone(),
            public_key,
            serial: serial(1),
            not_before: now,
            not_after: now + life,
            dns_names: Vec::new(),
        })
        .unwrap()
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message, "code": status.as_u16()}))).into_response()
}

async fn is_up(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if shared.book.lock().unwrap().down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

/// The registry's rule: the robot's Basic credentials.
async fn by_robot(
    State(shared): State<Shared>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    {
        let mut book = shared.book.lock().unwrap();
        let given =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let good = |secret: &String| {
            given == format!("Basic {}", STANDARD.encode(format!("robot$edge-01:{secret}")))
        };
        if !book.secrets.iter().any(good) {
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"registry\"")])
                .into_response();
        }
        if book.revoked {
            return refusal(StatusCode::FORBIDDEN, "revoked");
        }
        book.pulls += 1;
    }
    next.run(request).await
}

impl Shared {
    fn svid_answer(&self, book: &mut Book, public_key: &[u8]) -> Response {
        let authority = self.authority.as_ref().unwrap();
        let leaf = issue(authority, &EDGE.parse().unwrap(), public_key.to_vec(), book.life);
        book.not_after = Timestamp::now() + book.life;
        Json(json!({
            "svid": identity::svid::chain_to_pem(&[leaf]),
            "trust_bundle": authority.certificate_pem(),
            "expires_at": book.not_after,
        }))
        .into_response()
    }

    /// Who asks with an SVID, as Ground Control decides it.
    #[expect(clippy::result_large_err, reason = "the answer of a refusal, in a test")]
    fn admit(&self, book: &mut Book, peer: Option<&PeerCertificates>) -> Result<Leaf, Response> {
        let leaf = peer.and_then(|peer| identity::tls::peer(&peer.0).ok());
        let leaf = leaf.ok_or_else(|| refusal(StatusCode::UNAUTHORIZED, "no SVID was shown"))?;
        if book.revoked {
            return Err(refusal(StatusCode::FORBIDDEN, "the satellite is revoked"));
        }
        if book.unknown || leaf.is_expired(Timestamp::now()) || leaf.id.to_string() != EDGE {
            return Err(refusal(StatusCode::UNAUTHORIZED, "the satellite is unknown"));
        }
        if leaf.public_key == book.present {
            book.previous = None;
        }
        Ok(leaf)
    }

    fn state_config(&self, book: &mut Book) -> Response {
        book.handed_out += 1;
        let secret = format!("robot-secret-{}", book.handed_out);
        if !book.hand_out_bad_secrets {
            book.secrets.insert(secret.clone());
        }
        let registry =
            if book.registry_url.is_empty() { self.url.clone() } else { book.registry_url.clone() };
        Json(json!({
            "auth": {"url": registry, "username": "robot$edge-01", "password": secret},
            "state": format!("{registry}/{STATE_REPOSITORY}:latest"),
        }))
        .into_response()
    }
}

async fn attest(State(shared): State<Shared>, Json(request): Json<AttestRequest>) -> Response {
    let mut book = shared.book.lock().unwrap();
    let key = Csr::from_pem(&request.csr).unwrap().public_key;
    book.attests.push(key.clone());
    match book.tokens.get_mut(request.join_token.expose_secret()) {
        None => return refusal(StatusCode::UNAUTHORIZED, "unknown token"),
        Some(Some(bound)) if *bound != key => return refusal(StatusCode::UNAUTHORIZED, "the token was used"),
        Some(bound) => *bound = Some(key.clone()),
    }
    (book.present, book.previous, book.revoked) = (key.clone(), None, false);
    if book.lose_attests > 0 {
        book.lose_attests -= 1;
        return StatusCode::BAD_GATEWAY.into_response();
    }
    shared.svid_answer(&mut book, &key)
}

async fn nonce(State(shared): State<Shared>) -> Response {
    let nonce = hex::encode(rand::random::<[u8; 16]>());
    shared.book.lock().unwrap().nonces.insert(nonce.clone());
    Json(json!({"nonce": nonce, "expires_at": Timestamp::now() + SignedDuration::from_mins(5)}))
        .into_response()
}

async fn renew(State(shared): State<Shared>, Json(request): Json<RenewRequest>) -> Response {
    let mut book = shared.book.lock().unwrap();
    let csr = Csr::from_pem(&request.csr).unwrap();
    let message = renewal_message(&request.spiffe_id, &request.nonce, &STANDARD.encode(&csr.der));
    let signature = STANDARD.decode(&request.signature).unwrap();
    let signed_by = |key: &[u8]| verify(key, message.as_bytes(), &signature);
    book.renewals.push(csr.public_key.clone());
    if !book.nonces.remove(&request.nonce) || request.spiffe_id != EDGE {
        return refusal(StatusCode::UNAUTHORIZED, "unknown nonce or identity");
    }
    let by_present = signed_by(&book.present);
    if !by_present && !book.previous.as_deref().is_some_and(signed_by) {
        return refusal(StatusCode::UNAUTHORIZED, "not signed by a key that is known");
    }
    if book.revoked {
        return refusal(StatusCode::FORBIDDEN, "the satellite is revoked");
    }
    if Timestamp::now() > book.not_after + book.grace {
        return refusal(StatusCode::UNAUTHORIZED, "expired beyond the grace");
    }
    if by_present {
        book.previous = Some(book.present.clone());
    }
    book.present.clone_from(&csr.public_key);
    if book.lose_renewals > 0 {
        book.lose_renewals -= 1;
        return StatusCode::BAD_GATEWAY.into_response();
    }
    shared.svid_answer(&mut book, &csr.public_key)
}

type Peer = Option<Extension<PeerCertificates>>;

async fn register(State(shared): State<Shared>, peer: Peer) -> Response {
    let mut book = shared.book.lock().unwrap();
    if let Err(refused) = shared.admit(&mut book, peer.as_deref()) {
        return refused;
    }
    if book.not_yet > 0 {
        book.not_yet -= 1;
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
    }
    book.registrations += 1;
    shared.state_config(&mut book)
}

async fn credentials(State(shared): State<Shared>, peer: Peer) -> Response {
    let mut book = shared.book.lock().unwrap();
    if let Err(refused) = shared.admit(&mut book, peer.as_deref()) {
        return refused;
    }
    book.refreshes += 1;
    shared.state_config(&mut book)
}

async fn heartbeat(
    State(shared): State<Shared>,
    peer: Peer,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let mut book = shared.book.lock().unwrap();
    assert!(!headers.contains_key(header::AUTHORIZATION), "an SVID needs no password beside it");
    match shared.admit(&mut book, peer.as_deref()) {
        Ok(leaf) => {
            book.heartbeats.push(body);
            book.serials.insert(leaf.serial);
            book.heartbeat_answer.clone().into_response()
        }
        Err(refused) => refused,
    }
}
