//! Robots on their way to satellites, and what becomes of them.

use reqwest::StatusCode;
use serde_json::json;

use crate::support::As;
use crate::{Harbor, NONCE, credentials, eventually, heartbeat, projects, register, renew, retried};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_satellite_gets_a_robot_with_the_projects_of_its_groups() {
    let harbor = Harbor::start().await;
    let server = harbor.ground_control().await;
    server.group("east", "apps/web").await;
    let token = server.satellite("edge-01", &["east"]).await;
    let robot = register(&server, &token).await;
    assert_eq!(robot.0, "robot$edge-01");
    assert!(harbor.takes(&robot.0, &robot.1));
    assert_eq!(harbor.robots(), [("robot$edge-01".to_owned(), projects(&["apps", "satellite"]))]);
    // The same device is answered again with what it was given, and another one is not.
    let again = json!({"token": token, "nonce": NONCE});
    let answer = server.send(As::Nobody, "POST", "/satellites/ztr", Some(again)).await.expect(200);
    assert_eq!(credentials(&answer), robot);
    let other = json!({"token": token, "nonce": "f".repeat(32)});
    server.send(As::Nobody, "POST", "/satellites/ztr", Some(other)).await.expect(401);

    // The documents are there, for it alone to read, and the project is private.
    server.published().await;
    let registry = testbed::registry::Registry::basic(&harbor.stand_in.url(), &robot.0, &robot.1);
    for repository in ["satellite/satellite-state/edge-01/state", "satellite/group-state/east/state"] {
        assert!(registry.verify(repository, "latest").await.unwrap().is_some(), "{repository}");
    }
    assert!(!harbor.client().project("satellite").await.unwrap().is_public());
    heartbeat(&server, &robot, json!({})).await.expect(200);
    heartbeat(&server, &(robot.0.clone(), "wrong".to_owned()), json!({})).await.expect(401);

    // Its own standing is shown, without a secret.
    let shown = server.admin("GET", "/api/satellites/edge-01/accounts", None).await.expect(200).body;
    assert_eq!(shown["state"], "ready", "{shown}");
    assert_eq!(shown["accounts"][0]["username"], "robot$edge-01");
    assert!(!shown.to_string().contains(&robot.1));

    // Groups come and go, and the robot is the same.
    server.group("west", "library/nginx").await;
    let member = json!({"satellite": "edge-01", "group": "west"});
    server.admin("POST", "/api/groups/satellite", Some(member.clone())).await.expect(200);
    let wide = [("robot$edge-01".to_owned(), projects(&["apps", "library", "satellite"]))];
    eventually("another project", async || (harbor.robots() == wide).then_some(())).await;
    server.admin("DELETE", "/api/groups/satellite", Some(member)).await.expect(200);
    let narrow = [("robot$edge-01".to_owned(), projects(&["apps", "satellite"]))];
    eventually("one project less", async || (harbor.robots() == narrow).then_some(())).await;
    assert!(harbor.takes(&robot.0, &robot.1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rotation_is_a_second_robot_and_the_first_goes_when_the_second_is_used() {
    let harbor = Harbor::start().await;
    let server = harbor.ground_control().await;
    let token = server.satellite("edge-01", &[]).await;
    let first = register(&server, &token).await;
    heartbeat(&server, &first, json!({"registry_username": first.0})).await.expect(200);
    let second = renew(&server, &first).await;
    assert_ne!(first, second);
    // Both are good, here and there, until the second is seen in use at the registry.
    for robot in [&first, &second] {
        assert!(harbor.takes(&robot.0, &robot.1), "{robot:?}");
        heartbeat(&server, robot, json!({"registry_username": first.0})).await.expect(200);
    }
    assert_eq!(harbor.robots().len(), 2);
    heartbeat(&server, &second, json!({"registry_username": second.0})).await.expect(200);
    eventually("the first is gone", async || (harbor.robots().len() == 1).then_some(())).await;
    assert!(harbor.takes(&second.0, &second.1) && !harbor.takes(&first.0, &first.1));
    heartbeat(&server, &first, json!({})).await.expect(401);
    // And once more, from a name that is free again.
    let third = renew(&server, &second).await;
    heartbeat(&server, &third, json!({"registry_username": third.0})).await.expect(200);
    eventually("the second is gone", async || (harbor.robots().len() == 1).then_some(())).await;
    assert!(harbor.takes(&third.0, &third.1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_is_left_alone() {
    let harbor = Harbor::start().await;
    let theirs = harbor::NewRobot {
        name: "edge-01".parse().unwrap(),
        lifetime: harbor::Lifetime::Never,
        description: "somebody's".to_owned(),
        permissions: harbor::Permissions::pull(["apps"]),
    };
    harbor.client().create_robot(&theirs).await.unwrap();
    let server = harbor.ground_control().await;
    let token = server.satellite("edge-01", &[]).await;
    let robot = register(&server, &token).await;
    assert_eq!(robot.0, "robot$edge-01-2");
    heartbeat(&server, &robot, json!({})).await.expect(200);
    server.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    let left = [("robot$edge-01".to_owned(), projects(&["apps"]))];
    eventually("ours is gone", async || (harbor.robots() == left).then_some(())).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_the_robot_and_an_enabled_satellite_gets_another() {
    let harbor = Harbor::start().await;
    let server = harbor.ground_control().await;
    let token = server.satellite("edge-01", &[]).await;
    let robot = register(&server, &token).await;
    let answer = server.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    assert!(answer.body["message"].as_str().unwrap().contains("at Ground Control now"), "{answer:?}");
    heartbeat(&server, &robot, json!({})).await.expect(403);
    eventually("the robot is gone", async || harbor.robots().is_empty().then_some(())).await;
    // Who it was is still known.
    eventually("removed", async || {
        let shown = server.admin("GET", "/api/satellites/edge-01/accounts", None).await.expect(200).body;
        (shown["state"] == "removed").then_some(())
    })
    .await;
    heartbeat(&server, &robot, json!({})).await.expect(403);
    let answer = server.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(200);
    let second = register(&server, answer.body["token"].as_str().unwrap()).await;
    assert_ne!(second.1, robot.1);
    heartbeat(&server, &second, json!({})).await.expect(200);
    heartbeat(&server, &robot, json!({})).await.expect(401);
    assert_eq!(harbor.robots().len(), 1);
    server.stop().await;
}

/// Ground Control itself may be a robot, which may not change robots.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_our_own_account_is_a_robot_a_new_project_is_a_new_robot() {
    let harbor = Harbor::start().await;
    let (username, secret) = harbor.operator().await;
    let server = harbor.ground_control_as(&username, &secret, &[]).await;
    server.group("east", "apps/web").await;
    server.group("west", "library/nginx").await;
    // Without an identity: a robot that never ends, for nobody could let it live longer.
    let token = server.satellite("edge-02", &["east"]).await;
    let fixed = register(&server, &token).await;
    eventually("a robot without end", async || {
        let world = harbor.stand_in.world();
        let ours: Vec<_> = world.robots.iter().filter(|r| r.full_name() == fixed.0).collect();
        (ours.len() == 1 && (ours[0].expires_at == -1)).then_some(())
    })
    .await;
    // What needs another project for it is refused, by name, and nothing has changed.
    let member = json!({"satellite": "edge-02", "group": "west"});
    let refused = server.admin("POST", "/api/groups/satellite", Some(member)).await.expect(409);
    let told = refused.body["message"].as_str().unwrap();
    assert!(told.contains("edge-02") && told.contains("library"), "{told}");
    let list = json!([{"repository": "library/nginx", "tag": ["latest"]}]);
    let body = json!({"group": "east", "registry": "", "artifacts": list});
    let refused = server.admin("POST", "/api/groups/sync", Some(body)).await.expect(409);
    assert!(refused.body["message"].as_str().unwrap().contains("edge-02"), "{refused:?}");
    let group = server.admin("GET", "/api/groups/east", None).await.expect(200).body;
    assert_eq!(group["projects"], json!(["apps"]));
    // What needs none is taken.
    server.group("east", "apps/other").await;
    assert!(harbor.takes(&fixed.0, &fixed.1));
    heartbeat(&server, &fixed, json!({})).await.expect(200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_is_asked_to_fetch_the_new_robot_where_the_old_cannot_be_changed() {
    let harbor = Harbor::start().await;
    let (username, secret) = harbor.operator().await;
    let variables = harbor.variables(&username, &secret);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let fleet = crate::spiffe::Fleet::start(&variables).await;
    let server = &fleet.server;
    server.group("east", "apps/web").await;
    let edge = fleet.peer(Some(&fleet.svid("edge-01")));
    let first =
        eventually("a registration", async || retried(edge.ask("GET", "/satellites/spiffe-ztr", None).await))
            .await;
    let first = credentials(&first);
    // Registering again before it was used gives the same: a lost answer costs nothing.
    let again = edge.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200);
    assert_eq!(credentials(&again), first);
    let used = |robot: &(String, String)| Some(json!({"registry_username": robot.0}));
    edge.ask("POST", "/satellites/sync", used(&first)).await.expect(200);

    let member = json!({"satellite": "edge-01", "group": "east"});
    server.admin("POST", "/api/groups/satellite", Some(member)).await.expect(200);
    eventually("refresh_credentials", async || {
        let answer = edge.ask("POST", "/satellites/sync", used(&first)).await.expect(200);
        (answer.body["events"] == json!(["refresh_credentials"])).then_some(())
    })
    .await;
    let second = edge.ask("POST", "/satellites/credentials", None).await.expect(200);
    let second = credentials(&second);
    assert_ne!(second.0, first.0);
    assert!(harbor.takes(&first.0, &first.1) && harbor.takes(&second.0, &second.1));
    edge.ask("POST", "/satellites/sync", used(&second)).await.expect(200);
    let left = [(second.0.clone(), projects(&["apps", "satellite"]))];
    eventually("only the second is left", async || (harbor.robots() == left).then_some(())).await;
    // Asked for without need, there is another one a moment later.
    let answer = edge.ask("POST", "/satellites/credentials", None).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    eventually("a third", async || retried(edge.ask("POST", "/satellites/credentials", None).await)).await;
}
