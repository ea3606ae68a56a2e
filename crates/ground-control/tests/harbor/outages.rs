//! Harbor away: what people do is taken, nobody's token is spent, a revocation holds, and all of it is made up for.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::stand_in::projects::Project;
use crate::stand_in::world::Outage;
use crate::support::As;
use crate::{Harbor, NONCE, eventually, heartbeat, projects, register};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_waits_for_harbor_and_its_token_is_not_spent() {
    for outage in [Outage::Core, Outage::Database] {
        let harbor = Harbor::start().await;
        // A start waits for nobody either.
        harbor.stand_in.world().outage = Some(outage);
        let server = harbor.ground_control().await;
        server.group("east", "apps/web").await;
        let token = server.satellite("edge-01", &["east"]).await;
        for _ in 0..3 {
            let body = json!({"token": token, "nonce": NONCE});
            let answer = server.send(As::Nobody, "POST", "/satellites/ztr", Some(body)).await.expect(503);
            assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
            let path = format!("/satellites/ztr/{token}");
            server.send(As::Nobody, "GET", &path, None).await.expect(503);
        }
        harbor.stand_in.world().outage = None;
        let robot = register(&server, &token).await;
        assert_eq!(harbor.robots(), [(robot.0.clone(), projects(&["apps", "satellite"]))]);
        server.published().await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_do_while_harbor_is_away_is_made_up_for() {
    let harbor = Harbor::start().await;
    let server = harbor.ground_control().await;
    server.group("east", "apps/web").await;
    let mut robots = Vec::new();
    for name in ["edge-01", "edge-02"] {
        let token = server.satellite(name, &["east"]).await;
        robots.push(register(&server, &token).await);
    }
    server.published().await;
    for outage in [Outage::Database, Outage::Core] {
        harbor.stand_in.world().outage = Some(outage);
        // A 401 of Harbor's alone changes nothing here.
        for robot in &robots {
            heartbeat(&server, robot, json!({})).await.expect(200);
        }
        harbor.stand_in.world().outage = None;
    }
    harbor.stand_in.world().outage = Some(Outage::Database);
    server.group("east", "library/nginx").await;
    let body = json!({"name": "edge-03", "groups": ["east"], "config_name": ""});
    server.admin("POST", "/api/satellites", Some(body)).await.expect(200);
    server.admin("POST", "/api/satellites/edge-02/revoke", None).await.expect(200);
    heartbeat(&server, &robots[1], json!({})).await.expect(403);
    let shown = server.admin("GET", "/api/satellites/edge-02/accounts", None).await.expect(200).body;
    assert_eq!(shown["state"], "removal_pending", "{shown}");
    assert_eq!(harbor.robots().len(), 2, "nothing happened there yet");
    harbor.stand_in.world().outage = None;
    let both = projects(&["library", "satellite"]);
    let expected = [("robot$edge-01".to_owned(), both.clone()), ("robot$edge-03".to_owned(), both.clone())];
    eventually("all is as it should be", async || (harbor.robots() == expected).then_some(())).await;
    assert!(harbor.takes(&robots[0].0, &robots[0].1));
    server.published().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_public_project_of_before_is_made_private() {
    let harbor = Harbor::start().await;
    harbor.stand_in.world().projects.push(Project { id: 77, name: "satellite".to_owned(), public: true });
    let server = harbor.ground_control().await;
    eventually("private", async || {
        let world = harbor.stand_in.world();
        (!world.projects.iter().find(|p| p.name == "satellite").unwrap().public).then_some(())
    })
    .await;
    server.stop().await;
}

/// What counts here is what is kept here: a robot that has expired at Harbor still reports, and is given life again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_robot_still_reports_and_lives_again() {
    let harbor = Harbor::start().await;
    let server = harbor.ground_control().await;
    let token = server.satellite("edge-01", &[]).await;
    let robot = register(&server, &token).await;
    let store = &server.running.state.store;
    let satellite = store.satellite("edge-01").await.unwrap().id;
    let past = Timestamp::now() - SignedDuration::from_hours(1);
    {
        let mut world = harbor.stand_in.world();
        let kept = &mut world.robots[0];
        kept.created = past - SignedDuration::from_hours(30 * 24);
        kept.expires_at = past.as_second();
    }
    assert!(!harbor.takes(&robot.0, &robot.1));
    heartbeat(&server, &robot, json!({})).await.expect(200);
    let ours = store.robots_of(&satellite).await.unwrap().remove(0);
    store.robot_extended(&ours.id, Some(past)).await.unwrap();
    store.ask_site("edge-01", "the end is near", Timestamp::now()).await.unwrap();
    eventually("it lives again", async || harbor.takes(&robot.0, &robot.1).then_some(())).await;
    eventually("for as long as asked for", async || {
        let end = store.robots_of(&satellite).await.unwrap().remove(0).expires_at.unwrap();
        (end > Timestamp::now() + SignedDuration::from_hours(29 * 24)).then_some(())
    })
    .await;
    server.stop().await;
}
