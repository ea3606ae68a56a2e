//! The authority on a database, with a clock that is passed in.

use fleet_protocol::attestation::{AttestRequest, RenewRequest, SvidAnswer, renewal_message};
use identity::authority::epoch_of;
use identity::svid::certificates_from_pem;
use identity::{Leaf, SvidError};
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{ServerName, UnixTime};
use secrecy::SecretString;

use super::*;
use crate::domain::audit::Actor;
use crate::domain::identity::{Enabling, IssueRefusal, NewRegistration};
use crate::domain::secret::{self, Purpose};
use crate::identity::{Registrar as _, RegistrationRequest};
use crate::store::{self, Location};
use fleet_protocol::api::AttestationMethod;
use secrecy::ExposeSecret as _;

const START: i64 = 1_790_000_000;
const DAY: i64 = 24 * 3600;
const GRACE: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(super) fn day(day: i64) -> Timestamp {
    second(day * DAY)
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

pub(super) struct Cloud {
    dir: tempfile::TempDir,
    store: SharedStore,
    pub(super) authority: Arc<Authority>,
}

impl Cloud {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite { file: dir.path().join("gc.db") };
        let store = store::open(&location).await.unwrap();
        store.ensure_default_config(day(0)).await.unwrap();
        let key = ServerKey::open(None, dir.path(), true).unwrap();
        let authority = Authority::open_at(Arc::clone(&store), &key, TrustDomain::default(), GRACE, day(0))
            .await
            .unwrap();
        Self { dir, store, authority }
    }

    fn registration(name: &str, token: &SecretString, hash_key: &HashKey, now: Timestamp) -> NewRegistration {
        let hash = hash_key.hash(Purpose::JoinToken, token.expose_secret());
        NewRegistration {
            name: name.to_owned(),
            region: "default".to_owned(),
            groups: Vec::new(),
            config_name: None,
            method: AttestationMethod::JoinToken,
            parent_id: format!("spiffe://harbor-satellite.local/agent/{name}"),
            selectors: vec!["unix:uid:0".to_owned()],
            join_token: Some((hash, now + SignedDuration::from_mins(10))),
        }
    }

    pub(super) async fn register(&self, name: &str, now: Timestamp) -> SecretString {
        let token = secret::generate();
        let new = Self::registration(name, &token, &self.authority.hash_key, now);
        self.store.register_identity(new, now).await.unwrap();
        token
    }

    async fn attest(
        &self,
        token: &SecretString,
        key: &KeyPair,
        now: Timestamp,
    ) -> Result<SvidAnswer, IssueError> {
        let request = AttestRequest { join_token: token.clone(), csr: key.csr_pem(None).unwrap() };
        self.authority.attest(&request, Actor::system(), now).await
    }

    /// A satellite that attested, and its key.
    async fn satellite(&self, name: &str, now: Timestamp) -> (KeyPair, Leaf) {
        let token = self.register(name, now).await;
        let key = KeyPair::generate().unwrap();
        let answer = self.attest(&token, &key, now).await.unwrap();
        (key, leaf(&answer))
    }

    async fn renew(
        &self,
        id: &str,
        old: &KeyPair,
        new: &KeyPair,
        now: Timestamp,
    ) -> Result<SvidAnswer, IssueError> {
        let nonce = self.authority.nonce(now).await.unwrap().nonce;
        self.authority.renew(&renewal(id, &nonce, old, new), Actor::system(), now).await
    }

    /// Its SVID was shown at some route.
    async fn used(&self, name: &str, key: &KeyPair, now: Timestamp) {
        let satellite = self.store.satellite(name).await.unwrap().id;
        self.store.identity_used(&satellite, &encoded(key), now).await.unwrap();
    }
}

fn encoded(key: &KeyPair) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(key.public_key())
}

fn renewal(id: &str, nonce: &str, old: &KeyPair, new: &KeyPair) -> RenewRequest {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let csr = new.csr_pem(None).unwrap();
    let der = identity::key::Csr::from_pem(&csr).unwrap().der;
    let message = renewal_message(id, nonce, &base64.encode(der));
    RenewRequest {
        csr,
        spiffe_id: id.to_owned(),
        nonce: nonce.to_owned(),
        signature: base64.encode(old.sign(message.as_bytes()).unwrap()),
    }
}

fn leaf(answer: &SvidAnswer) -> Leaf {
    let chain = certificates_from_pem(&answer.svid).unwrap();
    Leaf::parse(&chain[0]).unwrap()
}

