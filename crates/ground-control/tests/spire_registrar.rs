//! Satellites registered with a SPIRE server: the registrar against the strict stand-in, which plays the agents too.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::time::Duration;

use fleet_protocol::api::AttestationMethod;
use ground_control::domain::SatelliteId;
use ground_control::domain::identity::{Registration, Withdrawal};
use ground_control::identity::spire::SpireRegistrar;
use ground_control::identity::{Prepared, Registrar, RegistrarError, RegistrationRequest};
use identity::{SpiffeId, TrustBundle, TrustDomain};
use secrecy::ExposeSecret as _;
use spire::ServerClient;
use spire::types::{Entry, Selector};
use tempfile::TempDir;
use testbed::authority::Authority;
use testbed::spire_stand_in::SpireStandIn;
use tonic::Code;

const DOMAIN: &str = "harbor-satellite.local";
const EDGE: &str = "spiffe://harbor-satellite.local/satellite/region/eu/edge-01";
const ALIAS: &str = "spiffe://harbor-satellite.local/agent/edge-01";
const COMMON_NAME: &str = "x509pop:subject:cn:edge-01";

struct Fixture {
    server: SpireStandIn,
    registrar: SpireRegistrar,
    _folder: TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let server = SpireStandIn::start(folder.path(), &Authority::new(DOMAIN).unwrap()).unwrap();
    let registrar = SpireRegistrar::new(ServerClient::unix(server.socket()), domain());
    Fixture { server, registrar, _folder: folder }
}

impl Fixture {
    /// A registration whose database recorded it.
    async fn register(&self, request: &RegistrationRequest) -> Prepared {
        let prepared = self.registrar.prepare(request).await.unwrap();
        self.registrar.settle(request, &prepared).await.unwrap();
        prepared
    }

    async fn refused(&self, request: &RegistrationRequest) -> RegistrarError {
        self.registrar.prepare(request).await.unwrap_err()
    }

    fn edges_of(&self, agent: &str) -> Vec<String> {
        let all = self.server.entries_for(agent);
        all.into_iter().filter(|id| id.contains("/satellite/")).collect()
    }

    fn is_banned(&self, agent: &str) -> bool {
        let agents = self.server.agents();
        agents.iter().any(|one| one.banned && one.id.as_ref().unwrap().to_uri() == agent)
    }
}

fn domain() -> TrustDomain {
    DOMAIN.parse().unwrap()
}

fn id(uri: &str) -> SpiffeId {
    uri.parse().unwrap()
}

fn request(method: AttestationMethod) -> RegistrationRequest {
    RegistrationRequest {
        name: "edge-01".parse().unwrap(),
        region: "eu".parse().unwrap(),
        spiffe_id: id(EDGE),
        method,
        selectors: vec!["docker:label:service:satellite".to_owned()],
        ttl: Duration::from_secs(600),
        parent_agent_id: None,
    }
}

fn by_token() -> RegistrationRequest {
    request(AttestationMethod::JoinToken)
}

fn token(prepared: &Prepared) -> &str {
    prepared.join_token.as_ref().unwrap().0.expose_secret()
}

fn withdrawal(prepared: &Prepared, agent_is_unused: bool) -> Withdrawal {
    let registration = Registration {
        satellite: SatelliteId::generate(),
        name: "edge-01".to_owned(),
        region: "eu".to_owned(),
        method: AttestationMethod::JoinToken,
        parent_id: prepared.parent_agent_id.to_string(),
        selectors: Vec::new(),
    };
    Withdrawal { registration, attempts: 0, agent_is_unused }
}

/// Somebody else's entry.
fn entry(uri: &str, parent: &str, selectors: &[&str]) -> Entry {
    Entry {
        spiffe_id: Some((&id(uri)).into()),
        parent_id: Some((&id(parent)).into()),
        selectors: selectors.iter().map(|text| Selector::parse(text).unwrap()).collect(),
        ..Entry::default()
    }
}

