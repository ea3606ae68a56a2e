//! The built-in registry's accounts: tokens, roles, what a robot sees, and documents as they are published.

use oci::Digest;
use serde_json::{Value, json};

use crate::support::{ADMIN_PASSWORD, Answer, As, DIGEST, Server, answer};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Pushes an image without layers; the answer is its digest.
async fn push(server: &Server, who: As<'_>, repository: &str, tag: &str) -> Result<String, Answer> {
    let config = b"{}";
    let digest = Digest::sha256(config);
    let start = server.send(who, "POST", &format!("/v2/{repository}/blobs/uploads/"), None).await;
    if start.status != 202 {
        return Err(start);
    }
    let location = start.header("location");
    let separator = if location.contains('?') { '&' } else { '?' };
    let location = format!("{location}{separator}digest={digest}");
    let url = if location.starts_with("http") { location } else { server.url(&location) };
    let put = with(server.client.put(url), who).header("Content-Type", "application/octet-stream");
    answer(put.body(config.to_vec()).send().await.unwrap()).await.expect(201);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest.to_string(), "size": 2},
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::sha256(&bytes).to_string();
    let put = with(server.client.put(server.url(&format!("/v2/{repository}/manifests/{tag}"))), who);
    answer(put.header("Content-Type", MANIFEST).body(bytes).send().await.unwrap()).await.expect(201);
    Ok(digest)
}

fn with(request: reqwest::RequestBuilder, who: As<'_>) -> reqwest::RequestBuilder {
    match who {
        As::Nobody => request,
        As::Session(token) => request.bearer_auth(token),
        As::Basic(name, password) => request.basic_auth(name, Some(password)),
    }
}

async fn token(server: &Server, who: As<'_>, scopes: &[&str]) -> Answer {
    let query: Vec<(&str, &str)> = [("service", "ground-control")]
        .into_iter()
        .chain(scopes.iter().map(|scope| ("scope", *scope)))
        .collect();
    let request = with(server.client.get(server.url("/service/token")), who).query(&query);
    answer(request.send().await.unwrap()).await
}

async fn bearer(server: &Server, who: As<'_>, scopes: &[&str]) -> String {
    let answer = token(server, who, scopes).await.expect(200);
    assert_eq!(answer.body["token"], answer.body["access_token"]);
    assert_eq!(answer.body["expires_in"], 300);
    answer.body["token"].as_str().unwrap().to_owned()
}

