//! Bad input: the right status, and a message that says what to do.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN_PASSWORD, As, Server, answer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_break_the_rule_are_400_with_the_rule() {
    let server = Server::start().await;
    let long = "a".repeat(64);
    for name in ["", "Edge", "edge--01", "-edge", "edge/01", "..", "é", "edge 01", "edge%2f01", &long] {
        for (path, body) in [
            ("/api/satellites", json!({"name": name})),
            ("/api/groups/sync", json!({"group": name, "artifacts": []})),
            ("/api/configs", json!({"config_name": name, "config": {}})),
        ] {
            let answer = server.admin("POST", path, Some(body)).await.expect(400);
            let message = answer.body["message"].as_str().unwrap();
            assert!(message.contains("lowercase letters and digits"), "{path} {name:?}: {message}");
        }
    }
    // A path below already means something else by these.
    for (path, body) in [
        ("/api/satellites", json!({"name": "stale"})),
        ("/api/groups/sync", json!({"group": "satellite", "artifacts": []})),
        ("/api/configs", json!({"config_name": "satellite", "config": {}})),
    ] {
        let answer = server.admin("POST", path, Some(body)).await.expect(400);
        assert!(answer.body["message"].as_str().unwrap().contains("reserved"), "{answer:?}");
    }
    let longest = "a".repeat(63);
    server.satellite(&longest, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_not_what_the_route_takes_are_400() {
    let server = Server::start().await;
    let send = async |method: Method, path: &str, body: &str| {
        let request = server.client.request(method, server.url(path)).bearer_auth(&server.admin);
        let request = request.header("Content-Type", "application/json").body(body.to_owned());
        answer(request.send().await.unwrap()).await
    };
    for (method, path) in [
        ("POST", "/login"),
        ("POST", "/api/users"),
        ("PATCH", "/api/users/password"),
        ("PATCH", "/api/users/admin/password"),
        ("POST", "/api/groups/sync"),
        ("POST", "/api/groups/satellite"),
        ("DELETE", "/api/groups/satellite"),
        ("POST", "/api/configs"),
        ("POST", "/api/configs/satellite"),
        ("POST", "/api/satellites"),
        ("POST", "/satellites/ztr"),
    ] {
        for body in ["", "{", "[]", "null", "\"x\"", "[\"a\",\"b\",\"c\"]", "{\"name\":}", "\u{0}"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = send(method.clone(), path, body).await.expect(400);
            assert_eq!(answer.body["code"], 400, "{method} {path} {body:?}");
            assert!(
                answer.body["message"].as_str().unwrap().starts_with("the body "),
                "{method} {path} {body:?}"
            );
        }
    }
    let deep = format!("{{\"artifacts\":{}", "[".repeat(100_000));
    send(Method::POST, "/api/groups/sync", &deep).await.expect(400);
    for artifact in [
        json!({"repository": "../etc", "tag": "x"}),
        json!({"repository": "Library/nginx", "tag": "x"}),
        json!({"repository": "library/nginx", "tag": ["not a tag"]}),
        json!({"repository": "library/nginx", "tag": "x", "digest": "sha256:short"}),
        json!({"repository": "library/nginx", "tag": "x", "digest": "md5:d41d8cd98f00b204e9800998ecf8427e"}),
        json!({"tag": "x"}),
    ] {
        let body = json!({"group": "east", "artifacts": [artifact]}).to_string();
        send(Method::POST, "/api/groups/sync", &body).await.expect(400);
    }
    server.admin("GET", "/api/groups/east", None).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_another_type_or_size_are_refused() {
    let server = Server::start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let request = server.client.post(server.url("/api/satellites")).bearer_auth(&server.admin);
        let request = request.header("Content-Type", kind).body("{\"name\":\"edge-01\"}");
        let refused = answer(request.send().await.unwrap()).await.expect(415);
        assert!(refused.body["message"].as_str().unwrap().contains("application/json"));
    }
    for kind in [None, Some("application/json; charset=utf-8"), Some("application/merge-patch+json")] {
        let mut request = server.client.patch(server.url("/api/configs/default")).bearer_auth(&server.admin);
        if let Some(kind) = kind {
            request = request.header("Content-Type", kind);
        }
        answer(request.body("{}").send().await.unwrap()).await.expect(200);
    }
    for (path, size) in [
        ("/login", 20_000),
        ("/satellites/ztr", 20_000),
        ("/api/configs", 2_000_000),
        ("/api/groups/sync", 9_000_000),
    ] {
        let body = json!({"padding": "x".repeat(size)});
        let answer = server.admin("POST", path, Some(body)).await.expect(413);
        assert_eq!(answer.body, json!({"message": "the body is too large", "code": 413}), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_out_of_bounds_are_400() {
    let server = Server::start().await;
    for query in ["page=0", "page=x", "page_size=0", "page_size=101", "page_size=-1"] {
        for path in ["/api/groups", "/api/satellites", "/api/configs", "/api/users"] {
            server.admin("GET", &format!("{path}?{query}"), None).await.expect(400);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_credentials_are_401() {
    let server = Server::start().await;
    for value in
        ["", "Basic", "Basic !!!", "Bearer", "Bearer  ", "Digest x", "Basic YWRtaW4=", "YWRtaW46YWRtaW4="]
    {
        for path in ["/api/groups", "/v2/", "/service/token"] {
            let request = server.client.get(server.url(path)).header("Authorization", value);
            let refused = answer(request.send().await.unwrap()).await.expect(401);
            assert!(!refused.header("www-authenticate").is_empty(), "{path} {value:?}");
        }
    }
    // Two headers are a smuggler's, not a client's.
    let request = server.client.get(server.url("/api/groups"));
    let request = request.basic_auth("admin", Some(ADMIN_PASSWORD)).header("Authorization", "Bearer x");
    answer(request.send().await.unwrap()).await.expect(401);
    server.send(As::Basic("admin", ADMIN_PASSWORD), "GET", "/api/groups", None).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tricks_in_paths_reach_nothing() {
    let server = Server::start().await;
    for path in [
        "/api/satellites/..%2f..%2fetc",
        "/api/satellites/%00",
        "/api/groups/%2e%2e",
        "/api/configs/a%20b",
        "/api/users/%F0%9F%92%A3",
    ] {
        let answer = server.admin("GET", path, None).await.expect(404);
        assert_ne!(answer.body, Value::Null, "{path}");
    }
    server.admin("GET", "/api/groups/%ff", None).await.expect(400);
}