#[tokio::test]
async fn an_agent_that_comes_with_the_token_serves_the_satellite() {
    let fixture = fixture();
    let prepared = fixture.register(&by_token()).await;
    assert_eq!(prepared.parent_agent_id, id(ALIAS));
    assert!(!prepared.token_is_ours);
    let (_, expires_at) = prepared.join_token.as_ref().unwrap();
    let left = expires_at.as_second() - jiff::Timestamp::now().as_second();
    assert!((590..=600).contains(&left), "{left}");
    let agent = fixture.server.attest_with_token(token(&prepared)).unwrap();
    assert_eq!(fixture.edges_of(&agent), [EDGE]);
}

#[tokio::test]
async fn a_repeat_voids_the_token_that_nobody_used() {
    let fixture = fixture();
    let first = fixture.register(&by_token()).await;
    let second = fixture.register(&by_token()).await;
    assert!(second.made.is_empty(), "the entry is there already");
    assert_eq!(fixture.server.entries().len(), 2, "one entry, one alias");
    let late = fixture.server.attest_with_token(token(&first)).unwrap();
    assert!(fixture.server.entries_for(&late).is_empty(), "a late agent serves nobody");
    let agent = fixture.server.attest_with_token(token(&second)).unwrap();
    assert_eq!(fixture.edges_of(&agent), [EDGE]);
}

#[tokio::test]
async fn a_repeat_leaves_an_agent_at_work_alone_until_it_is_gone() {
    let fixture = fixture();
    let first = fixture.register(&by_token()).await;
    let agent = fixture.server.attest_with_token(token(&first)).unwrap();
    fixture.register(&by_token()).await;
    assert_eq!(fixture.edges_of(&agent), [EDGE]);
    assert!(!fixture.is_banned(&agent));
    fixture.server.expire(&agent, 1);
    fixture.register(&by_token()).await;
    assert!(fixture.server.entries_for(&agent).is_empty(), "an expired agent never comes back");
}

#[tokio::test]
async fn what_another_registration_replaces_goes_only_when_that_is_recorded() {
    let fixture = fixture();
    let first = fixture.register(&by_token()).await;
    let agent = fixture.server.attest_with_token(token(&first)).unwrap();
    let changed = RegistrationRequest { selectors: vec!["unix:uid:1000".to_owned()], ..by_token() };
    let prepared = fixture.registrar.prepare(&changed).await.unwrap();
    let edges =
        || fixture.server.entries().into_iter().filter(|entry| entry.spiffe_id == Some((&id(EDGE)).into()));
    assert_eq!(edges().count(), 2, "the new one is made, the old one is not broken yet");
    fixture.registrar.settle(&changed, &prepared).await.unwrap();
    let kept: Vec<Entry> = edges().collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].selectors[0].to_text(), "unix:uid:1000");
    assert_eq!(fixture.edges_of(&agent), [EDGE]);
    fixture.registrar.settle(&changed, &prepared).await.unwrap();
    assert_eq!(edges().count(), 1);
}

#[tokio::test]
async fn what_the_database_refused_leaves_nothing_and_takes_nothing_away() {
    let fixture = fixture();
    let refused = fixture.registrar.prepare(&by_token()).await.unwrap();
    fixture.registrar.undo(&by_token(), &refused).await;
    assert_eq!(fixture.server.entries(), []);

    let first = fixture.register(&by_token()).await;
    let before = fixture.server.entries();
    let again = fixture.registrar.prepare(&by_token()).await.unwrap();
    fixture.registrar.undo(&by_token(), &again).await;
    assert_eq!(fixture.server.entries(), before);
    let agent = fixture.server.attest_with_token(token(&first)).unwrap();
    assert_eq!(fixture.edges_of(&agent), [EDGE]);
}

#[tokio::test]
async fn a_registration_that_fails_half_way_leaves_nothing() {
    let fixture = fixture();
    fixture.server.fail("CreateJoinToken", &[Code::Internal]);
    let error = fixture.refused(&by_token()).await;
    assert!(matches!(&error, RegistrarError::Unavailable(_)), "{error:?}");
    assert_eq!(fixture.server.entries(), []);
}

