//! One-time tokens, nonces and heartbeats.

use serde_json::{Value, json};

use crate::support::{Answer, As, Server};

const NONCE: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

async fn ztr(server: &Server, token: &str, nonce: &str) -> Answer {
    let body = json!({"token": token, "nonce": nonce});
    server.send(As::Nobody, "POST", "/satellites/ztr", Some(body)).await
}

async fn ztr_by_path(server: &Server, token: &str) -> Answer {
    server.send(As::Nobody, "GET", &format!("/satellites/ztr/{token}"), None).await
}

async fn sync(server: &Server, name: &str, secret: &str, body: Value) -> Answer {
    server.send(As::Basic(name, secret), "POST", "/satellites/sync", Some(body)).await
}

fn secret(answer: &Answer) -> String {
    answer.body["auth"]["password"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_is_a_state_config() {
    let server = Server::start().await;
    let token = server.satellite("edge-01", &[]).await;
    assert_eq!(token.len(), 32);
    let answer = ztr(&server, &token, NONCE).await.expect(200);
    let url = &server.running.public_url;
    assert_eq!(answer.body["auth"]["url"], json!(url));
    assert_eq!(answer.body["auth"]["username"], "robot$edge-01");
    assert!(secret(&answer).len() >= 32);
    assert_eq!(answer.body["state"], json!(format!("{url}/satellite/satellite-state/edge-01/state:latest")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nonce_is_answered_again_until_the_first_heartbeat_and_another_never() {
    let server = Server::start().await;
    let token = server.satellite("edge-01", &[]).await;
    let first = secret(&ztr(&server, &token, NONCE).await.expect(200));
    ztr(&server, &token, OTHER).await.expect(401);
    ztr_by_path(&server, &token).await.expect(401);
    let second = secret(&ztr(&server, &token, NONCE).await.expect(200));
    assert_ne!(first, second);
    // Either answer may have been the one that arrived, until the newer is used.
    sync(&server, "robot$edge-01", &second, json!({})).await.expect(200);
    sync(&server, "robot$edge-01", &first, json!({})).await.expect(401);
    ztr(&server, &token, NONCE).await.expect(401);
    sync(&server, "robot$edge-01", &second, json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_form_in_the_path_is_answered_again_to_the_same_address() {
    let server = Server::start().await;
    let token = server.satellite("edge-01", &[]).await;
    let first = secret(&ztr_by_path(&server, &token).await.expect(200));
    let second = secret(&ztr_by_path(&server, &token).await.expect(200));
    // It may have been another device behind the same address: only the last one answered is served.
    sync(&server, "robot$edge-01", &first, json!({})).await.expect(401);
    ztr(&server, &token, NONCE).await.expect(401);
    sync(&server, "robot$edge-01", &second, json!({})).await.expect(200);
    ztr_by_path(&server, &token).await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_token_is_400() {
    let server = Server::start().await;
    let token = server.satellite("edge-01", &[]).await;
    for bad in ["00000000000000000000000000000000", "short", &token[..31], "zz000000000000000000000000000000"]
    {
        ztr(&server, bad, NONCE).await.expect(400);
        ztr_by_path(&server, bad).await.expect(400);
    }
    for nonce in ["", "short", "zz000000000000000000000000000000"] {
        let answer = ztr(&server, &token, nonce).await.expect(400);
        assert!(answer.body["message"].as_str().unwrap().contains("nonce"), "{answer:?}");
    }
    let body = json!({"token": token});
    server.send(As::Nobody, "POST", "/satellites/ztr", Some(body)).await.expect(400);
    ztr(&server, &token, NONCE).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_claims_give_one_device_the_token() {
    let server = Server::start().await;
    let token = server.satellite("edge-01", &[]).await;
    let nonces: Vec<String> = (0..8).map(|n| format!("{n:032x}")).collect();
    let claims = nonces.iter().map(|nonce| ztr(&server, &token, nonce));
    let answers = futures_util::future::join_all(claims).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401, 401, 401, 401, 401, 401]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_belongs_to_its_credential_and_is_shown() {
    let server = Server::start().await;
    let (name, secret) = server.robot("edge-01", &[]).await;
    server.robot("edge-02", &[]).await;
    let report = json!({
        "name": "edge-02", "activity": "state synced", "state_report_interval": "@every 00h00m30s",
        "latest_state_digest": "sha256:1", "latest_config_digest": "", "memory_used_bytes": 10,
        "storage_used_bytes": 20, "cpu_percent": 0.5, "request_created_time": "2026-11-01T10:00:00.123456789Z",
        "last_sync_duration_ms": 3, "image_count": 1,
        "cached_images": [{"reference": "h:5000/library/nginx:latest@sha256:2", "size_bytes": 4}],
    });
    let answer = sync(&server, &name, &secret, report).await.expect(200);
    assert_eq!(answer.body["events"], Value::Null);

    let satellite = server.admin("GET", "/api/satellites/edge-01", None).await.expect(200).body;
    assert_eq!(satellite["state"], "online");
    assert_eq!(satellite["heartbeat_interval"], "@every 00h00m30s");
    assert!(satellite["last_seen"].is_string());
    let status = server.admin("GET", "/api/satellites/edge-01/status", None).await.expect(200).body;
    assert_eq!(status["activity"], "state synced");
    assert_eq!(status["storage_used_bytes"], 20);
    let images = server.admin("GET", "/api/satellites/edge-01/images", None).await.expect(200).body;
    assert_eq!(
        images,
        json!([{"reference": "h:5000/library/nginx:latest", "digest": "sha256:2", "size_bytes": 4}])
    );
    let active = server.admin("GET", "/api/satellites/active", None).await.expect(200).body;
    assert_eq!(active.as_array().unwrap().len(), 1);

    // The other one, whose name stood in the report, was never heard of.
    let other = server.admin("GET", "/api/satellites/edge-02", None).await.expect(200).body;
    assert_eq!((&other["state"], &other["last_seen"]), (&json!("pending"), &Value::Null));
    server.admin("GET", "/api/satellites/edge-02/status", None).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_needs_a_robot() {
    let server = Server::start().await;
    let (name, secret) = server.robot("edge-01", &[]).await;
    server.send(As::Nobody, "POST", "/satellites/sync", Some(json!({}))).await.expect(401);
    sync(&server, &name, "wrong", json!({})).await.expect(401);
    sync(&server, "robot$edge-02", &secret, json!({})).await.expect(401);
    sync(&server, "edge-01", &secret, json!({})).await.expect(401);
    sync(&server, "admin", crate::support::ADMIN_PASSWORD, json!({})).await.expect(401);
    server.send(As::Session(&server.admin), "POST", "/satellites/sync", Some(json!({}))).await.expect(401);
    sync(&server, &name, &secret, json!({"cpu_percent": "much"})).await.expect(400);
    sync(&server, &name, &secret, json!({"cached_images": null, "unknown": 1})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_satellite_is_refused_everywhere_and_its_name_starts_anew() {
    let server = Server::start().await;
    let (name, secret) = server.robot("edge-01", &[]).await;
    let waiting = server.satellite("edge-02", &[]).await;
    sync(&server, &name, &secret, json!({})).await.expect(200);
    server.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    server.admin("DELETE", "/api/satellites/edge-02", None).await.expect(200);
    sync(&server, &name, &secret, json!({})).await.expect(401);
    server.send(As::Basic(&name, &secret), "GET", "/v2/", None).await.expect(401);
    let refused = ztr(&server, &waiting, NONCE).await.status.as_u16();
    assert!([400, 401].contains(&refused), "{refused}");
    server.admin("GET", "/api/satellites/edge-01", None).await.expect(404);

    let (_, fresh) = server.robot("edge-01", &[]).await;
    sync(&server, &name, &secret, json!({})).await.expect(401);
    sync(&server, &name, &fresh, json!({})).await.expect(200);
}