#[track_caller]
fn refused(answer: Result<SvidAnswer, IssueError>, why: IssueRefusal) {
    match answer {
        Err(IssueError::Refused(refusal)) => assert_eq!(refusal, why),
        other => panic!("{other:?} instead of {why:?}"),
    }
}

const EDGE: &str = "spiffe://harbor-satellite.local/satellite/region/default/edge-01";

#[tokio::test]
async fn a_token_gives_one_key_one_identity() {
    let cloud = Cloud::start().await;
    let token = cloud.register("edge-01", day(0)).await;
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let answer = cloud.attest(&token, &key, day(0)).await.unwrap();
    let svid = leaf(&answer);
    assert_eq!(svid.id.to_string(), EDGE);
    assert_eq!(svid.public_key, key.public_key());
    assert_eq!(svid.not_after, second(DAY));
    assert_eq!(answer.expires_at, second(DAY));
    assert!(svid.not_before < day(0));
    assert_eq!(answer.trust_bundle, cloud.authority.bundle().to_pem());
    let known = cloud.store.renewal_record("edge-01").await.unwrap().unwrap();
    assert_eq!(epoch_of(&svid.serial), Some(known.grant.epoch));
    // The answer was lost: the same key gets another, however late; no other key does.
    let again = leaf(&cloud.attest(&token, &key, day(2)).await.unwrap());
    assert_eq!((again.public_key, again.not_after), (key.public_key(), day(3)));
    refused(cloud.attest(&token, &other, second(1)).await, IssueRefusal::Used);
    // It arrived: nobody gets one any more.
    cloud.used("edge-01", &key, day(2)).await;
    refused(cloud.attest(&token, &key, day(2)).await, IssueRefusal::Used);
    refused(cloud.attest(&secret::generate(), &key, day(0)).await, IssueRefusal::Unknown);
    refused(cloud.attest(&SecretString::from("x".repeat(5000)), &key, day(0)).await, IssueRefusal::Unknown);
}

#[tokio::test]
async fn a_token_that_nobody_used_in_time_is_worth_nothing() {
    let cloud = Cloud::start().await;
    let token = cloud.register("edge-01", day(0)).await;
    let key = KeyPair::generate().unwrap();
    refused(cloud.attest(&token, &key, second(601)).await, IssueRefusal::Expired);
    let first = cloud.register("edge-02", day(0)).await;
    let second_token = cloud.register("edge-02", second(1)).await;
    refused(cloud.attest(&first, &key, second(2)).await, IssueRefusal::Used);
    cloud.attest(&second_token, &key, second(2)).await.unwrap();
    // Revoked before it came.
    let token = cloud.register("edge-03", day(0)).await;
    cloud.store.revoke_satellite("edge-03", second(3)).await.unwrap();
    refused(cloud.attest(&token, &key, second(4)).await, IssueRefusal::NotAdmitted);
}

#[tokio::test]
async fn two_devices_at_once_are_one() {
    let cloud = Cloud::start().await;
    let token = cloud.register("edge-01", day(0)).await;
    let keys: Vec<KeyPair> = (0..8).map(|_| KeyPair::generate().unwrap()).collect();
    let tries = keys.iter().map(|key| cloud.attest(&token, key, second(5)));
    let answers = futures_util::future::join_all(tries).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        refused(answer, IssueRefusal::Used);
    }
}

#[tokio::test]
async fn a_request_that_its_key_did_not_sign_is_no_request() {
    let cloud = Cloud::start().await;
    let token = cloud.register("edge-01", day(0)).await;
    let rsa_like = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let foreign = rcgen::CertificateParams::default().serialize_request(&rsa_like).unwrap().pem().unwrap();
    for csr in [
        foreign,
        String::new(),
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n".to_owned(),
    ] {
        let request = AttestRequest { join_token: token.clone(), csr };
        assert!(matches!(
            cloud.authority.attest(&request, Actor::system(), day(0)).await,
            Err(IssueError::Request(_))
        ));
    }
    // None of them cost the token.
    cloud.attest(&token, &KeyPair::generate().unwrap(), day(0)).await.unwrap();
}

