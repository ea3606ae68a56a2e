//! A stock agent and the authority that is built into Ground Control.

use serde_json::json;
use testbed::files;
use testbed::process::wait_for;
use testbed::spire::{Agent, Attestation, own_selector};

use crate::support::{DOMAIN, LIMIT, arrives, builtin, publish, reaches, says};

#[tokio::test]
async fn a_stock_agent_attests_to_the_built_in_authority_and_a_satellite_works_from_it() {
    let world = builtin().await;
    let image = publish(&world, "one", "1", 1, &[100_000]).await;
    let body = json!({"satellite_name": "edge-01", "region": "us-east", "selectors": [own_selector()],
                      "attestation_method": "join_token", "groups": ["one"]});
    let registered = world.admin.register_with(&body).await.unwrap();
    let port = world.place.agents_port().unwrap();
    let attestation = Attestation::JoinToken(registered.join_token.clone());
    let folder = world.dir().join("agent");
    let mut agent = Agent::start(&folder, DOMAIN, port, &registered.trust_bundle, &attestation).unwrap();
    agent.healthy().await.unwrap();
    let site = world.site_with_workload_api("edge-01", &agent.socket(), &[]).unwrap();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    let status = says(&site, "its identity", |status| status["identity"]["spiffe_id"].is_string()).await;
    assert_eq!(status["identity"]["source"], "workload_api");
    assert_eq!(
        status["identity"]["spiffe_id"],
        format!("spiffe://{DOMAIN}/satellite/region/us-east/edge-01")
    );
    reaches(&world, "edge-01", "online").await;
    let agents = world.admin.call(reqwest::Method::GET, "/api/spire/agents", None).await.unwrap();
    assert_eq!(agents["agents"].as_array().unwrap().len(), 1, "{agents}");
    assert_eq!(agents["agents"][0]["attestation_type"], "join_token");

    // Restarted with what is on its disk, it needs no token; another one with the same token gets nothing.
    agent.kill().unwrap();
    agent.resume().unwrap();
    agent.healthy().await.unwrap();
    let next = publish(&world, "one", "2", 2, &[20_000]).await;
    arrives(&site, "2", next.root.digest).await;
    let thief =
        Agent::start(&world.dir().join("thief"), DOMAIN, port, &registered.trust_bundle, &attestation)
            .unwrap();
    wait_for("the refusal of the second agent", LIMIT, async || thief.has_ended().then_some(()))
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", files::tail(&thief.log(), 20)));

    // Revoked: neither the agent nor its satellite is anybody.
    world.admin.revoke("edge-01").await.unwrap();
    says(&site, "the refusal", |status| status["registration"]["state"] == "refused").await;
    arrives(&site, "2", next.root.digest).await;
}
