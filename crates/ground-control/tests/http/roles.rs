//! Every route with every role.

use serde_json::{Value, json};

use crate::support::{ADMIN_PASSWORD, As, DIGEST, Server};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Least {
    Viewer,
    Admin,
    System,
}

/// All routes of people that need an account, with the least role and a body that the route takes.
fn routes() -> Vec<(&'static str, &'static str, Least, Option<Value>)> {
    use Least::{Admin, System, Viewer};
    let artifacts = json!([{"repository": "library/nginx", "tag": "latest", "digest": DIGEST}]);
    let account = json!({"username": "new", "password": ADMIN_PASSWORD, "role": "viewer"});
    let member = json!({"satellite": "edge-01", "group": "east"});
    vec![
        ("GET", "/api/users", Admin, None),
        ("GET", "/api/users/admin", Admin, None),
        ("POST", "/api/users", System, Some(account)),
        ("PATCH", "/api/users/new/password", System, Some(json!({"new_password": "Harbor54321"}))),
        ("DELETE", "/api/users/new", System, None),
        ("GET", "/api/groups", Viewer, None),
        ("POST", "/api/groups/sync", Admin, Some(json!({"group": "east", "artifacts": artifacts}))),
        ("GET", "/api/groups/east", Viewer, None),
        ("GET", "/api/groups/east/satellites", Viewer, None),
        ("GET", "/api/configs", Viewer, None),
        ("POST", "/api/configs", Admin, Some(json!({"config_name": "slow", "config": {}}))),
        ("GET", "/api/configs/slow", Viewer, None),
        ("PATCH", "/api/configs/slow", Admin, Some(json!({"app_config": {"log_level": "debug"}}))),
        ("POST", "/api/satellites", Admin, Some(json!({"name": "edge-01"}))),
        ("GET", "/api/satellites", Viewer, None),
        ("GET", "/api/satellites/active", Viewer, None),
        ("GET", "/api/satellites/stale", Viewer, None),
        ("GET", "/api/satellites/edge-01", Viewer, None),
        ("GET", "/api/satellites/edge-01/status", Viewer, None),
        ("GET", "/api/satellites/edge-01/images", Viewer, None),
        ("POST", "/api/groups/satellite", Admin, Some(member.clone())),
        ("DELETE", "/api/groups/satellite", Admin, Some(member)),
        (
            "POST",
            "/api/configs/satellite",
            Admin,
            Some(json!({"satellite": "edge-01", "config_name": "slow"})),
        ),
        ("POST", "/api/satellites/edge-01/approve", Admin, None),
        ("POST", "/api/satellites/edge-01/revoke", Admin, None),
        ("POST", "/api/satellites/edge-01/enable", Admin, None),
        ("POST", "/api/satellites/register", System, Some(json!({"satellite_name": "edge-02"}))),
        ("GET", "/api/spire/status", System, None),
        ("DELETE", "/api/satellites/edge-01", Admin, None),
        ("DELETE", "/api/configs/slow", Admin, None),
        ("DELETE", "/api/groups/east", System, None),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_asks_for_the_role_that_it_needs() {
    let server = Server::start().await;
    let viewer = server.person("vera", "viewer").await;
    let admin = server.person("adam", "admin").await;
    for (method, path, least, body) in routes() {
        let status = async |who: As<'_>| server.send(who, method, path, body.clone()).await.status.as_u16();
        let at = format!("{method} {path}");
        assert_eq!(status(As::Nobody).await, 401, "{at}");
        assert_eq!(status(As::Session("00000000000000000000000000000000")).await, 401, "{at}");
        for (role, token) in
            [(Least::Viewer, &viewer), (Least::Admin, &admin), (Least::System, &server.admin)]
        {
            let status = status(As::Session(token)).await;
            if role < least {
                assert_eq!(status, 403, "{at} as {role:?}");
            } else {
                // What was made, changed or removed by an earlier role is 409 or 404 for a later one; without SPIFFE
                // nobody registers identities.
                let fine = [200, 201, 204, 404, 409].contains(&status)
                    || (status == 503 && path.ends_with("register"));
                assert!(
                    fine && (status < 300 || path.contains("status") || method != "GET"),
                    "{at} as {role:?}: {status}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_routes_are_open_and_unknown_ones_are_404() {
    let server = Server::start().await;
    let text = server.client.get(server.url("/ping")).send().await.unwrap().text().await.unwrap();
    assert_eq!(text, "pong");
    let health = server.send(As::Nobody, "GET", "/health", None).await.expect(200);
    assert_eq!(health.body, json!({"status": "healthy"}));
    server.published().await;
    let ready = server.send(As::Nobody, "GET", "/health/ready", None).await.expect(200);
    assert_eq!(ready.body["status"], "ready");
    assert_eq!(ready.body["database"], json!({"kind": "sqlite", "ok": true}));

    for (method, path) in [
        ("GET", "/"),
        ("GET", "/api"),
        ("GET", "/api/nothing"),
        ("GET", "/api/satellites/edge-01/nothing"),
        ("POST", "/api/satellites/edge-01/restart"),
        ("GET", "/satellites/ztr/a/b"),
    ] {
        let answer = server.admin(method, path, None).await.expect(404);
        assert_eq!(answer.body, json!({"message": "no such route", "code": 404}), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_a_route_does_not_take_is_405_with_those_it_takes() {
    let server = Server::start().await;
    for (method, path, allow) in [
        ("DELETE", "/login", "POST"),
        ("GET", "/api/groups/sync", "POST"),
        ("PUT", "/api/satellites/edge-01", "GET,HEAD,DELETE"),
        ("POST", "/health", "GET,HEAD"),
        ("GET", "/satellites/ztr", "POST"),
        ("GET", "/satellites/sync", "POST"),
    ] {
        let answer = server.admin(method, path, None).await.expect(405);
        let mut allowed: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        let mut expected: Vec<&str> = allow.split(',').collect();
        allowed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(allowed, expected, "{method} {path}");
        assert_eq!(answer.body["code"], 405);
    }
}

/// The served document says what each route takes and whether it needs an account, and all of that is so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_tells_the_truth() {
    let server = Server::start().await;
    let document = server.send(As::Nobody, "GET", "/openapi.json", None).await.expect(200).body;
    assert_eq!(document["openapi"], "3.1.0");
    let in_the_path = |path: &str| {
        let segments: Vec<&str> =
            path.split('/').map(|s| if s.starts_with('{') { "nothing" } else { s }).collect();
        segments.join("/")
    };
    for (template, operations) in document["paths"].as_object().unwrap() {
        let path = in_the_path(template);
        // A method that no route takes.
        let refused = server.send(As::Nobody, "TRACE", &path, None).await.expect(405);
        let mut allowed: Vec<String> =
            refused.header("allow").split(',').map(|method| method.trim().to_lowercase()).collect();
        allowed.retain(|method| method != "head");
        allowed.sort_unstable();
        let operations = operations.as_object().unwrap();
        let documented: Vec<&String> = operations.keys().collect();
        assert_eq!(documented, allowed.iter().collect::<Vec<_>>(), "{template}");
        for (method, operation) in operations {
            let open = operation["security"] == json!([]);
            let status = server.send(As::Nobody, &method.to_uppercase(), &path, None).await.status.as_u16();
            // The form of the token service needs no header, its content is the credential; Harbor's word has a secret of its own.
            assert!(open || status == 401, "{method} {template}: {status}");
            let own_secret = ["/service/token", "/hooks/harbor"].contains(&template.as_str());
            assert!(!open || status != 401 || own_secret, "{method} {template}: {status}");
            let known = operation["responses"].get(status.to_string()).is_some();
            assert!(known || status == 503, "{method} {template}: {status} is not in the document");
        }
    }
}

/// With the database gone nobody is told that their credentials are wrong: clients throw good ones away on that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_database_is_never_a_401() {
    let server = Server::start().await;
    let (name, secret) = server.robot("edge-01", &[]).await;
    let (robot, admin) = (As::Basic(&name, &secret), As::Basic("admin", ADMIN_PASSWORD));
    server.running.state.store.close().await;
    let health = server.send(As::Nobody, "GET", "/health", None).await.expect(503);
    assert_eq!(health.body, json!({"status": "unhealthy"}));
    server.send(As::Nobody, "GET", "/health/ready", None).await.expect(503);
    for (who, method, path) in [
        (As::Session(server.admin.as_str()), "GET", "/api/groups"),
        (admin, "GET", "/api/groups"),
        (admin, "GET", "/v2/"),
        (admin, "GET", "/service/token"),
        (robot, "GET", "/v2/"),
        (robot, "GET", "/service/token"),
        (robot, "POST", "/satellites/sync"),
    ] {
        let status = server.send(who, method, path, None).await.status;
        assert!(status.is_server_error(), "{method} {path}: {status}");
    }
}
