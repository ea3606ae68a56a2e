//! Robots through their lives: longer, with more projects, a second one, none.

use testbed::harbor::STATE_PROJECT;

use super::*;

const DAY: i64 = 24 * 60 * 60;

fn expiry(robot: &Value) -> i64 {
    robot["expires_at"].as_i64().unwrap()
}

/// Robots live for thirty days from now on, and their group gains a project: they are given both before its document
/// names what lies there.
pub(super) async fn longer_lives_and_another_project(cloud: &mut Cloud, edges: &[&Edge; 2], hand: &Hand) {
    let names = [edges[0].name.as_str(), edges[1].name.as_str(), hand.name()];
    let mut before = Vec::new();
    for name in names {
        before.push(cloud.robot(name).await.unwrap());
    }
    cloud.world.ground_control.take().unwrap().stop().await.unwrap();
    cloud.world.place.set("ROBOT_DURATION_DAYS", "30");
    cloud.world.restart_ground_control().await.unwrap();

    let more = format!("{}/extra", cloud.more);
    let extra = cloud.push(&more, "1", 31).await;
    let pinned = cloud.image(2).root.digest;
    cloud
        .group(
            &cloud.name("pinned"),
            json!([{"repository": cloud.app("nested/pinned"), "tag": ["v1"], "digest": pinned},
                   {"repository": more, "tag": ["1"], "digest": extra.root.digest}]),
        )
        .await;
    for edge in edges {
        edge.has(&more, "1", &extra).await;
    }
    let wanted = set(&[&cloud.apps, &cloud.more, STATE_PROJECT]);
    for (name, before) in names.iter().zip(&before) {
        let after = cloud
            .until("a robot with another project", async || {
                cloud
                    .robot(name)
                    .await
                    .filter(|robot| projects(robot) == wanted && expiry(robot) > expiry(before))
            })
            .await;
        assert_eq!(after["id"], before["id"], "the same robot");
        assert!(expiry(&after) >= expiry(before) + 20 * DAY, "{before:#}\n{after:#}");
    }
    assert!(cloud.takes(hand.account()).await, "its secret is the same");
    let shown = cloud.get(&format!("/api/groups/{}/accounts", cloud.name("pinned"))).await;
    assert_eq!((&shown["ready"], &shown["held_back"]), (&json!(3), &json!(false)), "{shown}");
    cloud
        .until("the policy of the other project", async || webhooks::ours(cloud, &cloud.more).await.pop())
        .await;
    step("robots live longer and have another project; what lies there arrives");
}

/// Somebody deletes a robot at Harbor by hand: its site is refused there, asks for another account, and goes on.
pub(super) async fn a_robot_that_somebody_deleted_is_replaced(cloud: &Cloud, edge: &Edge) {
    let deleted = cloud.robot(&edge.name).await.unwrap()["id"].clone();
    cloud.run.harbor().delete(&format!("/robots/{deleted}")).await.unwrap();
    // Of a repository that it has no token for: those that it has go on for half an hour.
    let late = cloud.app("late");
    let image = cloud.push(&late, "1", 41).await;
    cloud
        .group(
            &cloud.name("tags"),
            json!([{"repository": cloud.app("tool"), "tag": ["stable"]}, {"repository": late, "tag": ["1"]}]),
        )
        .await;
    edge.has(&late, "1", &image).await;
    cloud
        .until("another robot", async || cloud.robot(&edge.name).await.filter(|robot| robot["id"] != deleted))
        .await;
    step("a site whose robot somebody deleted has another, and goes on");
}

/// Both are good until the second is seen in use; then the first goes.
pub(super) async fn a_rotation_is_a_second_robot(cloud: &Cloud, hand: &mut Hand) {
    let first = hand.account().clone();
    hand.renew().await;
    let second = hand.account().clone();
    assert_ne!(first.0, second.0);
    for account in [&first, &second] {
        assert!(cloud.takes(account).await, "{}", account.0);
        assert_eq!(hand.heartbeat(account, &first.0).await, 200);
    }
    assert_eq!(cloud.robots_of(hand.name()).await, 2);
    hand.reports().await;
    cloud
        .until("the end of the first", async || (cloud.robots_of(hand.name()).await == 1).then_some(()))
        .await;
    assert!(cloud.takes(&second).await && !cloud.takes(&first).await);
    assert_eq!(hand.heartbeat(&first, "").await, 401);
    let log = cloud.log();
    assert!(!log.contains(&first.1) && !log.contains(&second.1), "a secret is in Ground Control's log");
    step("a rotation is a second robot, and the first goes when the second is used");
}

/// At once here, and at Harbor as soon as it is told; who is let in again has another robot.
pub(super) async fn a_revocation_ends_at_both(cloud: &Cloud, hand: &mut Hand) {
    let robot = cloud.robot(hand.name()).await.unwrap()["id"].as_i64().unwrap();
    cloud.world.admin.revoke(hand.name()).await.unwrap();
    let revoked = hand.account().clone();
    assert_eq!(hand.heartbeat(&revoked, "").await, 403);
    let harbor = cloud.run.harbor();
    cloud.until("the robot's end", async || (!harbor.has_robot(robot).await.unwrap()).then_some(())).await;
    assert!(!cloud.takes(&revoked).await);
    let enabled = cloud.world.admin.enable(hand.name()).await.unwrap();
    hand.register(enabled["token"].as_str().unwrap()).await;
    hand.reports().await;
    assert!(cloud.takes(hand.account()).await);
    assert_eq!(hand.heartbeat(&revoked, "").await, 401);
    step("a revocation ends the robot, and an enabled satellite has another");
}

/// Nothing is told and given to it any more, and its site has what it has.
pub(super) async fn a_revoked_site_goes_on_serving(cloud: &Cloud, edge: &Edge) {
    let robot = cloud.robot(&edge.name).await.unwrap()["id"].as_i64().unwrap();
    cloud.world.admin.revoke(&edge.name).await.unwrap();
    cloud
        .until("the refusal at the site", async || {
            edge.site.status().await.ok()?.to_string().contains("403").then_some(())
        })
        .await;
    let harbor = cloud.run.harbor();
    cloud.until("its robot's end", async || (!harbor.has_robot(robot).await.unwrap()).then_some(())).await;
    assert!(edge.site.registry().verify(&cloud.app("web"), "1.2.0").await.unwrap().is_some());
    step("a revoked site serves what it has");
}
