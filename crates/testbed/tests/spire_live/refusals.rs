//! Who is not let in.

use testbed::files;
use testbed::process::wait_for;
use testbed::spire::{Attestation, Server, ServerOptions};

use crate::cloud::Cloud;
use crate::support::{LIMIT, arrives, asks, publish, svid_client};

#[tokio::test]
async fn a_replayed_join_token_is_refused() {
    let cloud = Cloud::start().await;
    let registered = cloud.register("edge-01").await;
    let attestation = Attestation::JoinToken(registered.join_token.clone());
    let mut first = cloud.edge_agent("first", &registered.trust_bundle, &attestation);
    first.healthy().await.unwrap();
    let second = cloud.edge_agent("second", &registered.trust_bundle, &attestation);
    wait_for("the refusal of the second agent", LIMIT, async || {
        let log = String::from_utf8_lossy(&files::read(&second.log()).ok()?).into_owned();
        (log.contains("token") && (log.contains("InvalidArgument") || log.contains("PermissionDenied")))
            .then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", files::tail(&second.log(), 20)));
    assert!(second.call(&["healthcheck"]).await.is_err());
}

/// A token that was replaced before anybody attested with it: SPIRE cannot take it back, and its agent serves nobody.
#[tokio::test]
async fn a_replaced_join_token_gives_no_satellite_its_identity() {
    let cloud = Cloud::start().await;
    let old = cloud.register("edge-01").await;
    let new = cloud.register("edge-01").await;
    let late = cloud.edge_agent("late", &old.trust_bundle, &Attestation::JoinToken(old.join_token));
    let mut right = cloud.edge_agent("right", &new.trust_bundle, &Attestation::JoinToken(new.join_token));
    right.healthy().await.unwrap();
    wait_for("the right agent's SVID", LIMIT, async || {
        right.call(&["api", "fetch", "x509"]).await.ok().map(drop)
    })
    .await
    .unwrap();
    let served = late.call(&["api", "fetch", "x509"]).await;
    assert!(served.is_err(), "{served:?}");
}

#[tokio::test]
async fn a_foreign_trust_domain_is_refused_at_the_handshake() {
    let cloud = Cloud::start().await;
    cloud.register("edge-01").await;
    let options = ServerOptions { trust_domain: "example.org".into(), ..ServerOptions::default() };
    let foreign = Server::start(&cloud.folder("foreign"), options).await.unwrap();
    let dir = cloud.folder("foreign-svid");
    foreign.mint("spiffe://example.org/satellite/region/us-east/edge-01", "10m", &dir).await.unwrap();
    let read = |name: &str| String::from_utf8(files::read(&dir.join(name)).unwrap()).unwrap();
    let bundle = cloud.server.bundle().await.unwrap();
    let client = svid_client(&read("svid.pem"), &read("key.pem"), &bundle);
    assert_eq!(asks(&client, &format!("{}/ping", cloud.world.place.spiffe_url())).await, None);
}

#[tokio::test]
async fn a_wrong_region_is_refused() {
    let cloud = Cloud::start().await;
    cloud.register("edge-01").await;
    let right = cloud.minted("/satellite/region/us-east/edge-01", "10m").await;
    let wrong = cloud.minted("/satellite/region/us-west/edge-01", "10m").await;
    assert_eq!(asks(&wrong, &cloud.ztr()).await, Some(403));
    assert_eq!(asks(&right, &cloud.ztr()).await, Some(200));
    let unknown = cloud.minted("/satellite/region/us-east/edge-02", "10m").await;
    assert_eq!(
        asks(&unknown, &cloud.ztr()).await,
        Some(403),
        "nobody registered it, and AUTO_REGISTER is deny"
    );
    let agent = cloud.minted("/agent/edge-01", "10m").await;
    assert!(matches!(asks(&agent, &cloud.ztr()).await, Some(401 | 403)));
}

#[tokio::test]
async fn an_expired_identity_is_refused() {
    let cloud = Cloud::start().await;
    cloud.register("edge-01").await;
    let clients = cloud.minted_clients("/satellite/region/us-east/edge-01", "6s").await;
    let client = clients();
    assert_eq!(asks(&client, &cloud.ztr()).await, Some(200));
    let ended = wait_for("the end of the SVID", LIMIT, async || {
        let status = asks(&client, &cloud.ztr()).await;
        (status != Some(200)).then_some(status)
    })
    .await
    .unwrap();
    assert_eq!(ended, Some(401), "during a connection");
    assert_eq!(asks(&clients(), &cloud.ztr()).await, None, "at the handshake");
}

#[tokio::test]
async fn a_revoked_identity_is_refused_and_its_entry_gone() {
    let cloud = Cloud::start().await;
    let image = publish(&cloud.world, "one", "1", 1, &[10_000]).await;
    let (agent, site) = cloud.edge("edge-01").await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    let client = cloud.minted("/satellite/region/us-east/edge-01", "10m").await;
    assert_eq!(asks(&client, &cloud.ztr()).await, Some(200));

    cloud.world.admin.revoke("edge-01").await.unwrap();
    assert_eq!(asks(&client, &cloud.ztr()).await, Some(403), "at once, with a good SVID");
    gone(&cloud, "edge-01").await;
    // The agent served nobody else: it is banned.
    wait_for("the end of the agent", LIMIT, async || {
        (agent.has_ended() || agent.call(&["api", "fetch", "x509"]).await.is_err()).then_some(())
    })
    .await
    .unwrap();
    arrives(&site, "1", image.root.digest).await;
}

#[tokio::test]
async fn a_deleted_identity_is_refused_and_its_entry_gone() {
    let cloud = Cloud::start().await;
    let (_agent, _site) = cloud.edge("edge-01").await;
    let client = cloud.minted("/satellite/region/us-east/edge-01", "10m").await;
    assert_eq!(asks(&client, &cloud.ztr()).await, Some(200));
    cloud.world.admin.delete_satellite("edge-01").await.unwrap();
    assert_eq!(asks(&client, &cloud.ztr()).await, Some(401));
    gone(&cloud, "edge-01").await;
}

async fn gone(cloud: &Cloud, name: &str) {
    let id = format!("spiffe://harbor-satellite.local/satellite/region/us-east/{name}");
    wait_for("the entry's end", LIMIT, async || {
        cloud.server.entries(&id).await.ok()?.contains("Found 0 entries").then_some(())
    })
    .await
    .unwrap();
}
