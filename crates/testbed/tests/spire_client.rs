//! The client of SPIRE's server against the strict stand-in.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::time::{Duration, Instant};

use identity::{IdentityKeeper, SpiffeId, Svid, TrustBundle, TrustDomain};
use secrecy::ExposeSecret as _;
use spire::server::{AgentFilter, EntryFilter};
use spire::types::{Entry, MatchBehavior, Selector, SelectorMatch};
use spire::{ClientError, ServerClient};
use tempfile::TempDir;
use testbed::authority::{Authority, IssuedSvid};
use testbed::spire_stand_in::SpireStandIn;
use tonic::Code;

const DOMAIN: &str = "harbor-satellite.local";
const ADMIN: &str = "spiffe://harbor-satellite.local/gc/main";
/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

struct Fixture {
    server: SpireStandIn,
    client: ServerClient,
    authority: Authority,
    _folder: TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(DOMAIN).unwrap();
    let server = SpireStandIn::start(folder.path(), &authority).unwrap();
    let client = ServerClient::unix(server.socket());
    Fixture { server, client, authority, _folder: folder }
}

fn id(path: &str) -> SpiffeId {
    format!("spiffe://{DOMAIN}{path}").parse().unwrap()
}

fn entry(path: &str, parent: &str, selectors: &[&str]) -> Entry {
    Entry {
        spiffe_id: Some((&id(path)).into()),
        parent_id: Some((&id(parent)).into()),
        selectors: selectors.iter().map(|text| Selector::parse(text).unwrap()).collect(),
        ..Entry::default()
    }
}

fn of(path: &str) -> EntryFilter {
    EntryFilter { by_spiffe_id: Some((&id(path)).into()), ..EntryFilter::default() }
}

