//! Agents and servers that stop and come back.

use testbed::spire::ServerOptions;

use crate::cloud::{Admin, Cloud};
use crate::support::{arrives, publish, says, svid_end};

#[tokio::test]
async fn the_agent_stops_and_comes_back() {
    // Its agent's own SVID outlives the pause; those of workloads do not.
    let options = ServerOptions { svid_ttl: "20s".into(), ..ServerOptions::default() };
    let cloud = Cloud::start_with(options, Admin::Socket).await;
    let image = publish(&cloud.world, "one", "1", 1, &[10_000]).await;
    let (mut agent, site) = cloud.edge("edge-01").await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;

    agent.kill().unwrap();
    // What it holds is good to its end.
    let next = publish(&cloud.world, "one", "2", 2, &[10_000]).await;
    arrives(&site, "2", next.root.digest).await;
    // Then it fails closed, says so, and serves on.
    let status = says(&site, "the end of its SVID", |status| status["identity"]["problem"].is_string()).await;
    let before = svid_end(&status);
    arrives(&site, "2", next.root.digest).await;

    agent.resume().unwrap();
    says(&site, "a new SVID", |status| svid_end(status) != before && status["identity"]["problem"].is_null())
        .await;
    let last = publish(&cloud.world, "one", "3", 3, &[10_000]).await;
    arrives(&site, "3", last.root.digest).await;
}

#[tokio::test]
async fn the_agent_beside_ground_control_stops_and_comes_back() {
    let mut cloud = Cloud::start().await;
    let image = publish(&cloud.world, "one", "1", 1, &[10_000]).await;
    let (_agent, site) = cloud.edge("edge-01").await;
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    cloud.agent.kill().unwrap();
    cloud.server.kill().unwrap();
    let next = publish(&cloud.world, "one", "2", 2, &[10_000]).await;
    arrives(&site, "2", next.root.digest).await;
    // What needs the server says so; what is in the database alone goes on.
    let body = serde_json::json!({"satellite_name": "edge-02", "selectors": ["unix:uid:0"]});
    assert!(cloud.world.admin.register_with(&body).await.is_err());
    assert!(cloud.world.admin.satellite("edge-02").await.is_err(), "all or nothing");
    cloud.server.resume().await.unwrap();
    cloud.agent.resume().unwrap();
    cloud.agent.healthy().await.unwrap();
    testbed::process::wait_for("a registration", crate::support::LIMIT, async || {
        cloud.world.admin.register_with(&body).await.ok().map(drop)
    })
    .await
    .unwrap();
}
