//! Sites that were away for weeks, by a clock that is moved.

use testbed::clock::Clock;
use testbed::satellite::Site;
use testbed::world::World;

use crate::support::{DAY, arrives, builtin_by_clock, publish, reaches, says, svid_end};

/// An authority lives for a year; 69 days before its end its successor is in the bundles, 31 days before, that signs.
const ANNOUNCED: u32 = 300;

struct Story {
    world: World,
    clock: Clock,
    site: Site,
}

impl Story {
    /// A site that held an SVID of the first authority, 24 days before the next one signs, and was then cut off.
    async fn begin() -> Self {
        let (mut world, clock) = builtin_by_clock().await;
        clock.advance(ANNOUNCED * DAY).unwrap();
        // A session of a year ago is over; and so is every connection.
        world.kill_ground_control().unwrap();
        world.restart_ground_control().await.unwrap();
        world.login().await.unwrap();
        clock.advance(10 * DAY).unwrap();
        world.login().await.unwrap();
        let image = publish(&world, "one", "1", 1, &[50_000]).await;
        let site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
        let satellite = site.start().await.unwrap();
        arrives(&site, "1", image.root.digest).await;
        reaches(&world, "edge-01", "online").await;
        let status = says(&site, "both authorities", |status| status["identity"]["authorities"] == 2).await;
        assert!(!svid_end(&status).is_empty());
        satellite.kill().unwrap();
        Self { world, clock, site }
    }

    async fn pass(&mut self, days: u32) {
        self.clock.advance(days * DAY).unwrap();
        self.world.kill_ground_control().unwrap();
        self.world.restart_ground_control().await.unwrap();
        self.world.login().await.unwrap();
    }
}

#[tokio::test]
async fn away_for_29_days_while_the_authority_rotated_it_renews() {
    let mut story = Story::begin().await;
    story.pass(29).await;
    let next = publish(&story.world, "one", "2", 2, &[50_000]).await;
    let _satellite = story.site.start().await.unwrap();
    arrives(&story.site, "2", next.root.digest).await;
    // What vouches for it now is not what vouched for it then.
    let fresh = story.world.admin.register("edge-02", "default", &[]).await.unwrap();
    assert!(fresh.trust_bundle.matches("BEGIN CERTIFICATE").count() >= 2);
}

#[tokio::test]
async fn away_beyond_the_grace_it_does_not_and_serves_on() {
    let mut story = Story::begin().await;
    story.pass(33).await;
    publish(&story.world, "one", "2", 2, &[50_000]).await;
    let _satellite = story.site.start().await.unwrap();
    let status = says(&story.site, "the refusal", |status| status["identity"]["problem"].is_string()).await;
    assert_ne!(status["registration"]["state"], "pending", "{status:#}");
    assert_eq!(story.site.registry().digest("shop/app", "2").await.unwrap(), None);
    assert!(story.site.registry().digest("shop/app", "1").await.unwrap().is_some());
    // A new token brings it back, without a restart.
    let again = story.world.admin.register("edge-01", "default", &["one"]).await.unwrap();
    story.site.put_join_token(&again.join_token).unwrap();
    reaches(&story.world, "edge-01", "online").await;
}

#[tokio::test]
async fn revoked_while_away_it_does_not_renew() {
    let mut story = Story::begin().await;
    story.world.admin.revoke("edge-01").await.unwrap();
    story.pass(5).await;
    publish(&story.world, "one", "2", 2, &[50_000]).await;
    let _satellite = story.site.start().await.unwrap();
    says(&story.site, "the refusal", |status| status["identity"]["problem"].is_string()).await;
    assert_eq!(story.site.registry().digest("shop/app", "2").await.unwrap(), None);
    assert_eq!(story.world.admin.satellite("edge-01").await.unwrap()["state"], "revoked");
}
