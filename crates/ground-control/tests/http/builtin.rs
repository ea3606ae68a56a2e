//! Satellites of the built-in authority, from the registration by an administrator to the end.

use fleet_protocol::attestation::renewal_message;
use identity::{Csr, KeyPair};
use serde_json::{Value, json};
use testbed::authority::IssuedSvid;

use crate::spiffe::{Peer, peer};
use crate::support::{Answer, As, Server};

pub(crate) async fn start() -> Server {
    let variables =
        [("SPIFFE_SERVER_ENABLED", "true"), ("WEB_LISTEN", "127.0.0.1:0"), ("SPIRE_SERVER_PORT", "0")];
    Server::start_in(tempfile::tempdir().unwrap(), &variables).await
}

async fn register(server: &Server, body: Value) -> Answer {
    server.admin("POST", "/api/satellites/register", Some(body)).await
}

fn text<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.body[name].as_str().unwrap()
}

/// Somebody who trusts what the registration said.
pub(crate) fn trusting(server: &Server, registered: &Answer, svid: Option<&IssuedSvid>) -> Peer {
    peer(server, text(registered, "trust_bundle"), svid)
}

pub(crate) async fn attest(server: &Server, registered: &Answer, key: &KeyPair) -> Answer {
    let body = json!({"join_token": text(registered, "join_token"), "csr": key.csr_pem(None).unwrap()});
    trusting(server, registered, None).ask("POST", "/satellites/attest", Some(body)).await
}

/// The SVID of an answer as something to be shown.
pub(crate) fn svid(answer: &Answer, key: &KeyPair) -> IssuedSvid {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let leaf = CertificateDer::from_pem_slice(text(answer, "svid").as_bytes()).unwrap();
    IssuedSvid {
        spiffe_id: String::new(),
        certificate: leaf.to_vec(),
        key: key.private_key().secret_der().to_vec(),
    }
}

/// A registered satellite with its SVID.
async fn satellite(server: &Server, registered: &Answer) -> (Peer, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let svid = svid(&attest(server, registered, &key).await.expect(200), &key);
    (trusting(server, registered, Some(&svid)), key)
}

