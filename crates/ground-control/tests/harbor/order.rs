//! Robots first: what a group names is published when its satellites may read it.

use std::time::Duration;

use ground_control::domain::document::DocumentKey;
use serde_json::{Value, json};

use crate::stand_in::Fault;
use crate::support::Server;
use crate::{Harbor, eventually, projects, register};

async fn digest(server: &Server, group: &str) -> Option<String> {
    digest_of(server, DocumentKey::group(group)).await
}

async fn digest_of(server: &Server, document: DocumentKey) -> Option<String> {
    let published = server.running.state.store.published(&document).await.unwrap();
    published.map(|published| published.digest.to_string())
}

async fn accounts(server: &Server, group: &str) -> Value {
    server.admin("GET", &format!("/api/groups/{group}/accounts"), None).await.expect(200).body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_gains_a_project_is_published_after_its_robots_have_it() {
    let harbor = Harbor::start().await;
    let server = harbor.ground_control().await;
    server.group("east", "apps/web").await;
    for name in ["edge-01", "edge-02", "edge-03"] {
        let token = server.satellite(name, &["east"]).await;
        register(&server, &token).await;
    }
    server.published().await;
    let before = digest(&server, "east").await;
    // Harbor takes no change of a robot for a while: the document waits, and that is shown.
    harbor.stand_in.fail(Fault::told(500, "UNKNOWN", "internal server error"), 0, 1_000_000);
    server.group("east", "library/nginx").await;
    let shown = eventually("held back", async || {
        let shown = accounts(&server, "east").await;
        (shown["held_back"] == true && shown["waiting"] == 3).then_some(shown)
    })
    .await;
    assert_eq!(shown["satellites"], 3, "{shown}");
    assert_eq!(digest(&server, "east").await, before, "published before its robots had the project");
    harbor.stand_in.fail(Fault::Half, 0, 0);
    eventually("published", async || (digest(&server, "east").await != before).then_some(())).await;
    let all: Vec<_> = harbor.robots().into_iter().map(|(_, projects)| projects).collect();
    assert_eq!(all, vec![projects(&["library", "satellite"]); 3]);
    let shown = accounts(&server, "east").await;
    assert_eq!((&shown["ready"], &shown["held_back"]), (&json!(3), &json!(false)), "{shown}");
    // Another list of the same project asks Harbor for nothing.
    server.published().await;
    harbor.stand_in.seen();
    server.group("east", "library/other").await;
    server.published().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked: Vec<_> =
        harbor.stand_in.seen().into_iter().filter(|seen| seen.path.contains("/robots")).collect();
    assert!(asked.is_empty(), "{asked:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_is_not_there_fails_by_name_and_takes_no_other_away() {
    let harbor = Harbor::start().await;
    let server = harbor.ground_control().await;
    server.group("east", "apps/web").await;
    let token = server.satellite("edge-01", &["east"]).await;
    let robot = register(&server, &token).await;
    let artifacts = json!([
        {"repository": "apps/web", "tag": ["latest"]},
        {"repository": "library/nginx", "tag": ["latest"]},
        {"repository": "typo/nginx", "tag": ["latest"]},
    ]);
    let body = json!({"group": "east", "registry": "", "artifacts": artifacts});
    server.admin("POST", "/api/groups/sync", Some(body)).await.expect(200);
    let shown = eventually("failed by name", async || {
        let shown = accounts(&server, "east").await;
        (shown["failed"] == 1).then_some(shown)
    })
    .await;
    let failure = &shown["failures"][0];
    assert_eq!(failure["satellite"], "edge-01");
    assert!(failure["error"].as_str().unwrap().contains("typo"), "{failure}");
    // Nobody waits for it, and all else is there.
    server.published().await;
    assert_eq!(harbor.robots(), [(robot.0.clone(), projects(&["apps", "library", "satellite"]))]);
    assert!(harbor.takes(&robot.0, &robot.1));
    let shown = server.admin("GET", "/api/satellites/edge-01/accounts", None).await.expect(200).body;
    assert_eq!(shown["state"], "failed", "{shown}");
    // Somebody makes it: the next look finds it.
    harbor.client().create_private_project("typo").await.unwrap();
    eventually("all is well", async || {
        (harbor.robots()[0].1 == projects(&["apps", "library", "satellite", "typo"])).then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_satellite_that_joins_a_group_is_told_when_its_robot_may_read_it() {
    let harbor = Harbor::start().await;
    let server = harbor.ground_control().await;
    server.group("east", "apps/web").await;
    server.group("west", "library/nginx").await;
    let token = server.satellite("edge-01", &["east"]).await;
    register(&server, &token).await;
    server.published().await;
    let state = async || digest_of(&server, DocumentKey::satellite("edge-01")).await;
    let before = state().await;
    assert!(before.is_some());
    harbor.stand_in.fail(Fault::told(500, "UNKNOWN", "internal server error"), 0, 1_000_000);
    let member = json!({"satellite": "edge-01", "group": "west"});
    server.admin("POST", "/api/groups/satellite", Some(member)).await.expect(200);
    eventually("its robot is tried", async || {
        let shown = server.admin("GET", "/api/satellites/edge-01/accounts", None).await.expect(200).body;
        (shown["attempts"].as_u64() > Some(0)).then_some(())
    })
    .await;
    assert_eq!(state().await, before, "told of a group that it may not read yet");
    harbor.stand_in.fail(Fault::Half, 0, 0);
    eventually("it is told", async || (state().await != before).then_some(())).await;
    let wide = [("robot$edge-01".to_owned(), projects(&["apps", "library", "satellite"]))];
    assert_eq!(harbor.robots(), wide);
    server.stop().await;
}
