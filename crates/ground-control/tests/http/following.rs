//! Groups that follow the built-in registry: tags and rules become digests, and pushes are heard of at once.

use std::time::Duration;

use oci::Digest;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::image::{self, Image};
use testbed::registry::Registry;

use crate::program::{Program, program};
use crate::support::{ADMIN_PASSWORD, As, Server, answer};

fn registry(server: &Server) -> Registry {
    Registry::basic(&server.url(""), "admin", ADMIN_PASSWORD)
}

/// An image that differs by its seed.
fn made(dir: &TempDir, seed: u64) -> Image {
    image::random(&dir.path().join(seed.to_string()), seed, &[64]).unwrap()
}

async fn set(server: &Server, artifacts: Value) {
    let body = json!({"group": "east", "artifacts": artifacts});
    server.admin("POST", "/api/groups/sync", Some(body)).await.expect(200);
}

/// The group, as soon as `done` holds for what its list stands for.
async fn until(server: &Server, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let group = server.admin("GET", "/api/groups/east", None).await.expect(200).body;
        if done(&group["resolutions"]) {
            return group;
        }
        assert!(tokio::time::Instant::now() < deadline, "{group:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The artifacts of the group's published document, as soon as `done` holds for them.
async fn document(server: &Server, done: impl Fn(&Value) -> bool) -> Value {
    let registry = registry(server);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let manifest = registry.manifest("satellite/group-state/east/state", "latest").await.unwrap();
        let artifacts = match manifest {
            Some(manifest) => artifacts_of(server, &manifest.bytes).await,
            None => Value::Null,
        };
        if done(&artifacts) {
            return artifacts;
        }
        assert!(tokio::time::Instant::now() < deadline, "{artifacts:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn artifacts_of(server: &Server, manifest: &[u8]) -> Value {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let url = server.url(&format!("/v2/satellite/group-state/east/state/blobs/{layer}"));
    let response = server.client.get(url).basic_auth("admin", Some(ADMIN_PASSWORD)).send().await.unwrap();
    let bytes = response.bytes().await.unwrap();
    let document = fleet_protocol::state_image::decode_layer(&bytes).unwrap();
    document["artifacts"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_becomes_its_digest_and_moves_with_it() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let (first, second) = (made(&dir, 1), made(&dir, 2));
    let registry = registry(&server);
    registry.push("library/nginx", "stable", &first).await.unwrap();
    set(&server, json!([{"repository": "library/nginx", "tag": "stable", "platforms": ["linux/amd64"]}]))
        .await;
    let digest = |image: &Image| Value::from(image.root.digest.to_string());
    // It is written once, with the digest: nobody sees it without.
    let told = document(&server, |artifacts| artifacts.is_array()).await;
    assert_eq!((&told[0]["digest"], &told[0]["tag"]), (&digest(&first), &json!(["stable"])));
    assert_eq!(told[0]["platforms"], json!(["linux/amd64"]));
    let referrers = told[0]["referrers"].clone();
    assert!(referrers.is_string(), "{told}");

    registry.push("library/nginx", "stable", &second).await.unwrap();
    let told = document(&server, |artifacts| artifacts[0]["digest"] == digest(&second)).await;
    assert_eq!(told[0]["referrers"], referrers, "nothing refers to either");

    // What refers to it from now on makes another document, and so does what refers to that.
    let signature =
        image::referrer(&second.layout, &second.root, image::SIGNATURE_TYPE, b"signed by ann").unwrap();
    registry.push_graph("library/nginx", None, &second.layout, &signature).await.unwrap();
    let told = document(&server, |artifacts| artifacts[0]["referrers"] != referrers).await;
    let once = told[0]["referrers"].clone();
    let counter = image::referrer(&second.layout, &signature, image::SIGNATURE_TYPE, b"seen by bob").unwrap();
    registry.push_graph("library/nginx", None, &second.layout, &counter).await.unwrap();
    let told = document(&server, |artifacts| artifacts[0]["referrers"] != once).await;
    assert_eq!(told[0]["digest"], digest(&second));

    // The tag goes, and nothing goes with it.
    let admin = As::Basic("admin", ADMIN_PASSWORD);
    let gone = server.send(admin, "DELETE", "/v2/library/nginx/manifests/stable", None).await;
    assert_eq!(gone.status.as_u16(), 202, "{gone:?}");
    let group = until(&server, |all| !all[0]["unresolved"].is_null()).await;
    let resolution = &group["resolutions"][0];
    assert_eq!(resolution["unresolved"]["reason"], "library/nginx has no tag stable");
    assert_eq!(resolution["resolved"][0]["digest"], digest(&second));
    let still = document(&server, |artifacts| artifacts.is_array()).await;
    assert_eq!(still, told);
    assert_eq!(group["artifacts"][0]["digest"], Value::Null, "the list is what people said");
    let revisions = server.admin("GET", "/api/groups/east/revisions", None).await.expect(200);
    assert_eq!(revisions.header("x-total-count"), "1");
    // A person's change takes it away.
    set(&server, json!([])).await;
    document(&server, |artifacts| artifacts == &json!([])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_keeps_the_newest() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    let registry = registry(&server);
    for (seed, tag) in [(1, "1.2.0"), (2, "v1.10.0"), (3, "2.0.0"), (4, "1.11.0-rc.1"), (5, "latest")] {
        registry.push("library/nginx", tag, &made(&dir, seed)).await.unwrap();
    }
    set(
        &server,
        json!([
            {"repository": "library/nginx", "match": {"semver": "^1.2"}, "keep": 2},
            {"repository": "library/none", "match": {"glob": "*"}},
        ]),
    )
    .await;
    let group =
        until(&server, |all| all[1]["unresolved"].is_object() && !all[0]["resolved_at"].is_null()).await;
    let tags = |resolution: &Value| -> Vec<String> {
        let all = resolution["resolved"].as_array().unwrap();
        all.iter().map(|resolved| resolved["tag"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(tags(&group["resolutions"][0]), ["v1.10.0", "1.2.0"]);
    assert_eq!(group["resolutions"][0]["match"], json!({"semver": "^1.2"}));
    let reason = group["resolutions"][1]["unresolved"]["reason"].as_str().unwrap();
    assert_eq!(reason, "none of the 0 tags of library/none matches glob *");
    registry.push("library/nginx", "1.12.0", &made(&dir, 6)).await.unwrap();
    let told = document(&server, |artifacts| artifacts[0]["tag"] == json!(["1.12.0"])).await;
    assert_eq!((told.as_array().unwrap().len(), &told[1]["tag"]), (2, &json!(["v1.10.0"])));
    assert!(told[0]["match"].is_null() && told[0]["keep"].is_null(), "{told}");

    let refused =
        json!({"group": "east", "artifacts": [{"repository": "a/b", "match": {"semver": "newest"}}]});
    let answer = server.admin("POST", "/api/groups/sync", Some(refused)).await.expect(400);
    assert!(answer.body["message"].as_str().unwrap().contains("Cargo"), "{answer:?}");
}

/// The word of a webhook is a hint: what it says is not believed, and where nobody follows it nothing happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_wakes_with_its_secret_alone() {
    let (server, dir) = (Server::start().await, tempfile::tempdir().unwrap());
    registry(&server).push("library/nginx", "stable", &made(&dir, 1)).await.unwrap();
    set(&server, json!([{"repository": "library/nginx", "tag": "stable"}])).await;
    until(&server, |all| !all[0]["resolved_at"].is_null()).await;
    let secret = server.running.state.hooks.secret.clone();
    let post = async |authorization: &str, body: Value| {
        let request = server.client.post(server.url("/hooks/harbor")).json(&body);
        answer(request.header("Authorization", authorization).send().await.unwrap()).await
    };
    let told = json!({"type": "PUSH_ARTIFACT", "event_data": {
        "resources": [{"digest": Digest::sha256(b"lie").to_string(), "tag": "stable"}],
        "repository": {"name": "nginx", "namespace": "library", "repo_full_name": "library/nginx"},
    }});
    for wrong in ["", "hook", &format!("Bearer {}", secret.expose_secret())] {
        post(wrong, told.clone()).await.expect(401);
    }
    // The registry changes without a word from itself, as another one does.
    let blobs = server.running.state.registry.blobs().unwrap();
    let repository = "library/nginx".parse().unwrap();
    blobs.delete_tag(&repository, &"stable".parse().unwrap()).await.unwrap();
    for other in [
        json!({}),
        json!({"type": "DELETE_ARTIFACT", "event_data": {"repository": {"repo_full_name": "../etc"}}}),
        json!({"event_data": {"repository": {"repo_full_name": "no/body"}}}),
    ] {
        post(secret.expose_secret(), other).await.expect(200);
    }
    post(secret.expose_secret(), told).await.expect(200);
    until(&server, |all| !all[0]["unresolved"].is_null()).await;
    let large = json!({"type": "x".repeat(2 * 1024 * 1024)});
    post(secret.expose_secret(), large).await.expect(413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapter_adds_to_its_group_and_to_no_other() {
    let server = Server::start().await;
    set(&server, json!([{"repository": "library/nginx", "tag": "stable"}])).await;
    server.group("west", "library/alpine").await;
    let path = "/api/groups/east/replication-secret";
    let url = server.admin("POST", path, None).await.expect(200).body["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&server.url("/hooks/replication/")), "{url}");
    let digest = Digest::sha256(b"pushed").to_string();
    let pushed = json!([{"repository": "library/redis", "tag": ["7"], "type": "IMAGE", "labels": [{"name": "x"}], "digest": digest}]);
    let post = async |url: &str, group: &str, artifacts: &Value| {
        let body = json!({"group": group, "registry": "https://elsewhere", "artifacts": artifacts});
        answer(server.client.post(url).json(&body).send().await.unwrap()).await
    };
    post(&url, "east", &pushed).await.expect(200);
    post(&url, "east", &pushed).await.expect(200);
    let group = server.admin("GET", "/api/groups/east", None).await.expect(200).body;
    assert_eq!(group["artifacts"].as_array().unwrap().len(), 2);
    assert_eq!(group["artifacts"][1]["digest"], digest.as_str());
    let revisions = server.admin("GET", "/api/groups/east/revisions", None).await.expect(200).body;
    let authors: Vec<&str> =
        revisions.as_array().unwrap().iter().map(|r| r["author"].as_str().unwrap()).collect();
    assert_eq!(authors, ["replication", "admin"]);

    // Another group is refused by name, a removal does nothing, a rule is people's.
    let refused = post(&url, "west", &pushed).await.expect(403);
    assert!(refused.body["message"].as_str().unwrap().contains("the group east only"), "{refused:?}");
    let mut removal = pushed.clone();
    removal[0]["deleted"] = json!(true);
    post(&url, "east", &removal).await.expect(200);
    let rule = json!([{"repository": "library/redis", "match": {"glob": "*"}}]);
    post(&url, "east", &rule).await.expect(400);
    let state = json!([{"repository": "satellite/group-state/west/state", "tag": "latest"}]);
    post(&url, "east", &state).await.expect(400);
    for name in ["east", "west"] {
        let group = server.admin("GET", &format!("/api/groups/{name}"), None).await.expect(200).body;
        let repositories: Vec<&str> = group["artifacts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["repository"].as_str().unwrap())
            .collect();
        let expected =
            if name == "east" { vec!["library/nginx", "library/redis"] } else { vec!["library/alpine"] };
        assert_eq!(repositories, expected);
    }
    // A new secret ends the old one.
    let next = server.admin("POST", path, None).await.expect(200).body["url"].as_str().unwrap().to_owned();
    post(&url, "east", &pushed).await.expect(404);
    post(&next, "east", &pushed).await.expect(200);
    server.admin("DELETE", path, None).await.expect(200);
    post(&next, "east", &pushed).await.expect(404);
    server.send(As::Nobody, "POST", path, None).await.expect(401);
}

/// Whoever reads the log, at its most talkative, does not learn the way into a group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adapters_secret_is_in_no_line_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(dir.path());
    command.env("ADMIN_PASSWORD", ADMIN_PASSWORD).env("LOG_LEVEL", "trace").env("JSON_LOGGING", "true");
    let running = Program::start(command);
    let (listening, mut lines) = running.until("listening");
    let url = listening["url"].as_str().unwrap().to_owned();
    let client = crate::support::client();
    let as_admin = |path: &str| client.post(format!("{url}{path}")).basic_auth("admin", Some(ADMIN_PASSWORD));
    let group = json!({"group": "east", "artifacts": []});
    answer(as_admin("/api/groups/sync").json(&group).send().await.unwrap()).await.expect(200);
    let made =
        answer(as_admin("/api/groups/east/replication-secret").send().await.unwrap()).await.expect(200);
    let hook = made.body["url"].as_str().unwrap();
    let secret = hook.rsplit('/').next().unwrap();
    for (group, status) in [("east", 200), ("west", 403)] {
        let body = json!({"group": group, "artifacts": [{"repository": "a/b", "tag": "1"}]});
        answer(client.post(hook).json(&body).send().await.unwrap()).await.expect(status);
    }
    answer(client.post(format!("{hook}x")).json(&group).send().await.unwrap()).await.expect(404);
    running.signal(rustix::process::Signal::TERM);
    let (_, more) = running.until("stopped");
    lines.extend(more);
    assert!(lines.iter().any(|line| line.contains("/hooks/replication/{secret}")), "the route is told");
    assert!(lines.iter().all(|line| !line.contains(secret)), "the secret is not");
}