pub(crate) async fn renew(server: &Server, registered: &Answer, old: &KeyPair, new: &KeyPair) -> Answer {
    let anybody = trusting(server, registered, None);
    let nonce = anybody.ask("GET", "/satellites/renew", None).await.expect(200);
    let (id, csr) = (text(registered, "spiffe_id"), new.csr_pem(None).unwrap());
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
    let message = renewal_message(id, text(&nonce, "nonce"), &encode(&Csr::from_pem(&csr).unwrap().der));
    let signature = encode(&old.sign(message.as_bytes()).unwrap());
    let body = json!({"csr": csr, "spiffe_id": id, "nonce": text(&nonce, "nonce"), "signature": signature});
    anybody.ask("POST", "/satellites/renew", Some(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_join_token_to_a_heartbeat_by_identity_alone() {
    let server = start().await;
    server.group("east", "library/nginx").await;
    let body =
        json!({"satellite_name": "edge-01", "region": "us-east", "groups": ["east"], "ttl_seconds": 60});
    let registered = register(&server, body).await.expect(200);
    let id = "spiffe://harbor-satellite.local/satellite/region/us-east/edge-01";
    assert_eq!(registered.body["spiffe_id"], id);
    assert_eq!(registered.body["parent_agent_id"], "spiffe://harbor-satellite.local/agent/edge-01");
    assert_eq!(registered.body["trust_domain"], "harbor-satellite.local");
    assert_eq!(registered.body["spire_server_address"], "127.0.0.1");
    assert_eq!(registered.body["spire_server_port"], server.running.agents.unwrap().port());
    let seen = server.admin("GET", "/api/satellites/edge-01", None).await.expect(200).body;
    assert_eq!((&seen["spiffe_id"], &seen["groups"]), (&json!(id), &json!(["east"])));
    assert_eq!((&seen["state"], &seen["config_name"]), (&json!("pending"), &json!("default")));

    let (edge, key) = satellite(&server, &registered).await;
    let state = edge.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200);
    assert_eq!(state.body["auth"]["username"], "robot$edge-01");
    edge.heartbeat().await.expect(200);
    // Its token is used up, for its own key, too, now that the SVID was.
    attest(&server, &registered, &key).await.expect(401);

    let new = KeyPair::generate().unwrap();
    let renewed = renew(&server, &registered, &key, &new).await.expect(200);
    // The answer may be lost: the old key is good until the new one is used.
    edge.heartbeat().await.expect(200);
    trusting(&server, &registered, Some(&svid(&renewed, &new))).heartbeat().await.expect(200);
    renew(&server, &registered, &key, &KeyPair::generate().unwrap()).await.expect(401);

    let status = server.admin("GET", "/api/spire/status", None).await.expect(200).body;
    assert_eq!((&status["provider"], &status["connected"]), (&json!("builtin"), &json!(true)));
    assert_eq!(server.admin("GET", "/api/spire/agents", None).await.expect(200).body, json!({"agents": []}));
    server.admin("GET", "/api/spire/agents?attestation_type=a%20b", None).await.expect(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_registration_takes_the_place_of_the_first_and_harms_nothing() {
    let server = start().await;
    let body = json!({"satellite_name": "edge-01"});
    let first = register(&server, body.clone()).await.expect(200);
    let second = register(&server, body.clone()).await.expect(200);
    assert_ne!(first.body["join_token"], second.body["join_token"]);
    let key = KeyPair::generate().unwrap();
    assert!(attest(&server, &first, &key).await.status.is_client_error(), "its token was voided");
    let (edge, _) = satellite(&server, &second).await;
    edge.heartbeat().await.expect(200);
    register(&server, body).await.expect(200);
    edge.heartbeat().await.expect(200);
    assert_eq!(server.admin("GET", "/api/satellites", None).await.body.as_array().unwrap().len(), 1);

    // Many at once end with one satellite and one token that is good.
    let at_once = (0..8).map(|_| register(&server, json!({"satellite_name": "edge-02"})));
    let answers = futures_util::future::join_all(at_once).await;
    let mut good = 0;
    for answer in answers {
        let answer = answer.expect(200);
        good += usize::from(attest(&server, &answer, &KeyPair::generate().unwrap()).await.status == 200);
    }
    assert_eq!(good, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_cannot_be_leaves_nothing_behind() {
    let server = start().await;
    register(&server, json!({"satellite_name": "edge-01", "region": "us-east"})).await.expect(200);
    let deny = |body: Value, status: u16| {
        let server = &server;
        async move { register(server, body).await.expect(status) }
    };
    deny(json!({"satellite_name": "edge-01", "region": "us-west"}), 409).await;
    deny(json!({"satellite_name": "edge-01"}), 409).await;
    for (body, status) in [
        (json!({"satellite_name": "edge-02", "groups": ["none"]}), 404),
        (json!({"satellite_name": "edge-02", "config_name": "none"}), 404),
        (json!({"satellite_name": "edge-02", "attestation_method": "x509pop"}), 400),
        (json!({"satellite_name": "edge-02", "attestation_method": "sshpop"}), 400),
        (json!({"satellite_name": "edge-02", "attestation_method": "tpm"}), 400),
        (json!({"satellite_name": "Edge", "region": "us-west"}), 400),
        (json!({"satellite_name": "a".repeat(64)}), 400),
        (json!({"satellite_name": "edge-02", "selectors": ["unix"]}), 400),
        (json!({"satellite_name": "edge-02", "ttl_seconds": 0}), 400),
    ] {
        deny(body, status).await;
    }
    server.admin("GET", "/api/satellites/edge-02", None).await.expect(404);
    let admin = server.person("adam", "admin").await;
    let body = Some(json!({"satellite_name": "edge-02"}));
    server.send(As::Session(&admin), "POST", "/api/satellites/register", body).await.expect(403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_issued_to_an_earlier_life_of_a_name_is_worth_nothing() {
    let server = start().await;
    let body = json!({"satellite_name": "edge-01"});
    let registered = register(&server, body.clone()).await.expect(200);
    let (edge, key) = satellite(&server, &registered).await;
    edge.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200);
    let unused = register(&server, body.clone()).await.expect(200);

    server.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    edge.heartbeat().await.expect(403);
    let new = KeyPair::generate().unwrap();
    renew(&server, &registered, &key, &new).await.expect(403);
    assert!(attest(&server, &unused, &new).await.status.is_client_error(), "a token outlives the revocation");

    // What an administrator gets to let it in again is what a registration gives.
    let enabled = server.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(200);
    assert_eq!(enabled.body["spiffe_id"], registered.body["spiffe_id"]);
    edge.heartbeat().await.expect(401);
    renew(&server, &registered, &key, &new).await.expect(401);
    let (again, key) = satellite(&server, &enabled).await;
    again.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200);
    again.heartbeat().await.expect(200);

    server.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    for peer in [&edge, &again] {
        peer.heartbeat().await.expect(401);
        peer.ask("GET", "/satellites/spiffe-ztr", None).await.expect(401);
    }
    renew(&server, &enabled, &key, &new).await.expect(401);
    register(&server, body).await.expect(200);
    again.heartbeat().await.expect(401);
}
