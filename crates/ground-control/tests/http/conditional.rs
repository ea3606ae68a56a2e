//! Changes that depend on what their author has seen (RFC 9110 section 13.1.1).

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN_PASSWORD, Answer, As, DIGEST, Server, answer};
use crate::table;

/// The administrator asks, on a condition.
async fn ask(server: &Server, condition: &str, (method, path): (&str, &str), body: Option<Value>) -> Answer {
    let mut request = server
        .client
        .request(Method::from_bytes(method.as_bytes()).unwrap(), server.url(path))
        .bearer_auth(&server.admin)
        .header("if-match", condition);
    if let Some(body) = body {
        request = request.json(&body);
    }
    answer(request.send().await.unwrap()).await
}

async fn tag(server: &Server, path: &str) -> String {
    let answer = server.admin("GET", path, None).await.expect(200);
    let tag = answer.header("etag").to_owned();
    assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{path}: {tag}");
    tag
}

fn list(tag: &str) -> Option<Value> {
    let artifacts = json!([{"repository": "library/nginx", "tag": [tag], "digest": DIGEST}]);
    Some(json!({"group": "east", "registry": "", "artifacts": artifacts}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_depends_on_what_was_seen() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    server.satellite("edge-01", &["east"]).await;
    server.person("vera", "viewer").await;
    let sync = ("POST", "/api/groups/sync");

    let seen = tag(&server, "/api/groups/east").await;
    let changed = ask(&server, &seen, sync, list("2")).await.expect(200);
    let now = changed.header("etag").to_owned();
    assert!(now != seen && now == tag(&server, "/api/groups/east").await);
    let refused = ask(&server, &seen, sync, list("3")).await.expect(412);
    assert_eq!(refused.body["code"], 412);
    assert!(refused.body["message"].as_str().unwrap().contains("changed by somebody else"), "{refused:?}");
    assert_eq!(tag(&server, "/api/groups/east").await, now, "a refused change changes nothing");
    // One of several is enough; a weak one never is.
    ask(&server, &format!("W/{now}"), sync, list("3")).await.expect(412);
    ask(&server, &format!("{seen}, {now}"), sync, list("3")).await.expect(200);
    ask(&server, "*", sync, list("4")).await.expect(200);
    server.admin("POST", sync.1, list("5")).await.expect(200);

    // Whatever else changes it goes by the same version.
    let seen = tag(&server, "/api/groups/east").await;
    let select = ("PUT", "/api/groups/east/selector");
    ask(&server, &seen, select, Some(json!({"selector": "env=prod"}))).await.expect(200);
    for route in [select, ("POST", "/api/groups/east/revisions/1/restore"), ("DELETE", "/api/groups/east")] {
        ask(&server, &seen, route, Some(json!({}))).await.expect(412);
    }

    // A satellite's own words are no change of it; what it is put into is one.
    let seen = tag(&server, "/api/satellites/edge-01").await;
    let member = || Some(json!({"satellite": "edge-01", "group": "east"}));
    ask(&server, &seen, ("DELETE", "/api/groups/satellite"), member()).await.expect(200);
    for (method, path) in [
        ("POST", "/api/groups/satellite"),
        ("POST", "/api/satellites/edge-01/revoke"),
        ("DELETE", "/api/satellites/edge-01"),
        ("PATCH", "/api/satellites/edge-01/labels"),
    ] {
        ask(&server, &seen, (method, path), member()).await.expect(412);
    }
    let seen = tag(&server, "/api/satellites/edge-01").await;
    ask(&server, &seen, ("DELETE", "/api/satellites/edge-01"), None).await.expect(200);

    let config = json!({"config_name": "slow", "registry": "", "config": {}});
    let made = server.admin("POST", "/api/configs", Some(config)).await.expect(201);
    let seen = tag(&server, "/api/configs/slow").await;
    assert_eq!(made.header("etag"), seen);
    let patch = ("PATCH", "/api/configs/slow");
    let change = Some(json!({"app_config": {"log_level": "warn"}}));
    let changed = ask(&server, &seen, patch, change.clone()).await.expect(200);
    assert_eq!(changed.header("etag"), tag(&server, "/api/configs/slow").await);
    ask(&server, &seen, ("DELETE", "/api/configs/slow"), None).await.expect(412);

    let seen = tag(&server, "/api/users/vera").await;
    let password = || Some(json!({"new_password": format!("{ADMIN_PASSWORD}x")}));
    ask(&server, &seen, ("PATCH", "/api/users/vera/password"), password()).await.expect(204);
    ask(&server, &seen, ("PATCH", "/api/users/vera"), Some(json!({"role": "admin"}))).await.expect(412);
    ask(&server, &seen, ("DELETE", "/api/users/vera"), None).await.expect(412);
    ask(&server, "*", ("DELETE", "/api/users/vera"), None).await.expect(204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_saw_the_same_one_changes_it() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    let seen = tag(&server, "/api/groups/east").await;
    let answers =
        join_all(
            (0..12).map(|n| {
                let (server, seen) = (&server, &seen);
                async move {
                    ask(server, seen, ("POST", "/api/groups/sync"), list(&format!("tag-{n}"))).await.status
                }
            }),
        )
        .await;
    let count = |status: u16| answers.iter().filter(|answer| answer.as_u16() == status).count();
    assert_eq!((count(200), count(412)), (1, 11), "{answers:?}");
    let revisions = server.admin("GET", "/api/groups/east/revisions", None).await.expect(200);
    assert_eq!(revisions.header("x-total-count"), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_condition_is_never_passed_over() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    for bad in ["abc", "\"a", "*, \"a\"", ""] {
        let refused = ask(&server, bad, ("POST", "/api/groups/sync"), list("2")).await.expect(400);
        assert!(refused.body["message"].as_str().unwrap().contains("If-Match"), "{refused:?}");
    }
    // What is not there: a list is not made, and a deletion says what it would have said anyway.
    let west = Some(json!({"group": "west", "registry": "", "artifacts": []}));
    ask(&server, "*", ("POST", "/api/groups/sync"), west).await.expect(412);
    server.admin("GET", "/api/groups/west", None).await.expect(404);
    ask(&server, "*", ("DELETE", "/api/groups/west"), None).await.expect(404);
    // Nothing that is made was there before.
    let user = json!({"username": "vera", "password": ADMIN_PASSWORD, "role": "viewer"});
    ask(&server, "*", ("POST", "/api/users"), Some(user)).await.expect(412);
    server.admin("GET", "/api/users/vera", None).await.expect(404);
    // Who may not is told so first.
    let request = server.client.delete(server.url("/api/groups/east")).header("if-match", "\"x\"");
    answer(request.send().await.unwrap()).await.expect(401);
    let vera = server.person("vera", "viewer").await;
    let request = server.client.delete(server.url("/api/groups/east")).header("if-match", "\"x\"");
    answer(request.bearer_auth(vera).send().await.unwrap()).await.expect(403);
}

/// Every change of the document that can depend on a version takes the header seriously, and no other says that it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_says_which_changes_can_depend_on_a_version() {
    let server = Server::start().await;
    let document = server.send(As::Nobody, "GET", "/openapi.json", None).await.expect(200).body;
    for (method, route) in table::routes() {
        let operation = &document["paths"][&route][&method];
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let takes = parameters.iter().any(|one| one["$ref"] == "#/components/parameters/If-Match");
        assert_eq!(takes, operation["responses"]["412"].is_object(), "{method} {route}");
        let shown = &operation["responses"]["200"]["headers"]["ETag"];
        let one_of_a_kind = [
            "/api/configs/{config}",
            "/api/groups/{group}",
            "/api/satellites/{satellite}",
            "/api/users/{user}",
        ];
        assert!(!one_of_a_kind.contains(&route.as_str()) || method != "get" || shown.is_object(), "{route}");
        assert!(!one_of_a_kind.contains(&route.as_str()) || method == "get" || takes, "{method} {route}");
    }
}