#[tokio::test]
async fn what_a_request_says_of_its_identity_is_passed_over() {
    let cloud = Cloud::start().await;
    let token = cloud.register("edge-01", day(0)).await;
    let key = KeyPair::generate().unwrap();
    let wish = "spiffe://harbor-satellite.local/gc/main".parse().unwrap();
    let request = AttestRequest { join_token: token, csr: key.csr_pem(Some(&wish)).unwrap() };
    assert_eq!(
        leaf(&cloud.authority.attest(&request, Actor::system(), day(0)).await.unwrap()).id.to_string(),
        EDGE
    );
}

#[tokio::test]
async fn the_old_key_vouches_for_the_new_one() {
    let cloud = Cloud::start().await;
    let (first, _) = cloud.satellite("edge-01", day(0)).await;
    let (second_key, third) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let svid = leaf(&cloud.renew(EDGE, &first, &second_key, second(50_000)).await.unwrap());
    assert_eq!((svid.id.to_string().as_str(), svid.public_key), (EDGE, second_key.public_key()));
    assert_eq!(svid.not_after, second(50_000 + DAY));
    // The answer was lost, and the key made for it, too: the first one still vouches.
    cloud.renew(EDGE, &first, &third, second(50_100)).await.unwrap();
    cloud.renew(EDGE, &first, &third, second(50_200)).await.unwrap();
    // The new SVID is shown: from then on the first key is nobody's.
    cloud.used("edge-01", &third, second(50_300)).await;
    refused(cloud.renew(EDGE, &first, &second_key, second(50_400)).await, IssueRefusal::Key);
    cloud.renew(EDGE, &third, &KeyPair::generate().unwrap(), second(50_500)).await.unwrap();
}

#[tokio::test]
async fn a_renewal_is_good_once_and_for_one_request() {
    let cloud = Cloud::start().await;
    let (key, _) = cloud.satellite("edge-01", day(0)).await;
    let (other, _) = cloud.satellite("edge-02", day(0)).await;
    let new = KeyPair::generate().unwrap();
    let nonce = cloud.authority.nonce(second(10)).await.unwrap();
    assert_eq!(nonce.expires_at, second(310));
    let request = renewal(EDGE, &nonce.nonce, &key, &new);
    // Another's signature, another request under this signature, another name: none of them takes the nonce away.
    for wrong in [
        renewal(EDGE, &nonce.nonce, &other, &new),
        RenewRequest { csr: other.csr_pem(None).unwrap(), ..request.clone() },
        RenewRequest { spiffe_id: EDGE.replace("edge-01", "edge-02"), ..request.clone() },
        RenewRequest { spiffe_id: EDGE.replace("edge-01", "edge-03"), ..request.clone() },
        renewal(&EDGE.replace("default", "us-east"), &nonce.nonce, &key, &new),
        renewal(&EDGE.replace("harbor-satellite.local", "elsewhere"), &nonce.nonce, &key, &new),
        renewal("spiffe://harbor-satellite.local/gc/main", &nonce.nonce, &key, &new),
    ] {
        refused(cloud.authority.renew(&wrong, Actor::system(), second(20)).await, IssueRefusal::Key);
    }
    for malformed in [
        RenewRequest { spiffe_id: "edge-01".to_owned(), ..request.clone() },
        RenewRequest { signature: "%".to_owned(), ..request.clone() },
        RenewRequest { csr: "none".to_owned(), ..request.clone() },
    ] {
        assert!(matches!(
            cloud.authority.renew(&malformed, Actor::system(), second(20)).await,
            Err(IssueError::Request(_))
        ));
    }
    cloud.authority.renew(&request, Actor::system(), second(20)).await.unwrap();
    refused(cloud.authority.renew(&request, Actor::system(), second(21)).await, IssueRefusal::Nonce);
    // A nonce that nobody gave out, and one that is too old.
    let made_up = renewal(EDGE, &"ab".repeat(16), &key, &new);
    refused(cloud.authority.renew(&made_up, Actor::system(), second(22)).await, IssueRefusal::Nonce);
    let late = renewal(EDGE, &cloud.authority.nonce(second(30)).await.unwrap().nonce, &key, &new);
    refused(cloud.authority.renew(&late, Actor::system(), second(330)).await, IssueRefusal::Nonce);
}

