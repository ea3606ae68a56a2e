//! Groups that follow Harbor: its webhook policies, and what its listing tells.

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testbed::image;
use testbed::registry::Registry;

use crate::support::{As, Server};
use crate::{Harbor, PASSWORD, eventually};

/// Looks again at once, and not in ten minutes.
const OFTEN: (&str, &str) = ("SWEEP_INTERVAL", "1s");

async fn set(server: &Server, artifacts: Value) {
    let body = json!({"group": "east", "artifacts": artifacts});
    server.admin("POST", "/api/groups/sync", Some(body)).await.expect(200);
}

/// The policies of a project as Harbor shows them.
fn policies(harbor: &Harbor, project: &str) -> Vec<Value> {
    let world = harbor.stand_in.world();
    let id = world.projects.iter().find(|p| p.name == project).unwrap().id;
    world.policies.iter().filter(|policy| policy.project == id).map(|policy| policy.shown.clone()).collect()
}

async fn webhooks(server: &Server) -> Value {
    let ready = server.send(As::Nobody, "GET", "/health/ready", None).await.expect(200).body;
    ready["registry"]["webhooks"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_project_has_a_policy_that_is_kept() {
    let harbor = Harbor::start().await;
    let more = [OFTEN, ("HARBOR_WEBHOOK_URL", "https://gc.example.com")];
    let server = harbor.ground_control_as("admin", PASSWORD, &more).await;
    set(
        &server,
        json!([{"repository": "apps/web", "tag": "1"}, {"repository": "library/nginx", "tag": "1"}]),
    )
    .await;
    let secret = server.running.state.hooks.secret.expose_secret().to_owned();
    let is_good = |policy: &Value| {
        policy["name"] == "harbor-satellite"
            && policy["enabled"] == true
            && policy["targets"][0]["address"] == "https://gc.example.com/hooks/harbor"
            && policy["targets"][0]["auth_header"] == secret.as_str()
    };
    for project in ["apps", "library"] {
        eventually("a policy", async || policies(&harbor, project).iter().any(is_good).then_some(())).await;
    }
    eventually("it is shown", async || (webhooks(&server).await["kept"] == 2).then_some(())).await;

    // What somebody changed is repaired.
    harbor.stand_in.world().policies[0].shown["enabled"] = json!(false);
    eventually("it is repaired", async || {
        let all: Vec<Value> =
            ["apps", "library"].iter().flat_map(|project| policies(&harbor, project)).collect();
        (all.len() == 2 && all.iter().all(is_good)).then_some(())
    })
    .await;

    // A project that no group names any more has none; Harbor may be busy with the last deliveries.
    harbor.stand_in.world().busy_policies = 1;
    set(&server, json!([{"repository": "apps/web", "tag": "1"}])).await;
    eventually("it goes", async || policies(&harbor, "library").is_empty().then_some(())).await;
    assert_eq!(policies(&harbor, "apps").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_may_not_make_policies_it_sweeps_and_says_so() {
    let harbor = Harbor::start().await;
    let (name, secret) = harbor.operator().await;
    let server = harbor.ground_control_as(&name, &secret, &[OFTEN]).await;
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::basic(&harbor.stand_in.url(), "admin", PASSWORD);
    let first = image::random(&dir.path().join("1"), 1, &[64]).unwrap();
    registry.push("apps/web", "1.0.0", &first).await.unwrap();
    set(&server, json!([{"repository": "apps/web", "match": {"semver": "^1"}}])).await;
    let told = eventually("it is said", async || {
        let told = webhooks(&server).await;
        (told["forbidden"] == 1).then_some(told)
    })
    .await;
    assert!(told["reason"].as_str().unwrap().contains("apps"), "{told}");
    let second = image::random(&dir.path().join("2"), 2, &[64]).unwrap();
    registry.push("apps/web", "1.1.0", &second).await.unwrap();
    eventually("the sweep finds it", async || {
        let group = server.admin("GET", "/api/groups/east", None).await.expect(200).body;
        let resolved = group["resolutions"][0]["resolved"][0].clone();
        (resolved["tag"] == "1.1.0" && resolved["digest"] == second.root.digest.to_string()).then_some(())
    })
    .await;
}

/// An empty list is what Harbor answers for what it lost, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_harbor_lost_stays_resolved() {
    let harbor = Harbor::start().await;
    let server = harbor.ground_control_as("admin", PASSWORD, &[OFTEN]).await;
    let dir = tempfile::tempdir().unwrap();
    let made = image::random(&dir.path().join("1"), 1, &[64]).unwrap();
    let registry = Registry::basic(&harbor.stand_in.url(), "admin", PASSWORD);
    registry.push("apps/web", "main-1", &made).await.unwrap();
    set(&server, json!([{"repository": "apps/web", "match": {"glob": "main-*"}}])).await;
    let resolution = async || {
        let group = server.admin("GET", "/api/groups/east", None).await.expect(200).body;
        group["resolutions"][0].clone()
    };
    eventually("it is found", async || resolution().await["resolved_at"].is_string().then_some(())).await;
    harbor.stand_in.world().repositories.clear();
    let lost = eventually("it is missed", async || {
        let now = resolution().await;
        now["unresolved"].is_object().then_some(now)
    })
    .await;
    assert_eq!(lost["resolved"][0]["digest"], made.root.digest.to_string());
    assert_eq!(lost["unresolved"]["reason"], "none of the 0 tags of apps/web matches glob main-*");
}
