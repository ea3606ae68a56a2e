//! Pending, online, stale, revoked, enabled, deleted; credentials that are renewed before they end.

use std::time::Duration;

use testbed::admin::{Registered, Wanted};
use testbed::process::wait_for;
use testbed::{files, image};

use crate::support::{DAY, LIMIT, arrives, builtin, builtin_by_clock, publish, reaches, says};

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
    let before = asked(&site.status().await.unwrap());
    says(&site, "another look or none at all", |status| {
        asked(status) > before || status["registration"]["state"] == "refused"
    })
    .await;
    assert_eq!(site.registry().digest("shop/app", "2").await.unwrap(), None, "something new came");
    arrives(&site, "1", first.root.digest).await;

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

/// Longer than any robot's secret lives: the satellite has fresh ones all the way, and is never without.
#[tokio::test]
async fn credentials_are_renewed_before_they_end() {
    let (world, clock) = builtin_by_clock().await;
    let image = publish(&world, "one", "1", 1, &[50_000]).await;
    let site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    for seed in 2..6 {
        clock.advance(10 * DAY).unwrap();
        let tag = seed.to_string();
        let next = publish(&world, "one", &tag, seed, &[20_000]).await;
        arrives(&site, &tag, next.root.digest).await;
    }
    let renewed = wait_for("renewed credentials", LIMIT, async || {
        let log = String::from_utf8(files::read(&world.place.log()).ok()?).ok()?;
        log.contains("/satellites/credentials").then_some(())
    });
    renewed.await.unwrap();
    tokio::time::sleep(Duration::ZERO).await;
}