#[tokio::test]
async fn a_revoked_satellite_loses_its_entry_its_token_and_its_agent() {
    let fixture = fixture();
    let first = fixture.register(&by_token()).await;
    let agent = fixture.server.attest_with_token(token(&first)).unwrap();
    let second = fixture.register(&by_token()).await;
    fixture
        .server
        .add_entry(entry(
            "spiffe://harbor-satellite.local/other",
            "spiffe://harbor-satellite.local/agent/other",
            &["unix:uid:1"],
        ))
        .unwrap();

    fixture.registrar.withdraw(&withdrawal(&second, true)).await.unwrap();
    assert!(fixture.is_banned(&agent));
    let late = fixture.server.attest_with_token(token(&second)).unwrap();
    assert!(fixture.server.entries_for(&late).is_empty());
    assert_eq!(fixture.server.entries().len(), 1, "what is not ours stays");
    fixture.registrar.withdraw(&withdrawal(&second, true)).await.unwrap();

    let third = fixture.register(&by_token()).await;
    let agent = fixture.server.attest_with_token(token(&third)).unwrap();
    assert_eq!(fixture.edges_of(&agent), [EDGE], "let in again, with a new agent");
}

#[tokio::test]
async fn a_withdrawal_that_broke_off_is_completed_by_its_repetition() {
    for (call, code) in [
        ("BatchDeleteEntry", Code::Internal),
        ("BanAgent", Code::Internal),
        ("GetAgent", Code::Internal),
        ("ListEntries", Code::Internal),
    ] {
        let fixture = fixture();
        let prepared = fixture.register(&by_token()).await;
        let agent = fixture.server.attest_with_token(token(&prepared)).unwrap();
        fixture.server.fail(call, &[code]);
        fixture.registrar.withdraw(&withdrawal(&prepared, true)).await.unwrap_err();
        fixture.registrar.withdraw(&withdrawal(&prepared, true)).await.unwrap();
        assert!(fixture.is_banned(&agent), "{call}");
        assert_eq!(fixture.server.entries(), [], "{call}");
    }
}

#[tokio::test]
async fn an_agent_that_others_need_is_never_banned() {
    let fixture = fixture();
    let prepared = fixture.register(&by_token()).await;
    let agent = fixture.server.attest_with_token(token(&prepared)).unwrap();
    let pending = fixture.register(&by_token()).await;

    // The database knows of another satellite with the same agent.
    fixture.registrar.withdraw(&withdrawal(&prepared, false)).await.unwrap();
    assert!(!fixture.is_banned(&agent));
    assert!(fixture.edges_of(&agent).is_empty());
    let late = fixture.server.attest_with_token(token(&pending)).unwrap();
    assert!(fixture.server.entries_for(&late).is_empty());

    // SPIRE knows of other workloads, of which the database knows nothing.
    let other = "spiffe://harbor-satellite.local/other";
    let theirs = fixture.server.add_entry(entry(other, ALIAS, &["unix:uid:1"])).unwrap();
    fixture.registrar.withdraw(&withdrawal(&prepared, true)).await.unwrap();
    assert!(!fixture.is_banned(&agent));
    assert!(fixture.server.entries_for(&agent).contains(&other.to_owned()));
    assert!(fixture.server.entries().contains(&theirs));
}

