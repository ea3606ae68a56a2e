//! Revoked and enabled; registrations that are repeated; SPIRE over TCP.

use reqwest::Method;
use serde_json::json;
use testbed::admin::Registered;
use testbed::authority::MachineCertificate;
use testbed::process::wait_for;
use testbed::spire::{Attestation, ServerOptions, own_selector};

use crate::cloud::{Admin, Cloud};
use crate::support::{DOMAIN, LIMIT, arrives, publish, reaches, says};

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

/// Two satellites of one machine: its agent is banned when the last of them is revoked, and may attest again when one is
/// enabled, with the certificate that it has.
#[tokio::test]
async fn an_agent_is_banned_only_when_nobody_needs_it_any_more() {
    let machine = MachineCertificate::new("edge-01").unwrap();
    let options = ServerOptions { x509pop: Some(machine.authority.clone()), ..ServerOptions::default() };
    let cloud = Cloud::start_with(options, Admin::Socket).await;
    let admin = &cloud.world.admin;
    let body = |name: &str, parent: Option<&str>| {
        json!({"satellite_name": name, "selectors": [own_selector()], "attestation_method": "x509pop",
               "parent_agent_id": parent})
    };
    let missing = admin.register_with(&body("edge-01", None)).await;
    assert!(matches!(missing, Err(testbed::Error::Answer { status: 404, .. })), "{missing:?}");

    let bundle = cloud.server.bundle().await.unwrap();
    let attestation = Attestation::X509pop { certificate: machine.certificate, key: machine.key };
    let mut agent = cloud.edge_agent("agent", &bundle, &attestation);
    agent.healthy().await.unwrap();
    let first = admin.register_with(&body("edge-01", None)).await.unwrap();
    assert!(first.parent_agent_id.contains("/spire/agent/x509pop/"), "{}", first.parent_agent_id);
    assert!(first.join_token.is_empty());
    admin.register_with(&body("edge-02", Some(&first.parent_agent_id))).await.unwrap();
    let banned = async || {
        let shown = cloud.server.call(&["agent", "show", "-spiffeID", &first.parent_agent_id]).await.ok()?;
        Some(shown.lines().any(|line| line.contains("Banned") && line.contains("true")))
    };
    let entry_gone = async |name: &str| {
        let id = format!("spiffe://{DOMAIN}/satellite/region/default/{name}");
        wait_for("the entry's end", LIMIT, async || {
            cloud.server.entries(&id).await.ok()?.contains("Found 0 entries").then_some(())
        })
        .await
        .unwrap();
    };
    admin.revoke("edge-01").await.unwrap();
    entry_gone("edge-01").await;
    assert_eq!(banned().await, Some(false), "edge-02 still needs it");
    admin.revoke("edge-02").await.unwrap();
    entry_gone("edge-02").await;
    wait_for("the ban", LIMIT, async || (banned().await == Some(true)).then_some(())).await.unwrap();

    admin.enable("edge-02").await.unwrap();
    wait_for("the end of the ban", LIMIT, async || (banned().await != Some(true)).then_some(()))
        .await
        .unwrap();
    agent.kill().unwrap();
    std::fs::remove_dir_all(cloud.folder("agent")).unwrap();
    let mut agent = cloud.edge_agent("agent", &bundle, &attestation);
    agent.healthy().await.unwrap();
    wait_for("the identity of edge-02", LIMIT, async || {
        let said = agent.call(&["api", "fetch", "x509"]).await.ok()?;
        said.contains("/satellite/region/default/edge-02").then_some(())
    })
    .await
    .unwrap();
}
