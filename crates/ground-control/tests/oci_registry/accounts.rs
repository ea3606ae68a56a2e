//! Who is given the pull account, and what happens when its password is another one.

use std::time::Duration;

use ground_control::server::{self, Republished, StartError};
use serde_json::{Value, json};
use testbed::docker_registry::PASSWORDS;

use crate::spiffe::{Fleet, Peer};
use crate::support::As;
use crate::{Elsewhere, accounts};

pub(crate) async fn fleet(elsewhere: &Elsewhere) -> Fleet {
    let variables = elsewhere.variables();
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Fleet::start(&variables).await
}

fn account(user: &str, password: &str, elsewhere: &Elsewhere) -> Value {
    json!({"url": elsewhere.registry.url(), "username": user, "password": password})
}

/// Sends heartbeats until the answer is this one: what was read of a file is trusted for a moment.
async fn answers(peer: &Peer, expected: &Value) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let answer = peer.heartbeat().await.expect(200).body;
        if answer["events"] == expected["events"] {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pull_account_is_given_to_identities_and_its_rotation_is_announced() {
    let elsewhere = Elsewhere::start(true).await;
    let fleet = fleet(&elsewhere).await;
    let server = &fleet.server;
    let edge = fleet.peer(Some(&fleet.svid("edge-01")));
    let refresh = json!({"events": ["refresh_credentials"]});

    let state = edge.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200).body;
    assert_eq!(state["auth"], account("pull", PASSWORDS[1].text, &elsewhere));
    let document = format!("{}/satellite/satellite-state/edge-01/state:latest", elsewhere.registry.url());
    assert_eq!(state["state"], document);
    answers(&edge, &json!({})).await;

    // The documents are there, for who has the account, and name that registry.
    server.published().await;
    let pull = elsewhere.registry.registry_as("pull", PASSWORDS[1]);
    for repository in ["satellite/satellite-state/edge-01/state", "satellite/config-state/default/state"] {
        assert!(pull.verify(repository, "latest").await.unwrap().is_some(), "{repository}");
    }
    server.group("east", "library/nginx").await;
    let group = server.admin("GET", "/api/groups/east", None).await.expect(200).body;
    assert_eq!(group["registry_url"], elsewhere.registry.url());

    // Another password in the file: told by the next heartbeat, given on request, and then all is well again.
    elsewhere.registry.set_accounts(&accounts(PASSWORDS[0], PASSWORDS[2])).unwrap();
    elsewhere.write("pull", PASSWORDS[2].text);
    answers(&edge, &refresh).await;
    let fresh = edge.ask("POST", "/satellites/credentials", None).await.expect(200).body;
    assert_eq!(fresh["auth"], account("pull", PASSWORDS[2].text, &elsewhere));
    answers(&edge, &json!({})).await;

    // The file is gone, or is the other account's by mistake: nothing is handed out, and nobody is alarmed.
    std::fs::remove_file(elsewhere.file("pull")).unwrap();
    for _ in 0..2 {
        for (method, path) in [("POST", "/satellites/credentials"), ("GET", "/satellites/spiffe-ztr")] {
            let refused = edge.ask(method, path, None).await.expect(503);
            assert_eq!(refused.header("retry-after"), "1");
            assert!(!refused.body.to_string().contains(PASSWORDS[0].text), "{refused:?}");
        }
        edge.heartbeat().await.expect(200);
        elsewhere.write("pull", PASSWORDS[0].text);
    }
    elsewhere.write("pull", PASSWORDS[2].text);
    edge.ask("POST", "/satellites/credentials", None).await.expect(200);
}

