//! SVIDs and authorities that change during a long pull.

use std::time::Duration;

use testbed::files;
use testbed::process::wait_for;
use testbed::spire::ServerOptions;

use crate::cloud::{Admin, Cloud};
use crate::support::{LIMIT, arrives, publish, refused, says, status, svid_end};

/// Longer than SPIRE needs for what happens during the pull.
const PULL: Duration = Duration::from_secs(150);

fn short_lives() -> ServerOptions {
    ServerOptions { svid_ttl: "30s".into(), ..ServerOptions::default() }
}

/// Layers that take about a minute at the speed of the link.
const SPEED: u64 = 300_000;
const LAYERS: [usize; 3] = [7_000_000, 7_000_000, 4_000_000];

#[tokio::test]
async fn the_svid_rotates_during_a_long_pull_without_a_failed_request() {
    let cloud = Cloud::start_with(short_lives(), Admin::Socket).await;
    let small = publish(&cloud.world, "one", "1", 1, &[10_000]).await;
    let (_agent, site) = cloud.edge("edge-01").await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", small.root.digest).await;

    let since = files::read(&cloud.world.place.log()).unwrap().len();
    cloud.link.limit(Some(SPEED));
    let big = publish(&cloud.world, "one", "2", 2, &LAYERS).await;
    let mut end = svid_end(&status(&site).await);
    for _ in 0..3 {
        end = svid_end(&says(&site, "a new SVID", |status| svid_end(status) != end).await);
    }
    assert_eq!(site.registry().digest("shop/app", "2").await.unwrap(), None, "the pull was over too soon");
    site.wait_for_tag("shop/app", "2", big.root.digest, PULL).await.unwrap();
    arrives(&site, "2", big.root.digest).await;
    assert_eq!(refused(&cloud.world.place.log(), since), Vec::<String>::new());
    assert_eq!(status(&site).await["failed"], serde_json::json!([]));
}

#[tokio::test]
async fn the_authority_rotates_during_a_long_pull_without_a_failed_request() {
    let cloud = Cloud::start_with(short_lives(), Admin::Socket).await;
    let small = publish(&cloud.world, "one", "1", 1, &[10_000]).await;
    let (_agent, site) = cloud.edge("edge-01").await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", small.root.digest).await;

    let (since, carried) = (files::read(&cloud.world.place.log()).unwrap().len(), cloud.link.carried());
    cloud.link.limit(Some(SPEED));
    let big = publish(&cloud.world, "one", "2", 2, &LAYERS).await;
    wait_for("the pull under way", LIMIT, async || (cloud.link.carried() > carried + 500_000).then_some(()))
        .await
        .unwrap();
    // The next authority is in the bundles, then it signs, then the old one is gone.
    let next = cloud.server.prepare_authority().await.unwrap();
    says(&site, "both authorities", |status| status["identity"]["authorities"] == 2).await;
    let before = cloud.server.activate_authority(&next).await.unwrap();
    cloud.server.taint_authority(&before).await.unwrap();
    let mut end = svid_end(&status(&site).await);
    for _ in 0..2 {
        end = svid_end(&says(&site, "SVIDs of the new authority", |status| svid_end(status) != end).await);
    }
    cloud.server.revoke_authority(&before).await.unwrap();
    says(&site, "the new authority alone", |status| status["identity"]["authorities"] == 1).await;
    assert_eq!(site.registry().digest("shop/app", "2").await.unwrap(), None, "the pull was over too soon");
    site.wait_for_tag("shop/app", "2", big.root.digest, PULL).await.unwrap();
    arrives(&site, "2", big.root.digest).await;
    assert_eq!(refused(&cloud.world.place.log(), since), Vec::<String>::new());
    assert_eq!(status(&site).await["failed"], serde_json::json!([]));

    // New connections, of the new authority on both sides.
    cloud.link.limit(None);
    let last = publish(&cloud.world, "one", "3", 3, &[10_000]).await;
    arrives(&site, "3", last.root.digest).await;
}