#[tokio::test]
async fn an_agent_with_a_certificate_is_found_by_its_common_name() {
    let fixture = fixture();
    let by_certificate = request(AttestationMethod::X509pop);
    fixture.server.attest("x509pop", "aa", &["x509pop:subject:cn:edge-011"]).unwrap();
    let error = fixture.refused(&by_certificate).await;
    assert!(matches!(&error, RegistrarError::NotFound(why) if why.contains(COMMON_NAME)), "{error:?}");

    let agent = fixture.server.attest("x509pop", "bb", &[COMMON_NAME, "x509pop:serialnumber:01"]).unwrap();
    let prepared = fixture.register(&by_certificate).await;
    assert_eq!(prepared.parent_agent_id.to_string(), agent);
    assert!(prepared.join_token.is_none());
    assert_eq!(fixture.edges_of(&agent), [EDGE]);

    // The machine's certificate was renewed: another agent, to which a repetition moves the entry.
    fixture.server.expire(&agent, 1);
    let renewed = fixture.server.attest("x509pop", "cc", &[COMMON_NAME]).unwrap();
    let prepared = fixture.register(&by_certificate).await;
    assert_eq!(prepared.parent_agent_id.to_string(), renewed);
    assert!(fixture.edges_of(&agent).is_empty());
    assert_eq!(fixture.edges_of(&renewed), [EDGE]);
}

#[tokio::test]
async fn a_ban_is_lifted_when_the_satellite_is_let_in_again() {
    let fixture = fixture();
    let agent = fixture.server.attest("x509pop", "aa", &[COMMON_NAME]).unwrap();
    let by_certificate = request(AttestationMethod::X509pop);
    let prepared = fixture.register(&by_certificate).await;
    fixture.registrar.withdraw(&withdrawal(&prepared, true)).await.unwrap();
    assert!(fixture.is_banned(&agent));
    assert!(fixture.server.attest("x509pop", "aa", &[COMMON_NAME]).is_err());

    // As enabling asks: by the agent that was recorded. What the database refuses leaves the ban as it is.
    let again = RegistrationRequest { parent_agent_id: Some(id(&agent)), ..by_certificate };
    let refused = fixture.registrar.prepare(&again).await.unwrap();
    fixture.registrar.undo(&again, &refused).await;
    assert!(fixture.is_banned(&agent));
    assert_eq!(fixture.server.entries(), []);

    fixture.register(&again).await;
    fixture.server.attest("x509pop", "aa", &[COMMON_NAME]).unwrap();
    assert_eq!(fixture.edges_of(&agent), [EDGE]);
}

#[tokio::test]
async fn an_agent_with_a_name_of_its_operator_is_needed_by_what_is_below_that_name() {
    let fixture = fixture();
    let agent = fixture.server.attest("x509pop", "aa", &[COMMON_NAME, "x509pop:ca:fingerprint:00"]).unwrap();
    let prepared = fixture.register(&request(AttestationMethod::X509pop)).await;
    let (node, other) =
        ("spiffe://harbor-satellite.local/node/rack-1", "spiffe://harbor-satellite.local/other");
    let server = "spiffe://harbor-satellite.local/spire/server";
    fixture.server.add_entry(entry(node, server, &["x509pop:ca:fingerprint:00"])).unwrap();
    fixture.server.add_entry(entry(other, node, &["unix:uid:1"])).unwrap();
    fixture.registrar.withdraw(&withdrawal(&prepared, true)).await.unwrap();
    assert!(!fixture.is_banned(&agent));
    assert!(fixture.edges_of(&agent).is_empty());
    assert!(fixture.server.entries_for(&agent).contains(&other.to_owned()));
}