const ADMIN: As<'static> = As::Basic("admin", ADMIN_PASSWORD);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_sent_to_the_token_service_of_the_configured_url() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir, &[("PUBLIC_REGISTRY_URL", "https://gc.example.com")]).await;
    let challenge = async |method: &str, path: &str| {
        let request =
            server.client.request(method.parse().unwrap(), server.url(path)).header("Host", "evil.example");
        let refused = answer(request.send().await.unwrap()).await.expect(401);
        assert_eq!(refused.body["errors"][0]["code"], "UNAUTHORIZED");
        refused.header("www-authenticate").to_owned()
    };
    let bare = "Bearer realm=\"https://gc.example.com/service/token\",service=\"ground-control\"";
    assert_eq!(challenge("GET", "/v2/").await, bare);
    assert_eq!(
        challenge("GET", "/v2/library/nginx/manifests/latest").await,
        format!("{bare},scope=\"repository:library/nginx:pull\"")
    );
    assert_eq!(
        challenge("POST", "/v2/library/nginx/blobs/uploads/").await,
        format!("{bare},scope=\"repository:library/nginx:pull,push\"")
    );
    assert_eq!(challenge("GET", "/v2/_catalog").await, format!("{bare},scope=\"registry:catalog:*\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_push_pull_and_delete_as_their_role_says() {
    let server = Server::start().await;
    server.person("vera", "viewer").await;
    server.person("adam", "admin").await;
    let (viewer, admin) = (As::Basic("vera", ADMIN_PASSWORD), As::Basic("adam", ADMIN_PASSWORD));
    for who in [viewer, admin, ADMIN] {
        server.send(who, "GET", "/v2/", None).await.expect(200);
    }
    let digest = push(&server, admin, "library/nginx", "latest").await.unwrap();
    let manifest = format!("/v2/library/nginx/manifests/{digest}");
    server.send(viewer, "GET", &manifest, None).await.expect(200);
    let catalog = server.send(viewer, "GET", "/v2/_catalog", None).await.expect(200).body;
    assert!(catalog["repositories"].as_array().unwrap().contains(&json!("library/nginx")));
    let refused = push(&server, viewer, "library/nginx", "latest").await.unwrap_err().expect(403);
    assert_eq!(refused.body["errors"][0]["code"], "DENIED");
    server.send(viewer, "DELETE", &manifest, None).await.expect(403);
    server.send(As::Nobody, "GET", &manifest, None).await.expect(401);
    // State documents are the publisher's: read by people, written by none of them.
    server.published().await;
    let state = "/v2/satellite/config-state/default/state/manifests/latest";
    server.send(viewer, "GET", state, None).await.expect(200);
    push(&server, ADMIN, "satellite/config-state/default/state", "latest").await.unwrap_err().expect(403);
    server.send(ADMIN, "DELETE", state, None).await.expect(403);
    server.send(admin, "DELETE", &manifest, None).await.expect(202);
    server.send(viewer, "GET", &manifest, None).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_what_was_asked_and_permitted() {
    let server = Server::start().await;
    server.person("vera", "viewer").await;
    push(&server, ADMIN, "library/nginx", "latest").await.unwrap();
    let path = "/v2/library/nginx/manifests/latest";
    let pull =
        bearer(&server, As::Basic("vera", ADMIN_PASSWORD), &["repository:library/nginx:pull,push"]).await;
    server.send(As::Session(&pull), "GET", "/v2/", None).await.expect(200);
    server.send(As::Session(&pull), "GET", path, None).await.expect(200);
    push(&server, As::Session(&pull), "library/nginx", "x").await.unwrap_err().expect(403);
    // The account may, this token not: the client is told what to ask for.
    let other =
        server.send(As::Session(&pull), "GET", "/v2/library/alpine/manifests/latest", None).await.expect(401);
    assert!(other.header("www-authenticate").contains("scope=\"repository:library/alpine:pull\""));
    server.send(As::Session(&pull), "GET", "/v2/_catalog", None).await.expect(401);
    let catalog = bearer(&server, ADMIN, &["registry:catalog:*"]).await;
    server.send(As::Session(&catalog), "GET", "/v2/_catalog", None).await.expect(200);
    let both = bearer(&server, ADMIN, &["repository:a:pull,push repository:library/nginx:pull"]).await;
    push(&server, As::Session(&both), "a", "latest").await.unwrap();
    server.send(As::Session(&both), "GET", path, None).await.expect(200);

    // A mount with a token for its target alone: the client is told that the source needs one, too.
    let target = bearer(&server, ADMIN, &["repository:b:pull,push"]).await;
    let mount =
        "/v2/b/blobs/uploads/?mount=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let from = format!("{mount}&from=library/nginx");
    let refused = server.send(As::Session(&target), "POST", &from, None).await.expect(401);
    assert!(refused.header("www-authenticate").contains("repository:library/nginx:pull"));
    server.send(As::Session(&target), "POST", mount, None).await.expect(202);

    // A session is no registry token, nor the reverse.
    server.send(As::Session(&server.admin), "GET", "/v2/", None).await.expect(401);
    server.send(As::Session(&both), "GET", "/api/groups", None).await.expect(401);
    server.send(As::Session(&format!("{both}x")), "GET", "/v2/", None).await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_service_refuses_whoever_it_does_not_know() {
    let server = Server::start().await;
    let scope = ["repository:library/nginx:pull"];
    token(&server, As::Nobody, &scope).await.expect(401);
    token(&server, As::Basic("admin", "wrong"), &scope).await.expect(401);
    token(&server, As::Basic("robot$edge-01", "wrong"), &scope).await.expect(401);
    token(&server, As::Session(&server.admin), &scope).await.expect(401);
    let request = server.client.get(server.url("/service/token?service=harbor-registry"));
    answer(with(request, ADMIN).send().await.unwrap()).await.expect(400);

    // The OAuth2 form, as containerd sends it.
    let form = async |fields: &str| {
        let request = server.client.post(server.url("/service/token"));
        let request =
            request.header("Content-Type", "application/x-www-form-urlencoded").body(fields.to_owned());
        answer(request.send().await.unwrap()).await
    };
    let good = format!(
        "grant_type=password&service=ground-control&client_id=containerd-client\
         &scope=repository%3Alibrary%2Fnginx%3Apull&username=admin&password={ADMIN_PASSWORD}"
    );
    let answer = form(&good).await.expect(200);
    let token = answer.body["access_token"].as_str().unwrap();
    server.send(As::Session(token), "GET", "/v2/", None).await.expect(200);
    form(&good.replace(ADMIN_PASSWORD, "wrong")).await.expect(401);
    form("grant_type=password").await.expect(401);
    let refused = form("grant_type=refresh_token&refresh_token=x").await.expect(400);
    assert_eq!(refused.body["error"], "unsupported_grant_type");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_robot_sees_its_own_and_nothing_else() {
    let server = Server::start().await;
    for repository in ["library/nginx", "library/alpine", "library/gone"] {
        push(&server, ADMIN, repository, "latest").await.unwrap();
    }
    server.group("east", "library/nginx").await;
    server.group("west", "library/alpine").await;
    let gone = json!([{"repository": "library/gone", "tag": "latest", "digest": DIGEST, "deleted": true}]);
    server
        .admin("POST", "/api/groups/sync", Some(json!({"group": "north", "artifacts": gone})))
        .await
        .expect(200);
    let config = json!({"config_name": "other", "config": {}});
    server.admin("POST", "/api/configs", Some(config)).await.expect(201);
    let (name, secret) = server.robot("edge-01", &["east", "north"]).await;
    server.robot("edge-02", &["west"]).await;
    server.published().await;

    let basic = As::Basic(&name, &secret);
    for (repository, seen) in [
        ("library/nginx", true),
        ("library/alpine", false),
        ("library/gone", false),
        ("library/nothing", false),
        ("satellite/satellite-state/edge-01/state", true),
        ("satellite/satellite-state/edge-02/state", false),
        ("satellite/group-state/east/state", true),
        ("satellite/group-state/north/state", true),
        ("satellite/group-state/west/state", false),
        ("satellite/config-state/default/state", true),
        ("satellite/config-state/other/state", false),
    ] {
        let path = format!("/v2/{repository}/manifests/latest");
        let expected = if seen { 200 } else { 403 };
        server.send(basic, "GET", &path, None).await.expect(expected);
        let scope = format!("repository:{repository}:pull,push,delete");
        let bearer = bearer(&server, basic, &[&scope]).await;
        server.send(As::Session(&bearer), "GET", &path, None).await.expect(expected);
        push(&server, As::Session(&bearer), repository, "x").await.unwrap_err().expect(403);
        push(&server, basic, repository, "x").await.unwrap_err().expect(403);
        server.send(basic, "DELETE", &path, None).await.expect(403);
    }
    server.send(basic, "GET", "/v2/", None).await.expect(200);
    server.send(basic, "GET", "/v2/_catalog", None).await.expect(403);
    server.send(basic, "GET", "/api/groups", None).await.expect(401);

    // What is taken away is gone at the next request, for a token too.
    let bearer = bearer(&server, basic, &["repository:library/nginx:pull"]).await;
    let member = json!({"satellite": "edge-01", "group": "east"});
    server.admin("DELETE", "/api/groups/satellite", Some(member)).await.expect(200);
    let path = "/v2/library/nginx/manifests/latest";
    server.send(basic, "GET", path, None).await.expect(403);
    server.send(As::Session(&bearer), "GET", path, None).await.expect(403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_end_with_their_account() {
    let server = Server::start().await;
    server.person("vera", "viewer").await;
    let (name, secret) = server.robot("edge-01", &[]).await;
    let person = bearer(&server, As::Basic("vera", ADMIN_PASSWORD), &[]).await;
    let robot = bearer(&server, As::Basic(&name, &secret), &[]).await;
    for token in [&person, &robot] {
        server.send(As::Session(token), "GET", "/v2/", None).await.expect(200);
    }
    server.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    server.send(As::Session(&robot), "GET", "/v2/", None).await.expect(401);
    server.send(As::Basic(&name, &secret), "GET", "/v2/", None).await.expect(401);
    token(&server, As::Basic(&name, &secret), &[]).await.expect(401);
    let set = json!({"new_password": "Harbor54321"});
    server.admin("PATCH", "/api/users/vera/password", Some(set)).await.expect(204);
    server.send(As::Session(&person), "GET", "/v2/", None).await.expect(401);
}

/// The document in the only layer of a published artifact.
async fn document(server: &Server, who: As<'_>, repository: &str) -> Value {
    let manifest =
        server.send(who, "GET", &format!("/v2/{repository}/manifests/latest"), None).await.expect(200);
    let digest = manifest.body["layers"][0]["digest"].as_str().unwrap();
    let blob = with(server.client.get(server.url(&format!("/v2/{repository}/blobs/{digest}"))), who);
    let layer = blob.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
    fleet_protocol::state_image::decode_layer(&layer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_change_a_robot_reads() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    let (name, secret) = server.robot("edge-01", &["east"]).await;
    let robot = As::Basic(&name, &secret);
    server.published().await;
    let url = &server.running.public_url;
    let state = document(&server, robot, "satellite/satellite-state/edge-01/state").await;
    assert_eq!(
        state,
        json!({
            "states": [format!("{url}/satellite/group-state/east/state:latest")],
            "config": format!("{url}/satellite/config-state/default/state:latest"),
        })
    );
    let group = document(&server, robot, "satellite/group-state/east/state").await;
    assert_eq!((&group["group"], &group["registry"]), (&json!("east"), &json!(url)));
    assert_eq!(group["artifacts"][0]["repository"], "library/nginx");
    assert_eq!(group["artifacts"][0]["digest"], DIGEST);

    server.group("east", "library/alpine").await;
    server.published().await;
    let group = document(&server, robot, "satellite/group-state/east/state").await;
    assert_eq!(group["artifacts"][0]["repository"], "library/alpine");

    server.admin("DELETE", "/api/groups/east", None).await.expect(200);
    server.published().await;
    let state = document(&server, robot, "satellite/satellite-state/edge-01/state").await;
    assert_eq!(state["states"], json!([]));
    server
        .send(ADMIN, "GET", "/v2/satellite/group-state/east/state/manifests/latest", None)
        .await
        .expect(404);
}