#[tokio::test]
async fn who_was_away_for_too_long_is_revoked_or_deleted_does_not_renew() {
    let cloud = Cloud::start().await;
    let new = KeyPair::generate().unwrap();
    let mut keys = Vec::new();
    for name in ["edge-01", "edge-02", "edge-03", "edge-04"] {
        keys.push(cloud.satellite(name, day(0)).await.0);
    }
    let id = |name: &str| EDGE.replace("edge-01", name);
    // Its SVID ended on day 1, the grace on day 31.
    cloud.renew(&id("edge-01"), &keys[0], &new, day(31)).await.unwrap();
    refused(cloud.renew(&id("edge-02"), &keys[1], &new, second(31 * DAY + 1)).await, IssueRefusal::Key);
    cloud.store.revoke_satellite("edge-03", day(1)).await.unwrap();
    refused(cloud.renew(&id("edge-03"), &keys[2], &new, day(1)).await, IssueRefusal::NotAdmitted);
    cloud.store.delete_satellite("edge-04", day(1)).await.unwrap();
    refused(cloud.renew(&id("edge-04"), &keys[3], &new, day(1)).await, IssueRefusal::Key);
    // Let in again, it needs its new token, and its SVIDs carry another epoch.
    let before = epoch_of(&cloud.satellite("edge-05", day(0)).await.1.serial);
    cloud.store.revoke_satellite("edge-05", day(1)).await.unwrap();
    let token = secret::generate();
    let how = Cloud::registration("edge-05", &token, &cloud.authority.hash_key, day(2));
    cloud.store.enable_satellite("edge-05", Enabling::Registration(Box::new(how)), day(2)).await.unwrap();
    refused(cloud.renew(&id("edge-05"), &keys[0], &new, day(2)).await, IssueRefusal::Key);
    let after = leaf(&cloud.attest(&token, &new, day(2)).await.unwrap());
    assert_ne!(epoch_of(&after.serial), before);
}

/// A client's verdict on a server's certificate, by a bundle of earlier.
fn accepts(bundle: &TrustBundle, server: &Svid, now: Timestamp) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    for authority in &bundle.authorities {
        roots.add(authority.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()));
    let name = ServerName::try_from("gc.invalid").unwrap();
    // Everything but the name: that is a SPIFFE ID, and no name of the web.
    matches!(
        verifier.verify_server_cert(&server.chain()[0], &[], &name, &[], now),
        Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::NotValidForName
                | rustls::CertificateError::NotValidForNameContext { .. }
        ))
    )
}

#[tokio::test]
async fn an_edge_that_was_away_while_the_authority_changed_renews() {
    const LEAVES: usize = 331;
    const RETURNS: usize = LEAVES + 29;
    let cloud = Cloud::start().await;
    let first = cloud.authority.bundle();
    let mut bundles = Vec::new();
    let mut turn = None;
    let mut key = None;
    for today in 0..400 {
        let now = day(i64::try_from(today).unwrap());
        cloud.authority.refresh(now).await.unwrap();
        bundles.push(cloud.authority.bundle());
        let serving = cloud.authority.own().current().unwrap();
        // Whoever was away for as long as may be still knows the server, and is met with what it knew.
        let absent: &TrustBundle = &bundles[usize::saturating_sub(today, 30)];
        assert!(accepts(absent, &serving.svid, now), "day {today}");
        if turn.is_none() && !accepts(&first, &serving.svid, now) {
            turn = Some(today);
            assert!(bundles[today - 31].authorities.len() == 2, "the next one is known long before it signs");
            assert!(serving.bundle.authorities.contains(&first.authorities[0]));
        }
        if today == LEAVES {
            key = Some(cloud.satellite("edge-01", now).await.0);
        }
        if today == RETURNS {
            let new = KeyPair::generate().unwrap();
            let answer = cloud.renew(EDGE, key.as_ref().unwrap(), &new, now).await.unwrap();
            assert_eq!(leaf(&answer).public_key, new.public_key());
        }
    }
    assert!(turn.is_some_and(|turn| (LEAVES + 1..RETURNS).contains(&turn)), "{turn:?}");
    // The first one went when nobody could need it any more.
    let last = cloud.authority.bundle();
    assert_eq!(last.authorities.len(), 1);
    assert_ne!(last, first);
}