/// What all satellites have proves nothing about who one is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_password_opens_nothing_here_and_tokens_are_refused_with_the_reason() {
    let elsewhere = Elsewhere::start(true).await;
    let fleet = fleet(&elsewhere).await;
    let server = &fleet.server;
    let edge = fleet.peer(Some(&fleet.svid("edge-01")));
    edge.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200);
    for user in ["robot$edge-01", "robot$edge-02", "pull", "push"] {
        for password in [PASSWORDS[0].text, PASSWORDS[1].text] {
            for path in ["/satellites/sync", "/satellites/credentials"] {
                server.send(As::Basic(user, password), "POST", path, Some(json!({}))).await.expect(401);
            }
        }
    }

    let token = "0123456789abcdef0123456789abcdef";
    let new = json!({"name": "edge-03", "groups": [], "config_name": ""});
    let ztr = json!({"token": token, "nonce": token});
    let refusals = [
        server.admin("POST", "/api/satellites", Some(new)).await,
        server.send(As::Nobody, "POST", "/satellites/ztr", Some(ztr)).await,
        server.send(As::Nobody, "GET", &format!("/satellites/ztr/{token}"), None).await,
    ];
    for refused in refusals {
        let message = refused.expect(409).body["message"].to_string();
        assert!(message.contains("SVID") && message.contains("/api/satellites/register"), "{message}");
    }
    server.admin("GET", "/api/satellites/edge-03", None).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_holds_here_and_what_it_leaves_open_is_said() {
    let elsewhere = Elsewhere::start(true).await;
    let fleet = fleet(&elsewhere).await;
    let server = &fleet.server;
    let edge = fleet.peer(Some(&fleet.svid("edge-01")));
    edge.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200);
    let ready = server.send(As::Nobody, "GET", "/health/ready", None).await.expect(200).body;
    assert_eq!(ready["registry"]["backend"], "oci");
    assert_eq!(ready["registry"]["revocation"], "ground-control-only");
    assert_eq!(ready["registry"]["url"], elsewhere.registry.url());

    let revoked = server.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    assert!(revoked.body["message"].as_str().unwrap().contains("Ground Control only"), "{:?}", revoked.body);
    edge.heartbeat().await.expect(403);
    edge.ask("POST", "/satellites/credentials", None).await.expect(403);
    edge.ask("GET", "/satellites/spiffe-ztr", None).await.expect(403);
    // That is the meaning of the words.
    let pull = elsewhere.registry.registry_as("pull", PASSWORDS[1]);
    assert_eq!(pull.ping().await.unwrap(), 200);
    // Nobody here makes identities, so that there is nothing to hand over: its SVID is enough again.
    let enabled = server.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(200).body;
    assert_eq!(enabled, json!({"token": ""}));
    edge.heartbeat().await.expect(200);
    let deleted = server.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    assert!(deleted.body["message"].as_str().unwrap().contains("Ground Control only"));
}

/// No second registry in the place of the one that there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_builtin_registry_is_there() {
    let elsewhere = Elsewhere::start(true).await;
    let fleet = fleet(&elsewhere).await;
    let anybody = fleet.peer(None);
    for path in ["/v2/", "/v2/satellite/config-state/default/state/manifests/latest", "/service/token"] {
        assert_eq!(fleet.server.admin("GET", path, None).await.expect(404).body["code"], 404);
        anybody.ask("GET", path, None).await.expect(404);
    }
    assert!(fleet.server.dir.path().join("ground-control.db").is_file());
    assert!(!fleet.server.dir.path().join("registry").try_exists().unwrap());
}

/// People's work goes on: what they change is taken, and brought there when there is somebody to take it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_refuses_us_stops_nobody_here() {
    let elsewhere = Elsewhere::start(true).await;
    elsewhere.registry.set_accounts(&accounts(PASSWORDS[2], PASSWORDS[1])).unwrap();
    let fleet = fleet(&elsewhere).await;
    let server = &fleet.server;
    server.group("east", "library/nginx").await;
    let mut publisher = server.running.state.publisher.clone();
    let failed = publisher.wait_for(|status| status.last_error.is_some()).await.unwrap();
    let reason = failed.last_error.unwrap();
    assert!(reason.contains("401") && reason.contains(&elsewhere.registry.url()), "{reason}");
    assert!(!reason.contains(PASSWORDS[0].text), "{reason}");
    let ready = server.send(As::Nobody, "GET", "/health/ready", None).await.expect(200).body;
    assert_eq!((&ready["status"], &ready["registry"]["ok"]), (&json!("ready"), &json!(false)));
    // The password is corrected in its file, and that is all.
    elsewhere.write("push", PASSWORDS[2].text);
    server.published().await;
    let registry = elsewhere.registry.registry_as("push", PASSWORDS[2]);
    assert!(registry.digest("satellite/group-state/east/state", "latest").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_one_password_for_both_or_without_one_is_refused() {
    crate::support::provider();
    let (elsewhere, dir) = (Elsewhere::start(true).await, tempfile::tempdir().unwrap());
    let config = elsewhere.config(&dir);
    elsewhere.write("pull", PASSWORDS[0].text);
    let error = server::start(&config).await.unwrap_err();
    assert!(matches!(error, StartError::SamePassword), "{error}");
    std::fs::remove_file(elsewhere.file("push")).unwrap();
    let error = server::start(&config).await.unwrap_err().to_string();
    assert!(error.starts_with("OCI_PUSH_PASSWORD_FILE: cannot read"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_registry_lost_is_there_again_after_a_republication() {
    let elsewhere = Elsewhere::start(true).await;
    let fleet = fleet(&elsewhere).await;
    fleet.server.published().await;
    let dir = fleet.server.stop().await;
    let (registry, repository) =
        (elsewhere.registry.registry_as("push", PASSWORDS[0]), "satellite/config-state/default/state");
    let before = registry.digest(repository, "latest").await.unwrap().unwrap();
    let other = testbed::image::random(&dir.path().join("other"), 1, &[10]).unwrap();
    registry.push_graph(repository, Some("latest"), &other.layout, &other.root).await.unwrap();
    let done = server::republish(&elsewhere.config(&dir)).await.unwrap();
    let Republished::Here(status) = done else { panic!("{done:?}") };
    assert_eq!((status.published, status.failures), (1, 0), "{status:?}");
    assert_eq!(registry.digest(repository, "latest").await.unwrap(), Some(before));
}
