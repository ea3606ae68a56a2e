//! Heartbeats that wait for a change.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Answer, Server, answer};

/// Sends a heartbeat that waits.
async fn poll(server: &Server, robot: &(String, String), wait: &str, body: Value) -> Answer {
    let request = server.client.post(server.url("/satellites/sync")).basic_auth(&robot.0, Some(&robot.1));
    answer(request.header("Prefer", wait).json(&body).send().await.unwrap()).await
}

/// Sends one that does not.
async fn beat(server: &Server, robot: &(String, String), body: Value) -> Answer {
    let request = server.client.post(server.url("/satellites/sync")).basic_auth(&robot.0, Some(&robot.1));
    answer(request.json(&body).send().await.unwrap()).await
}

/// Waits until so many polls wait.
async fn waiting(server: &Server, polls: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.running.state.desired.waiting() != polls {
        assert!(Instant::now() < deadline, "{} polls wait", server.running.state.desired.waiting());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A server with a satellite in a group, all published; and the generation that it is told.
async fn fleet() -> (Server, (String, String), u64) {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    let robot = server.robot("edge-01", &["east"]).await;
    server.published().await;
    server.running.state.desired.read_on().await.unwrap();
    let told = beat(&server, &robot, json!({})).await.expect(200);
    assert_eq!(told.header("preference-applied"), "");
    let generation = told.body["desired"]["generation"].as_u64().unwrap();
    (server, robot, generation)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_to_who_waits() {
    let (server, robot, generation) = fleet().await;
    let told = poll(&server, &robot, "wait=0", json!({"generation": generation})).await.expect(200);
    assert_eq!(told.header("preference-applied"), "wait=0");
    let before = told.body["desired"].clone();
    assert!(
        before["state"].is_string() && before["config"].is_string() && before["groups"]["east"].is_string()
    );

    let body = json!({"generation": generation});
    let (told, ()) = tokio::join!(poll(&server, &robot, "wait=60", body), async {
        waiting(&server, 1).await;
        server.group("east", "library/alpine").await;
    });
    let told = told.expect(200);
    assert_eq!(told.header("preference-applied"), "wait=60");
    let after = &told.body["desired"];
    assert!(after["generation"].as_u64().unwrap() > generation);
    assert_eq!(after["state"], before["state"], "its own document is the same");
    assert_ne!(after["groups"]["east"], before["groups"]["east"]);

    // Who does not know the newest is told at once.
    let asked = Instant::now();
    server.group("east", "library/busybox").await;
    server.published().await;
    server.running.state.desired.read_on().await.unwrap();
    poll(&server, &robot, "wait=60", json!({"generation": generation})).await.expect(200);
    assert!(asked.elapsed() < Duration::from_secs(20));
    // Nobody waits for what has no end.
    waiting(&server, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_wait_is_an_answer() {
    let (server, robot, generation) = fleet().await;
    let asked = Instant::now();
    let told = poll(&server, &robot, "wait=1", json!({"generation": generation, "activity": "idle"})).await;
    let told = told.expect(200);
    assert!(asked.elapsed() >= Duration::from_secs(1));
    assert_eq!(told.body["desired"]["generation"], generation);
    // The heartbeat counted when it came.
    let status = server.admin("GET", "/api/satellites/edge-01/status", None).await.expect(200);
    assert_eq!(status.body["activity"], "idle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_shut_out_waits_no_longer() {
    let (server, robot, generation) = fleet().await;
    let other = server.robot("edge-02", &["east"]).await;
    server.published().await;
    let body = json!({"generation": generation + 1000});
    let (first, second, ()) = tokio::join!(
        poll(&server, &robot, "wait=60", body.clone()),
        poll(&server, &other, "wait=60", body),
        async {
            waiting(&server, 2).await;
            server.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
            server.admin("DELETE", "/api/satellites/edge-02", None).await.expect(200);
        }
    );
    assert_eq!((first.status, second.status), (StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_satellite_waits_once_and_a_drain_answers() {
    let (server, robot, generation) = fleet().await;
    let body = json!({"generation": generation});
    let ((), second) = tokio::join!(
        async {
            let first = poll(&server, &robot, "wait=60", body.clone()).await.expect(200);
            assert_eq!(first.body["desired"]["generation"], generation);
            waiting(&server, 1).await;
            server.running.state.draining.cancel();
        },
        async {
            waiting(&server, 1).await;
            poll(&server, &robot, "wait=60", body.clone()).await
        }
    );
    assert_eq!(second.expect(200).body["desired"]["generation"], generation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_told_once_and_asked_for_where_they_are_not_known() {
    let (server, robot, generation) = fleet().await;
    let shown = async || server.admin("GET", "/api/satellites/edge-01/status", None).await.expect(200).body;
    let body = |nodes: Value, digest: &str| json!({"generation": generation, "nodes": nodes, "nodes_digest": digest});
    let first = json!([{"name": "n1", "runtime": "containerd", "present": 3}]);
    let second = json!([{"name": "n1", "present": 3, "silent_since": "2026-11-21T12:00:00Z"}]);
    let told = beat(&server, &robot, body(first.clone(), "first")).await.expect(200);
    assert_eq!(told.body["nodes_digest"], "first");
    let told = beat(&server, &robot, body(json!([]), "first")).await.expect(200);
    assert_eq!((&told.body["nodes_digest"], &shown().await["nodes"]), (&json!("first"), &first));

    // A list that is not known here is asked for well before the end of the wait.
    let asked = Instant::now();
    let told = poll(&server, &robot, "wait=60", body(Value::Null, "second")).await.expect(200);
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert_eq!((&told.body["nodes_digest"], &shown().await["nodes"]), (&json!("first"), &first));
    let told = beat(&server, &robot, body(second.clone(), "second")).await.expect(200);
    assert_eq!((&told.body["nodes_digest"], &shown().await["nodes"]), (&json!("second"), &second));

    // Who names no list is told of none: who lists always, and who has none.
    for (nodes, left) in [(first.clone(), first), (json!([]), Value::Null)] {
        let told = beat(&server, &robot, json!({"nodes": nodes})).await.expect(200);
        assert_eq!((&told.body["nodes_digest"], &shown().await["nodes"]), (&Value::Null, &left));
    }
}
