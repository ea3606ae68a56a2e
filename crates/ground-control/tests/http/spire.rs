//! Registrations with a SPIRE server beside us: all or nothing, and withdrawn in the end however long that takes.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::authority::Authority;
use testbed::spire_stand_in::SpireStandIn;
use tonic::Code;

use crate::spiffe::{Fleet, TRUST_DOMAIN};
use crate::support::{Answer, As};

struct World {
    spire: SpireStandIn,
    fleet: Fleet,
    _folder: TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spire = SpireStandIn::start(folder.path(), &Authority::new(TRUST_DOMAIN).unwrap()).unwrap();
        let socket = format!("unix://{}", spire.socket().display());
        let told = [
            ("SPIRE_SERVER_SOCKET", socket.as_str()),
            ("SPIRE_SERVER_ADDRESS", "spire.example.com"),
            ("SPIRE_SERVER_PORT", "9081"),
        ];
        Self { fleet: Fleet::start(&told).await, spire, _folder: folder }
    }

    async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.fleet.server.admin(method, path, body).await
    }

    async fn register(&self, more: Value) -> Answer {
        let mut body = json!({"satellite_name": "edge-01", "region": "eu", "selectors": ["unix:uid:0"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.admin("POST", "/api/satellites/register", Some(body)).await
    }

    fn edges_of(&self, agent: &str) -> Vec<String> {
        let all = self.spire.entries_for(agent);
        all.into_iter().filter(|id| id.contains("/satellite/")).collect()
    }

    fn is_banned(&self, agent: &str) -> bool {
        self.spire.agents().iter().any(|one| one.banned && one.id.as_ref().unwrap().to_uri() == agent)
    }

    /// Waits until the server has an entry.
    async fn registered(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while self.spire.entries().is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "nothing is made");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the server has no entry left. Where it keeps silent a call is given up after half a minute: three tries of
    /// ten seconds.
    async fn withdrawn(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        while !self.spire.entries().is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", self.spire.entries());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn text<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.body[name].as_str().unwrap()
}

const EDGE: &str = "spiffe://harbor-satellite.local/satellite/region/eu/edge-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_makes_entry_token_robot_and_config() {
    let world = World::start().await;
    let registered = world.register(json!({})).await.expect(200);
    assert_eq!(text(&registered, "spiffe_id"), EDGE);
    assert_eq!(registered.body["spire_server_address"], "spire.example.com");
    assert_eq!(registered.body["spire_server_port"], 9081);
    assert!(text(&registered, "trust_bundle").contains("BEGIN CERTIFICATE"));
    let agent = world.spire.attest_with_token(text(&registered, "join_token")).unwrap();
    assert_eq!(world.edges_of(&agent), [EDGE]);
    let agents = world.admin("GET", "/api/spire/agents?attestation_type=join_token", None).await.expect(200);
    assert_eq!(agents.body["agents"][0]["spiffe_id"], agent);
    let none = world.admin("GET", "/api/spire/agents?attestation_type=x509pop", None).await.expect(200);
    assert_eq!(none.body, json!({"agents": []}));
    assert_eq!(world.admin("GET", "/api/spire/status", None).await.body["connected"], true);

    let svid = world.fleet.authority.issue("/satellite/region/eu/edge-01").unwrap();
    let edge = world.fleet.peer(Some(&svid));
    edge.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200);
    edge.heartbeat().await.expect(200);

    world.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    edge.heartbeat().await.expect(403);
    world.withdrawn().await;
    let enabled = world.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(200);
    assert_ne!(enabled.body["join_token"], registered.body["join_token"]);
    let agent = world.spire.attest_with_token(text(&enabled, "join_token")).unwrap();
    assert_eq!(world.edges_of(&agent), [EDGE]);
    edge.heartbeat().await.expect(200);

    world.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    world.withdrawn().await;
    edge.heartbeat().await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_attest_by_what_they_have_are_found_or_named() {
    let world = World::start().await;
    let x509 = json!({"attestation_method": "x509pop"});
    world.register(x509.clone()).await.expect(404);
    let agent = world.spire.attest("x509pop", "certificate", &["x509pop:subject:cn:edge-01"]).unwrap();
    let registered = world.register(x509).await.expect(200);
    assert_eq!(
        (text(&registered, "parent_agent_id"), &registered.body["join_token"]),
        (agent.as_str(), &Value::Null)
    );
    assert_eq!(world.edges_of(&agent), [EDGE]);

    let ssh = world.spire.attest("sshpop", "host-certificate", &[]).unwrap();
    let second = json!({"satellite_name": "edge-02", "attestation_method": "sshpop"});
    world.register(second.clone()).await.expect(400);
    let mut named = second;
    named["parent_agent_id"] = json!(ssh);
    world.register(named.clone()).await.expect(200);
    named["satellite_name"] = json!("edge-03");
    world.register(named).await.expect(200);

    // An agent that serves another satellite, too, is not banned with one of them.
    world.admin("POST", "/api/satellites/edge-02/revoke", None).await.expect(200);
    world.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !world.is_banned(&agent) || world.spire.entries().len() > 1 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", world.spire.entries());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!world.is_banned(&ssh));
    assert_eq!(world.edges_of(&ssh), ["spiffe://harbor-satellite.local/satellite/region/eu/edge-03"]);
    // A banned agent does not come back by itself.
    let again = world.spire.attest("x509pop", "certificate", &["x509pop:subject:cn:edge-01"]);
    assert!(again.is_err(), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_half_way_leaves_nothing_behind() {
    let mut world = World::start().await;
    world.register(json!({"groups": ["none"]})).await.expect(404);
    assert!(world.spire.calls().is_empty(), "nobody was asked for what the database refuses");
    for call in ["BatchCreateEntry", "CreateJoinToken", "GetBundle"] {
        world.spire.fail(call, &[Code::Internal]);
        world.register(json!({})).await.expect(503);
        assert!(world.spire.entries().is_empty(), "{call}: {:?}", world.spire.entries());
        world.admin("GET", "/api/satellites/edge-01", None).await.expect(404);
    }
    world.spire.pause();
    world.register(json!({})).await.expect(503);
    world.admin("GET", "/api/spire/agents", None).await.expect(503);
    assert_eq!(world.admin("GET", "/api/spire/status", None).await.expect(200).body["connected"], false);
    world.spire.resume().unwrap();
    world.register(json!({})).await.expect(200);
    world.register(json!({"region": "us"})).await.expect(409);
    assert_eq!(world.spire.entries().len(), 2, "the workload and its agent's alias");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_does_not_wait_for_the_server_that_it_ends_at() {
    let mut world = World::start().await;
    world.register(json!({})).await.expect(200);
    world.spire.pause();
    world.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    let svid = world.fleet.authority.issue("/satellite/region/eu/edge-01").unwrap();
    world.fleet.peer(Some(&svid)).heartbeat().await.expect(403);
    // It cannot be let in while nobody makes identities, and is no further than before.
    world.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(503);
    world.fleet.peer(Some(&svid)).heartbeat().await.expect(403);
    world.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    // The name comes back without a registration: the earlier device must not be taken for it for ever.
    world.fleet.server.satellite("edge-01", &[]).await;
    world.spire.resume().unwrap();
    world.withdrawn().await;
    let health = world.fleet.server.send(As::Nobody, "GET", "/health", None).await;
    health.expect(200);
}

/// Half a registration helps nobody: whoever asked may be gone before the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_ends_whoever_waits_for_it() {
    let world = World::start().await;
    world.spire.hang("GetBundle");
    // Whoever asked goes as soon as the identity is made.
    tokio::select! {
        answer = world.register(json!({})) => panic!("an answer without the bundle: {answer:?}"),
        () = world.registered() => {}
    }
    // Its maker is given up, and what was made is undone.
    world.withdrawn().await;
    world.admin("GET", "/api/satellites/edge-01", None).await.expect(404);
}
