//! Requests that make something, sent again.

use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::{ADMIN_PASSWORD, Answer, As, Server, answer};
use crate::table;

fn request(server: &Server, session: &str, path: &str, key: &str, body: &Value) -> RequestBuilder {
    server.client.post(server.url(path)).bearer_auth(session).header("idempotency-key", key).json(body)
}

async fn post(server: &Server, path: &str, key: &str, body: &Value) -> Answer {
    answer(request(server, &server.admin, path, key, body).send().await.unwrap()).await
}

async fn total(server: &Server, path: &str) -> String {
    server.admin("GET", path, None).await.expect(200).header("x-total-count").to_owned()
}

/// Everything that is made is made once, and shown again as it was, secrets, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_makes_one_thing() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    let artifacts = json!([{"repository": "library/nginx", "tag": ["2"]}]);
    for (path, body) in [
        ("/api/satellites", json!({"name": "edge-01", "groups": ["east"]})),
        ("/api/configs", json!({"config_name": "slow", "registry": "", "config": {}})),
        ("/api/users", json!({"username": "vera", "password": ADMIN_PASSWORD, "role": "viewer"})),
        ("/api/tokens", json!({"name": "ci", "scopes": ["read"]})),
        ("/api/groups/sync", json!({"group": "west", "registry": "", "artifacts": artifacts})),
        ("/api/groups/east/replication-secret", json!({})),
        ("/api/groups/west/revisions/1/restore", json!({})),
    ] {
        let key = format!("\"key of {path}\"");
        let first = post(&server, path, &key, &body).await;
        assert!(first.status.is_success(), "{path}: {first:?}");
        assert_eq!(first.header("idempotency-replayed"), "", "{path}");
        for _ in 0..2 {
            let again = post(&server, path, &key, &body).await;
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{path}");
            assert_eq!(again.header("idempotency-replayed"), "true", "{path}");
            assert_eq!(again.header("etag"), first.header("etag"), "{path}");
            assert_eq!(again.header("cache-control"), "no-store");
        }
    }
    // The token that was shown twice registers the one satellite that was made.
    let body = json!({"name": "edge-01", "groups": ["east"]});
    let token =
        post(&server, "/api/satellites", "\"key of /api/satellites\"", &body).await.body["token"].clone();
    server.register(token.as_str().unwrap()).await;
    let counts = [total(&server, "/api/satellites").await, total(&server, "/api/tokens").await];
    assert_eq!(counts, ["1", "1"]);
    assert_eq!(total(&server, "/api/groups/west/revisions").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_for_one_request_of_one_caller() {
    let server = Server::start().await;
    let (one, two) = (json!({"name": "edge-01"}), json!({"name": "edge-02"}));
    post(&server, "/api/satellites", "k", &one).await.expect(200);
    let refused = post(&server, "/api/satellites", "\"k\"", &two).await.expect(422);
    assert!(refused.body["message"].as_str().unwrap().contains("Idempotency-Key"), "{refused:?}");
    post(&server, "/api/configs", "k", &json!({"config_name": "slow", "registry": "", "config": {}}))
        .await
        .expect(422);
    // Somebody else's key is another key, and who may not make anything is told nothing.
    let adam = server.person("adam", "admin").await;
    let other = answer(request(&server, &adam, "/api/satellites", "k", &two).send().await.unwrap()).await;
    assert_eq!(other.expect(200).header("idempotency-replayed"), "");
    server.admin("PATCH", "/api/users/adam", Some(json!({"role": "viewer"}))).await.expect(200);
    answer(request(&server, &adam, "/api/satellites", "k", &two).send().await.unwrap()).await.expect(403);
    answer(request(&server, "no-session", "/api/satellites", "k", &two).send().await.unwrap())
        .await
        .expect(401);
    for bad in ["", "two words", "\"open", &"x".repeat(129)] {
        post(&server, "/api/satellites", bad, &two).await.expect(400);
    }
    // What was refused forgets its key: mended, it is the same request's first success.
    post(&server, "/api/satellites", "later", &json!({"name": "edge-03", "groups": ["south"]}))
        .await
        .expect(404);
    server.group("south", "library/nginx").await;
    post(&server, "/api/satellites", "later", &json!({"name": "edge-03", "groups": ["south"]}))
        .await
        .expect(200);
    // An API token has keys of its own.
    let wish = json!({"name": "ci", "scopes": ["write"]});
    let token = server.admin("POST", "/api/tokens", Some(wish)).await.expect(201).body["token"].clone();
    let by_token = request(&server, token.as_str().unwrap(), "/api/satellites", "k", &one);
    answer(by_token.send().await.unwrap()).await.expect(409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_is_carried_out() {
    let server = Server::start().await;
    let body = json!({"name": "ci", "scopes": ["read"]});
    let answers = join_all((0..12).map(|_| post(&server, "/api/tokens", "k", &body))).await;
    let mut tokens = Vec::new();
    for answer in answers {
        match answer.status.as_u16() {
            201 => tokens.push(answer.body["token"].as_str().unwrap().to_owned()),
            409 => assert_eq!(answer.header("retry-after"), "1"),
            _ => panic!("{answer:?}"),
        }
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    assert_eq!(total(&server, "/api/tokens").await, "1");
}

/// The case that keys are for: the connection goes before the answer comes. And the server, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_given_again() {
    use std::io::Write as _;
    let server = Server::start().await;
    let body = json!({"name": "edge-01"}).to_string();
    let address = server.url("").trim_start_matches("http://").to_owned();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    {
        let mut connection = std::net::TcpStream::connect(&address).unwrap();
        let head = format!(
            "POST /api/satellites HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nIdempotency-Key: lost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            server.admin,
            body.len()
        );
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(body.as_bytes()).unwrap();
        while total(&server, "/api/satellites").await != "1" {
            assert!(tokio::time::Instant::now() < deadline, "the request was not carried out");
        }
        // Gone, without having read anything.
    }
    let token = loop {
        let answer = post(&server, "/api/satellites", "lost", &json!({"name": "edge-01"})).await;
        match answer.status.as_u16() {
            200 => break answer.body["token"].as_str().unwrap().to_owned(),
            409 if answer.header("retry-after") == "1" => {}
            _ => panic!("{answer:?}"),
        }
        assert!(tokio::time::Instant::now() < deadline, "it is under way for ever");
    };
    let dir = server.stop().await;
    // What is kept is sealed.
    for file in ["ground-control.db", "ground-control.db-wal"] {
        let Ok(bytes) = std::fs::read(dir.path().join(file)) else { continue };
        assert!(
            bytes.windows(7).any(|window| window == b"edge-01") || file.ends_with("wal"),
            "{file} is not it"
        );
        assert!(
            !bytes.windows(token.len()).any(|window| window == token.as_bytes()),
            "{file} shows the token"
        );
    }
    let server = Server::start_in(dir, &[]).await;
    let again = post(&server, "/api/satellites", "lost", &json!({"name": "edge-01"})).await.expect(200);
    assert_eq!(again.body["token"], token.as_str());
    assert_eq!(again.header("idempotency-replayed"), "true");
    server.register(&token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_creation_of_the_document_takes_a_key() {
    let server = Server::start().await;
    let document = server.send(As::Nobody, "GET", "/openapi.json", None).await.expect(200).body;
    for (method, route) in table::routes() {
        let operation = &document["paths"][&route][&method];
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let takes = parameters.iter().any(|one| one["$ref"] == "#/components/parameters/Idempotency-Key");
        let makes = operation["responses"]["201"].is_object() && route.starts_with("/api/");
        assert!(takes || !makes, "{method} {route} makes something, and takes no key");
        assert!(!takes || operation["responses"]["422"].is_object(), "{method} {route}");
    }
}
