//! Revoked and enabled; registrations that are repeated; SPIRE over TCP.

use reqwest::Method;
use testbed::admin::Registered;
use testbed::spire::{Attestation, ServerOptions};

use crate::cloud::{Admin, Cloud};
use crate::support::{arrives, publish, reaches, says};

#[tokio::test]
async fn enabled_it_comes_back_with_a_fresh_join_token() {
    let cloud = Cloud::start().await;
    let image = publish(&cloud.world, "one", "1", 1, &[10_000]).await;
    let (mut agent, site) = cloud.edge("edge-01").await;
    let satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    cloud.world.admin.revoke("edge-01").await.unwrap();
    says(&site, "the refusal", |status| status["registration"]["state"] == "refused").await;
    let next = publish(&cloud.world, "one", "2", 2, &[10_000]).await;

    let enabled = Registered::read(&cloud.world.admin.enable("edge-01").await.unwrap()).unwrap();
    assert_eq!(cloud.world.admin.satellite("edge-01").await.unwrap()["state"], "pending");
    agent.kill().unwrap();
    satellite.stop().await.unwrap();
    let attestation = Attestation::JoinToken(enabled.join_token);
    let mut agent = cloud.edge_agent("second-agent", &enabled.trust_bundle, &attestation);
    agent.healthy().await.unwrap();
    let site = cloud.site("edge-01", &agent);
    let _satellite = site.start().await.unwrap();
    arrives(&site, "2", next.root.digest).await;
    reaches(&cloud.world, "edge-01", "online").await;
}

#[tokio::test]
async fn a_registration_can_be_repeated() {
    let cloud = Cloud::start().await;
    let (mut agent, site) = cloud.edge("edge-01").await;
    let satellite = site.start().await.unwrap();
    reaches(&cloud.world, "edge-01", "online").await;
    let again = cloud.register("edge-01").await;
    let id = again.spiffe_id.clone();
    let entries = cloud.server.entries(&id).await.unwrap();
    assert!(entries.contains("Found 1 entry"), "{entries}");
    // With the new token a new agent serves the same satellite.
    agent.kill().unwrap();
    satellite.stop().await.unwrap();
    let attestation = Attestation::JoinToken(again.join_token);
    let mut agent = cloud.edge_agent("again", &again.trust_bundle, &attestation);
    agent.healthy().await.unwrap();
    let image = publish(&cloud.world, "one", "1", 1, &[10_000]).await;
    let site = cloud.site("edge-01-again", &agent);
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
}

/// Ground Control reaches SPIRE's server with its own SVID instead of the socket.
#[tokio::test]
async fn the_server_over_tcp() {
    let cloud = Cloud::start_with(ServerOptions::default(), Admin::Tcp).await;
    let status = cloud.world.admin.call(Method::GET, "/api/spire/status", None).await.unwrap();
    assert_eq!(
        (status["connected"].as_bool(), status["provider"].as_str()),
        (Some(true), Some("sidecar")),
        "{status}\n{}\n{}",
        testbed::files::tail(&cloud.world.place.log(), 20),
        testbed::files::tail(&cloud.server.log(), 20)
    );
    let image = publish(&cloud.world, "one", "1", 1, &[10_000]).await;
    let (_agent, site) = cloud.edge("edge-01").await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    let agents =
        cloud.world.admin.call(Method::GET, "/api/spire/agents?attestation_type=join_token", None).await;
    assert_eq!(agents.unwrap()["agents"].as_array().unwrap().len(), 2, "Ground Control's own and the edge's");
}