#[tokio::test]
async fn sshpop_needs_the_agent_to_be_named_and_there() {
    let fixture = fixture();
    let unnamed = request(AttestationMethod::Sshpop);
    let error = fixture.refused(&unnamed).await;
    assert!(matches!(&error, RegistrarError::Invalid(why) if why.contains("parent_agent_id")), "{error:?}");

    let agent = "spiffe://harbor-satellite.local/spire/agent/sshpop/aa";
    let named = RegistrationRequest { parent_agent_id: Some(id(agent)), ..unnamed.clone() };
    let error = fixture.refused(&named).await;
    assert!(matches!(&error, RegistrarError::NotFound(why) if why.contains("start the agent")), "{error:?}");
    fixture.server.attest("sshpop", "aa", &[]).unwrap();
    assert_eq!(fixture.register(&named).await.parent_agent_id, id(agent));
    assert_eq!(fixture.edges_of(agent), [EDGE]);

    let alias = RegistrationRequest { parent_agent_id: Some(id(ALIAS)), ..unnamed };
    let error = fixture.refused(&alias).await;
    assert!(matches!(&error, RegistrarError::Invalid(_)), "{error:?}");
    let other = RegistrationRequest { method: AttestationMethod::X509pop, ..named };
    let error = fixture.refused(&other).await;
    assert!(
        matches!(&error, RegistrarError::Invalid(why) if why.contains("attested by sshpop")),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_an_entry_is_refused_before_anything_is_made() {
    let fixture = fixture();
    for selectors in [vec![], vec!["docker"], vec!["unix:uid:1", ":"]] {
        let selectors = selectors.into_iter().map(str::to_owned).collect();
        let error = fixture.refused(&RegistrationRequest { selectors, ..by_token() }).await;
        assert!(matches!(&error, RegistrarError::Invalid(why) if why.contains("selector")), "{error:?}");
    }
    let elsewhere = "spiffe://harbor-satellite.local/agent/edge-02";
    let named = RegistrationRequest { parent_agent_id: Some(id(elsewhere)), ..by_token() };
    let error = fixture.refused(&named).await;
    assert!(matches!(&error, RegistrarError::Invalid(_)), "{error:?}");
    assert_eq!(fixture.server.entries(), []);
}

#[tokio::test]
async fn agents_are_told_with_their_selectors_and_without_the_banned() {
    let fixture = fixture();
    let prepared = fixture.register(&by_token()).await;
    let by_token = fixture.server.attest_with_token(token(&prepared)).unwrap();
    fixture.server.attest("x509pop", "aa", &["x509pop:serialnumber:01", COMMON_NAME]).unwrap();
    let agents = fixture.registrar.agents(None).await.unwrap();
    assert_eq!(agents.len(), 2);
    let found = fixture.registrar.agents(Some("x509pop")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].selectors, ["x509pop:serialnumber:01", COMMON_NAME]);
    assert_eq!(found[0].attestation_type, "x509pop");
    assert!(found[0].expires_at.is_some());

    fixture.registrar.withdraw(&withdrawal(&prepared, true)).await.unwrap();
    assert!(fixture.is_banned(&by_token));
    assert_eq!(fixture.registrar.agents(Some("join_token")).await.unwrap(), []);
}

#[tokio::test]
async fn the_trust_bundle_is_ours_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut authority = Authority::new(DOMAIN).unwrap();
    authority.rotate().unwrap();
    let server = SpireStandIn::start(folder.path(), &authority).unwrap();
    let registrar = SpireRegistrar::new(ServerClient::unix(server.socket()), domain());
    let pem = registrar.trust_bundle().await.unwrap();
    let bundle = TrustBundle::from_pem(domain(), &pem).unwrap();
    let certificates: Vec<Vec<u8>> = bundle.authorities.iter().map(|one| one.to_vec()).collect();
    assert_eq!(certificates, authority.certificates());

    let elsewhere = SpireRegistrar::new(ServerClient::unix(server.socket()), "elsewhere".parse().unwrap());
    let error = elsewhere.trust_bundle().await.unwrap_err();
    assert!(
        matches!(&error, RegistrarError::Unavailable(why) if why.contains("SPIFFE_TRUST_DOMAIN")),
        "{error:?}"
    );
}

#[tokio::test]
async fn connected_is_who_may_administrate() {
    let mut fixture = fixture();
    assert!(fixture.registrar.connected().await);
    fixture.server.fail("CountAgents", &[Code::PermissionDenied]);
    assert!(!fixture.registrar.connected().await);
    fixture.server.pause();
    assert!(!fixture.registrar.connected().await);
    let error = fixture.refused(&by_token()).await;
    assert!(matches!(&error, RegistrarError::Unavailable(why) if why.contains("server.sock")), "{error:?}");
    fixture.server.resume().unwrap();
    assert!(fixture.registrar.connected().await);
    fixture.server.hang("CountAgents");
    assert!(!fixture.registrar.connected().await);
}
