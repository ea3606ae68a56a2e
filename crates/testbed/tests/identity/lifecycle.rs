//! Pending, online, stale, revoked, enabled, deleted; credentials that are renewed before they end.

use testbed::admin::{Registered, Wanted};
use testbed::process::wait_for;
use testbed::world::World;
use testbed::{files, ground_control, image};

use crate::support::{
    DAY, HOUR, LIMIT, arrives, builtin, builtin_by_clock, publish, reaches, refused, says, status, svid_end,
};

#[tokio::test]
async fn revoked_it_gets_nothing_new_and_serves_on_and_comes_back_when_enabled() {
    let world = builtin().await;
    let first = publish(&world, "one", "1", 1, &[50_000]).await;
    let site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    let satellite = site.start().await.unwrap();
    arrives(&site, "1", first.root.digest).await;
    reaches(&world, "edge-01", "online").await;

    world.admin.revoke("edge-01").await.unwrap();
    assert_eq!(world.admin.satellite("edge-01").await.unwrap()["state"], "revoked");
    let second = image::random(&world.dir().join("second"), 2, &[50_000]).unwrap();
    world.registry().push("shop/app", "2", &second).await.unwrap();
    let wanted =
        [("1", &first), ("2", &second)].map(|(tag, image)| Wanted::new("shop/app", tag, image.root.digest));
    world.admin.sync_group("one", &wanted).await.unwrap();

    // It is told so at its next heartbeat, goes on asking, and gets nothing.
    says(&site, "the refusal", |status| status["registration"]["state"] == "refused").await;
    let asked =
        |status: &serde_json::Value| status["schedulers"]["replication"]["runs"].as_u64().unwrap_or_default();
    let before = asked(&status(&site).await);
    says(&site, "another look or none at all", |status| {
        asked(status) > before || status["registration"]["state"] == "refused"
    })
    .await;
    assert_eq!(site.registry().digest("shop/app", "2").await.unwrap(), None, "something new came");
    arrives(&site, "1", first.root.digest).await;
    assert!(
        !refused(&world.place.log(), 0).is_empty(),
        "what the rotation tests look for is there to be found"
    );

    // Enabled: pending, a fresh token; the running satellite takes it and goes on where it was.
    let enabled = Registered::read(&world.admin.enable("edge-01").await.unwrap()).unwrap();
    assert!(!enabled.join_token.is_empty());
    site.put_join_token(&enabled.join_token).unwrap();
    arrives(&site, "2", second.root.digest).await;
    reaches(&world, "edge-01", "online").await;
    satellite.stop().await.unwrap();
}

#[tokio::test]
async fn deleted_it_is_nobody_and_serves_on() {
    let world = builtin().await;
    let image = publish(&world, "one", "1", 1, &[50_000]).await;
    let site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    world.admin.delete_satellite("edge-01").await.unwrap();
    assert!(world.admin.satellite("edge-01").await.is_err());
    says(&site, "the refusal", |status| status["registration"]["state"] == "refused").await;
    arrives(&site, "1", image.root.digest).await;
}

/// Three intervals of its own without a heartbeat, and back.
#[tokio::test]
async fn a_silent_satellite_is_stale_until_it_speaks_again() {
    let world = builtin().await;
    let site = world.site_with_svid("edge-01", "default", &[], &[]).await.unwrap();
    assert_eq!(world.admin.satellite("edge-01").await.unwrap()["state"], "pending");
    let satellite = site.start().await.unwrap();
    reaches(&world, "edge-01", "online").await;
    satellite.kill().unwrap();
    reaches(&world, "edge-01", "stale").await;
    let _satellite = site.start().await.unwrap();
    reaches(&world, "edge-01", "online").await;
}

/// Longer than the robot's secret lives: Ground Control asks for it to be renewed, and the satellite is never without one.
#[tokio::test]
async fn credentials_are_renewed_when_ground_control_asks_for_it() {
    let clock = testbed::clock::Clock::new().unwrap();
    let environment = vec![("ROBOT_DURATION_DAYS".to_owned(), "1".to_owned())];
    let clocked = Some(clock.clone());
    let options = ground_control::Options { spiffe: true, clock: clocked, environment, ..Default::default() };
    let mut world = World::start_with(options).await.unwrap();
    let image = publish(&world, "one", "1", 1, &[50_000]).await;
    let site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    let renewals = || {
        let log = String::from_utf8(files::read(&world.place.log()).unwrap()).unwrap();
        log.matches("registry credentials renewed").count()
    };
    let mut end = svid_end(&says(&site, "its SVID", |status| !svid_end(status).is_empty()).await);
    assert_eq!(renewals(), 0);
    for _ in 0..2 {
        // Past the renewal of the SVID, and not past its end.
        clock.advance(15 * HOUR).unwrap();
        end = svid_end(&says(&site, "a new SVID", |status| svid_end(status) != end).await);
    }
    wait_for("renewed credentials", LIMIT, async || (renewals() > 0).then_some(())).await.unwrap();
    world.login().await.unwrap();
    let next = publish(&world, "one", "2", 2, &[20_000]).await;
    arrives(&site, "2", next.root.digest).await;
}

/// Two weeks without a cloud: everything that was good is over when it is back, but what renews it.
#[tokio::test]
async fn after_weeks_without_a_cloud_it_goes_on_by_itself() {
    let (mut world, clock) = builtin_by_clock().await;
    let image = publish(&world, "one", "1", 1, &[50_000]).await;
    let site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    world.kill_ground_control().unwrap();
    clock.advance(14 * DAY).unwrap();
    says(&site, "the end of its SVID", |status| status["identity"]["problem"].is_string()).await;
    arrives(&site, "1", image.root.digest).await;
    world.restart_ground_control().await.unwrap();
    world.login().await.unwrap();
    let next = publish(&world, "one", "2", 2, &[20_000]).await;
    arrives(&site, "2", next.root.digest).await;
}
