//! From a registration to a replicated image.

use reqwest::Method;
use testbed::files;
use testbed::ground_control::Place;
use testbed::world::World;

use crate::support::{DOMAIN, LIMIT, arrives, builtin, builtin_behind_link, publish, reaches, says};

/// The flow of the design: a join token and a trust bundle travel to the edge as files, nothing else; the SVID is earned
/// with them, registration, state and image come over mTLS.
#[tokio::test]
async fn from_a_join_token_to_the_first_image() {
    let world = builtin().await;
    let image = publish(&world, "us-east-group", "1", 1, &[200_000, 50_000]).await;
    let site = world.site_with_svid("edge-01", "us-east", &["us-east-group"], &[]).await.unwrap();
    let satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;

    let id = format!("spiffe://{DOMAIN}/satellite/region/us-east/edge-01");
    let status = says(&site, "its identity", |status| status["identity"]["spiffe_id"] == id.as_str()).await;
    assert_eq!(status["identity"]["source"], "builtin", "{status:#}");
    assert_eq!(status["registration"]["state"], "registered", "{status:#}");
    let seen = reaches(&world, "edge-01", "online").await;
    assert_eq!((seen["spiffe_id"].as_str(), seen["region"].as_str()), (Some(id.as_str()), Some("us-east")));

    // Nothing went over the listener that asks for no SVID: its registry URLs are those of the SVID's address.
    let log = String::from_utf8(files::read(&site.log()).unwrap()).unwrap();
    assert!(!log.contains(&world.place.url()), "the satellite used {}:\n{log}", world.place.url());

    // The identity outlives the process: no second token is needed.
    satellite.stop().await.unwrap();
    std::fs::remove_file(site.join_token_file()).unwrap();
    let next = publish(&world, "us-east-group", "2", 2, &[30_000]).await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, "2", next.root.digest).await;
}

/// People and their clients need no SVID, on either listener; Ground Control tells what it does.
#[tokio::test]
async fn people_need_no_svid() {
    let world = builtin().await;
    let status = world.admin.call(Method::GET, "/api/spire/status", None).await.unwrap();
    assert_eq!(status["enabled"], true);
    assert_eq!(status["provider"], "builtin");
    assert_eq!(status["trust_domain"], DOMAIN);
    assert_eq!(status["connected"], true);
    let registered = world.admin.register("edge-01", "default", &[]).await.unwrap();
    let hand = crate::support::Hand::new(world.place.spiffe_url(), &registered);
    for (path, wanted) in [("/ping", 200), ("/health", 200), ("/v2/", 401), ("/api/satellites", 401)] {
        let url = format!("{}{path}", world.place.spiffe_url());
        assert_eq!(crate::support::asks(&hand.bootstrap(), &url).await, Some(wanted), "{path}");
    }
    // A registration token and Basic go on working beside SPIFFE, on the other listener.
    let image = publish(&world, "one", "1", 1, &[10_000]).await;
    let mut site = world.site("edge-02", &["one"], None).await.unwrap();
    site.set_ground_control_url(world.place.url());
    let _satellite = site.start().await.unwrap();
    testbed::process::wait_for("edge-02 registered", LIMIT, async || {
        (world.admin.satellite("edge-02").await.ok()?["state"] == "online").then_some(())
    })
    .await
    .unwrap();
    drop(image);
}

/// Only scheme, host and port of the Ground Control URL are checked by SPIFFE ID. The same server at another port, with
/// the same SVID, is a server of the web there, and its certificate is none of the web's.
#[tokio::test]
async fn a_registry_elsewhere_is_no_spiffe_peer() {
    let (world, link) = builtin_behind_link(None).await;
    let image = publish(&world, "one", "1", 1, &[20_000]).await;
    // Ground Control is asked directly, its registry has the link's address.
    let mut site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    let satellite = site.start().await.unwrap();
    says(&site, "its registration", |status| status["registration"]["state"] == "registered").await;
    let status = says(&site, "the refused registry", |status| {
        let error = status["schedulers"]["replication"]["last_error"].as_str();
        error.is_some() || status["desired"]["error"].is_string()
    })
    .await;
    assert!(status.to_string().to_lowercase().contains("certificate"), "{status:#}");
    assert_eq!(site.registry().digest("shop/app", "1").await.unwrap(), None);
    assert!(link.connections() > 0);
    satellite.stop().await.unwrap();

    // With the link as the address of both, it is.
    site.set_ground_control_url(link.url());
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
}

/// A registry URL of the listener that asks for no SVID serves satellites with one, too.
#[tokio::test]
async fn a_registry_on_the_other_listener_takes_the_robots_account() {
    let options = testbed::ground_control::Options { spiffe: true, ..Default::default() };
    let world = World::start_prepared(options, async |place: &mut Place| {
        place.set_public_registry_url(place.url());
        Ok(())
    })
    .await
    .unwrap();
    let image = publish(&world, "one", "1", 1, &[20_000]).await;
    let site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
}