#[tokio::test]
async fn our_own_identity_is_renewed_and_follows_the_bundle() {
    let cloud = Cloud::start().await;
    let mut own = cloud.authority.own();
    let first = own.ready().await.unwrap();
    assert_eq!(first.svid.id().to_string(), "spiffe://harbor-satellite.local/gc/main");
    let server = cloud.authority.server().current().unwrap();
    assert_eq!(server.svid.id().to_string(), "spiffe://harbor-satellite.local/spire/server");
    cloud.authority.refresh(second(11 * 3600)).await.unwrap();
    assert_eq!(own.current().unwrap().svid.leaf(), first.svid.leaf());
    cloud.authority.refresh(second(15 * 3600)).await.unwrap();
    let renewed = own.current().unwrap();
    assert_ne!(renewed.svid.leaf().serial, first.svid.leaf().serial);
    assert_ne!(renewed.svid.leaf().public_key, first.svid.leaf().public_key);
    // Another replica made an authority: the bundle is in service, the SVID stays.
    let next = make(
        &TrustDomain::default(),
        Term { created_at: second(16 * 3600), signs_from: day(40), expires_at: day(400) },
        &cloud.authority.seal,
    );
    assert!(cloud.store.add_authority(next.unwrap()).await.unwrap());
    cloud.authority.refresh(second(17 * 3600)).await.unwrap();
    let current = own.current().unwrap();
    assert_eq!(current.bundle.authorities.len(), 2);
    assert_eq!(current.svid.leaf(), renewed.svid.leaf());
}

#[tokio::test]
async fn replicas_that_start_at_once_share_one_authority() {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::Sqlite { file: dir.path().join("gc.db") };
    let key = ServerKey::open(None, dir.path(), true).unwrap();
    let one = store::open(&location).await.unwrap();
    let two = store::open(&location).await.unwrap();
    let open = |store: &SharedStore, at| {
        Authority::open_at(Arc::clone(store), &key, TrustDomain::default(), GRACE, second(at))
    };
    let (one, two) = tokio::join!(open(&one, 0), open(&two, 3));
    assert_eq!(one.unwrap().bundle(), two.unwrap().bundle());
}

#[tokio::test]
async fn another_server_key_opens_nothing() {
    let cloud = Cloud::start().await;
    let records = cloud.store.authorities("harbor-satellite.local").await.unwrap();
    assert!(!records[0].sealed_key.contains("PRIVATE"));
    let elsewhere = tempfile::tempdir().unwrap();
    let other = ServerKey::open(None, elsewhere.path(), true).unwrap();
    let opened =
        Authority::open_at(Arc::clone(&cloud.store), &other, TrustDomain::default(), GRACE, day(0)).await;
    assert!(matches!(opened, Err(AuthorityError::Sealed(id)) if id == records[0].id));
    // The right one does, after a restart.
    let key = ServerKey::open(None, cloud.dir.path(), false).unwrap();
    let again = Authority::open_at(Arc::clone(&cloud.store), &key, TrustDomain::default(), GRACE, day(1))
        .await
        .unwrap();
    assert_eq!(again.bundle(), cloud.authority.bundle());
}

#[tokio::test]
async fn registration_takes_join_tokens_only() {
    let cloud = Cloud::start().await;
    let request = RegistrationRequest {
        name: "edge-01".parse().unwrap(),
        region: "default".parse().unwrap(),
        spiffe_id: EDGE.parse().unwrap(),
        method: AttestationMethod::JoinToken,
        selectors: Vec::new(),
        ttl: Duration::from_secs(600),
        parent_agent_id: None,
    };
    let prepared = cloud.authority.prepare(&request).await.unwrap();
    assert_eq!(prepared.parent_agent_id.to_string(), "spiffe://harbor-satellite.local/agent/edge-01");
    assert!(prepared.token_is_ours && prepared.join_token.is_some());
    for method in [AttestationMethod::X509pop, AttestationMethod::Sshpop] {
        let refusal = cloud.authority.prepare(&RegistrationRequest { method, ..request.clone() }).await;
        assert!(refusal.unwrap_err().to_string().contains("join_token"));
    }
    let other = Some("spiffe://harbor-satellite.local/agent/edge-02".parse().unwrap());
    cloud.authority.prepare(&RegistrationRequest { parent_agent_id: other, ..request }).await.unwrap_err();
    assert!(cloud.authority.connected().await);
    assert_eq!(cloud.authority.trust_bundle().await.unwrap(), cloud.authority.bundle().to_pem());
    assert!(cloud.authority.agents(None).await.unwrap().is_empty());
}

#[test]
fn errors_tell_what_to_do() {
    let error = AuthorityError::Sealed("a".to_owned()).to_string();
    assert!(error.contains("SECRET_KEY_FILE"), "{error}");
    assert!(AuthorityError::from(SvidError::EmptyBundle).to_string().contains("bundle"));
}