#[tokio::test]
async fn a_join_token_comes_with_the_alias_of_its_agent() {
    let fixture = fixture();
    let Fixture { server, client, .. } = &fixture;
    let token = client.create_join_token(Duration::from_secs(600), &id("/agent/edge-01")).await.unwrap();
    let aliases = client.entries(of("/agent/edge-01")).await.unwrap();
    assert_eq!(aliases.len(), 1);
    let agent = server.attest_with_token(token.value.expose_secret()).unwrap();
    assert_eq!(aliases[0].parent_id.as_ref().unwrap().to_uri(), agent);
    assert_eq!(server.entries_for(&agent), [id("/agent/edge-01").to_string()]);
    assert!(server.attest_with_token(token.value.expose_secret()).is_err(), "a token is good once");
    assert!(!format!("{token:?}").contains(token.value.expose_secret()));

    let known = client.agent(&agent.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((known.attestation_type.as_str(), known.banned), ("join_token", false));
    assert_eq!(client.count_agents().await.unwrap(), 1);
}

#[tokio::test]
async fn an_entry_that_is_there_is_not_made_again() {
    let fixture = fixture();
    let Fixture { server, client, .. } = &fixture;
    let first = client.create_entry(entry("/a", "/agent/a", &["unix:uid:0", "unix:gid:0"])).await.unwrap();
    let again = client.create_entry(entry("/a", "/agent/a", &["unix:gid:0", "unix:uid:0"])).await.unwrap();
    assert!(!first.existed && again.existed);
    assert_eq!(first.entry.id, again.entry.id);
    let other = client.create_entry(entry("/a", "/agent/b", &["unix:uid:0"])).await.unwrap();
    assert!(!other.existed);
    assert_eq!(server.entries().len(), 2);

    let ids = [first.entry.id.clone(), "never-heard-of".to_owned()];
    client.delete_entries(&ids).await.unwrap();
    client.delete_entries(&ids).await.unwrap();
    assert_eq!(client.entries(of("/a")).await.unwrap(), [other.entry]);
}

#[tokio::test]
async fn what_can_never_be_right_is_told_as_such() {
    let fixture = fixture();
    let Fixture { client, .. } = &fixture;
    let foreign: SpiffeId = "spiffe://elsewhere/agent/a".parse().unwrap();
    let token = client.create_join_token(Duration::ZERO, &id("/agent/a")).await.unwrap_err();
    let alias = client.create_join_token(Duration::from_secs(1), &foreign).await.unwrap_err();
    let reserved =
        client.create_entry(entry("/spire/server", "/agent/a", &["unix:uid:0"])).await.unwrap_err();
    let bare = client.create_entry(entry("/a", "/agent/a", &[])).await.unwrap_err();
    let agent = client.ban_agent(&id("/agent/a")).await.unwrap_err();
    for (error, words) in [
        (token, "ttl is required"),
        (alias, "is not a member of trust domain"),
        (reserved, "reserved namespace"),
        (bare, "selector list is empty"),
        (agent, "not in the agent namespace"),
    ] {
        assert!(matches!(error, ClientError::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let fixture = fixture();
    let Fixture { server, client, .. } = &fixture;
    for at in 0..450 {
        server.add_entry(entry("/a", "/agent/a", &[&format!("unix:uid:{at}")])).unwrap();
        server.attest("x509pop", &format!("{at:040x}"), &[&format!("x509pop:subject:cn:edge-{at}")]).unwrap();
    }
    let all = client.entries(of("/a")).await.unwrap();
    assert_eq!(all.len(), 450);
    let agents = client.agents(None).await.unwrap();
    assert_eq!(agents.len(), 450);
    let ids: Vec<String> = all.into_iter().map(|entry| entry.id).collect();
    client.delete_entries(&ids).await.unwrap();
    assert!(server.entries().is_empty());
}

#[tokio::test]
async fn agents_are_found_by_what_they_showed_and_banned_and_forgotten() {
    let fixture = fixture();
    let Fixture { server, client, .. } = &fixture;
    let cn = "x509pop:subject:cn:edge-01";
    let agent = server.attest("x509pop", "aa", &[cn, "x509pop:serialnumber:01"]).unwrap();
    server.attest("x509pop", "bb", &["x509pop:subject:cn:edge-02"]).unwrap();
    let filter = AgentFilter {
        by_selector_match: Some(SelectorMatch {
            selectors: vec![Selector::parse(cn).unwrap()],
            r#match: MatchBehavior::Superset.into(),
        }),
        ..AgentFilter::default()
    };
    let found = client.agents(Some(filter)).await.unwrap();
    assert_eq!(found.len(), 1);
    let name: SpiffeId = agent.parse().unwrap();
    assert_eq!(found[0].id.as_ref().unwrap().to_id().unwrap(), name);

    assert!(client.ban_agent(&name).await.unwrap());
    assert!(client.ban_agent(&name).await.unwrap(), "a second ban changes nothing");
    assert!(server.attest("x509pop", "aa", &[cn]).is_err());
    let banned = AgentFilter { by_banned: Some(true), ..AgentFilter::default() };
    assert_eq!(client.agents(Some(banned)).await.unwrap().len(), 1);
    assert!(client.delete_agent(&name).await.unwrap());
    assert!(!client.delete_agent(&name).await.unwrap());
    assert!(!client.ban_agent(&name).await.unwrap());
    assert_eq!(client.agent(&name).await.unwrap(), None);
    server.attest("x509pop", "aa", &[cn]).unwrap();
}

#[tokio::test]
async fn the_bundle_is_that_of_the_trust_domain() {
    let fixture = fixture();
    let Fixture { client, authority, .. } = &fixture;
    let bundle = client.bundle().await.unwrap();
    assert_eq!(bundle.trust_domain, DOMAIN);
    let authorities: Vec<Vec<u8>> = bundle.x509_authorities.into_iter().map(|one| one.asn1).collect();
    assert_eq!(authorities, authority.certificates());
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_and_a_lasting_one_is_told() {
    let fixture = fixture();
    let Fixture { server, client, .. } = &fixture;
    server.fail("CountAgents", &[Code::Unavailable, Code::Unavailable]);
    assert_eq!(client.count_agents().await.unwrap(), 0);
    assert_eq!(server.calls().len(), 3);

    server.fail("CountAgents", &[Code::Unavailable; 3]);
    let error = client.count_agents().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { call: "CountAgents", .. }), "{error:?}");
    assert!(error.to_string().contains("server.sock"), "{error}");

    let before = server.calls().len();
    server.fail("CountAgents", &[Code::PermissionDenied, Code::Internal]);
    assert!(matches!(client.count_agents().await.unwrap_err(), ClientError::Denied { .. }));
    let error = client.count_agents().await.unwrap_err();
    assert!(matches!(error, ClientError::Failed { code: Code::Internal, .. }));
    assert_eq!(server.calls().len() - before, 2, "what another try does not mend is not tried again");
}

#[tokio::test]
async fn a_server_that_keeps_silent_costs_no_more_than_the_limit() {
    let fixture = fixture();
    let Fixture { server, client, .. } = &fixture;
    let client = client.clone().with_call_timeout(Duration::from_millis(200));
    server.hang("CountAgents");
    let begun = Instant::now();
    let error = client.count_agents().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(client.entries(of("/a")).await.unwrap(), []);
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let mut fixture = fixture();
    let Fixture { server, client, .. } = &mut fixture;
    client.count_agents().await.unwrap();
    server.pause();
    let error = client.count_agents().await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("No such file"), "the reason is told: {error}");
    server.resume().unwrap();
    client.count_agents().await.unwrap();
    server.pause();
    server.resume().unwrap();
    client.count_agents().await.unwrap();
}

fn keep(keeper: &IdentityKeeper, authority: &Authority, issued: &IssuedSvid) {
    let svid = Svid::from_pem(&issued.certificate_pem(), &issued.key_pem()).unwrap();
    let domain: TrustDomain = authority.trust_domain().parse().unwrap();
    keeper.set(svid, TrustBundle::from_pem(domain, &authority.bundle_pem()).unwrap());
}

/// A client over TCP that shows the SVID that its keeper holds.
fn over_tcp(port: u16) -> (ServerClient, IdentityKeeper) {
    let (keeper, own) = identity::identity();
    let client = ServerClient::tcp("127.0.0.1", port, own, &DOMAIN.parse().unwrap()).unwrap();
    (client.with_call_timeout(PATIENCE), keeper)
}

#[tokio::test]
async fn over_tcp_our_own_svid_makes_the_administrator() {
    let mut fixture = fixture();
    let Fixture { server, authority, .. } = &mut fixture;
    let side = server.listen(authority, &[ADMIN]).await.unwrap();
    let (client, keeper) = over_tcp(side.address.port());
    let error = client.count_agents().await.unwrap_err();
    assert!(matches!(&error, ClientError::NoIdentity { .. }), "no identity, no connection: {error:?}");

    keep(&keeper, authority, &authority.issue("/gc/main").unwrap());
    assert_eq!(client.count_agents().await.unwrap(), 0);
    client.create_join_token(Duration::from_secs(60), &id("/agent/edge-01")).await.unwrap();
    assert_eq!(server.handshakes(), 1, "one connection serves all calls");

    let (stranger, keeper) = over_tcp(side.address.port());
    keep(&keeper, authority, &authority.issue("/satellite/region/default/edge-01").unwrap());
    let error = stranger.count_agents().await.unwrap_err();
    assert!(matches!(&error, ClientError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("admin_ids"), "{error}");
    stranger.bundle().await.unwrap();
}

#[tokio::test]
async fn a_connection_is_made_anew_when_the_svid_changes_and_never_without_one() {
    let mut fixture = fixture();
    let Fixture { server, authority, .. } = &mut fixture;
    let side = server.listen(authority, &[ADMIN]).await.unwrap();
    let (client, keeper) = over_tcp(side.address.port());
    keep(&keeper, authority, &authority.issue("/gc/main").unwrap());
    client.count_agents().await.unwrap();

    keep(&keeper, authority, &authority.issue("/gc/main").unwrap());
    client.count_agents().await.unwrap();
    client.count_agents().await.unwrap();
    assert_eq!(server.handshakes(), 2);

    authority.rotate().unwrap();
    keep(&keeper, authority, &authority.issue("/gc/main").unwrap());
    side.renew(authority, "/spire/server").unwrap();
    authority.forget_old();
    keep(&keeper, authority, &authority.issue("/gc/main").unwrap());
    client.count_agents().await.unwrap();
    assert_eq!(server.handshakes(), 3);

    keeper.withdraw();
    let error = client.count_agents().await.unwrap_err();
    assert!(matches!(&error, ClientError::NoIdentity { .. }), "{error:?}");
    assert_eq!(server.handshakes(), 3);
}

#[tokio::test]
async fn only_the_server_of_our_trust_domain_is_spoken_to() {
    let mut fixture = fixture();
    let Fixture { server, authority, .. } = &mut fixture;
    let side = server.listen(authority, &[ADMIN]).await.unwrap();
    let (client, keeper) = over_tcp(side.address.port());
    keep(&keeper, authority, &authority.issue("/gc/main").unwrap());

    side.renew(authority, "/agent/edge-01").unwrap();
    let another = client.count_agents().await.unwrap_err();
    let foreign = Authority::new("elsewhere.example").unwrap();
    side.renew(&foreign, "/spire/server").unwrap();
    let elsewhere = client.count_agents().await.unwrap_err();
    let impostor = Authority::new(DOMAIN).unwrap();
    side.renew(&impostor, "/spire/server").unwrap();
    let false_server = client.count_agents().await.unwrap_err();
    for error in [another, elsewhere, false_server] {
        assert!(matches!(&error, ClientError::Unreachable { .. }), "{error:?}");
    }
    assert!(server.calls().is_empty());
    side.renew(authority, "/spire/server").unwrap();
    client.count_agents().await.unwrap();
}
