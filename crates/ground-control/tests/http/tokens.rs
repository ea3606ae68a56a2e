//! API tokens: what they open, and when they end.

use serde_json::{Value, json};

use crate::support::{ADMIN_PASSWORD, Answer, As, Server};

async fn make(server: &Server, who: As<'_>, name: &str, scopes: &[&str]) -> Answer {
    let wish = json!({"name": name, "scopes": scopes});
    server.send(who, "POST", "/api/tokens", Some(wish)).await
}

fn text(made: &Answer) -> String {
    made.body["token"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_shown_once_listed_and_deleted() {
    let server = Server::start().await;
    let vera = server.person("vera", "viewer").await;
    let (vera, admin) = (As::Session(&vera), As::Session(&server.admin));
    let made = make(&server, vera, "ci", &["read", "registry:pull", "read"]).await.expect(201);
    let token = text(&made);
    assert!(token.starts_with("hsgc_") && token.len() == 45, "{token}");
    assert_eq!(made.body["scopes"], json!(["read", "registry:pull"]));
    assert_eq!((&made.body["owner"], &made.body["last_used_at"]), (&json!("vera"), &Value::Null));
    make(&server, vera, "ci", &["read"]).await.expect(409);
    make(&server, vera, "more", &["write"]).await.expect(403);
    make(&server, vera, "more", &["everything"]).await.expect(400);
    let past = json!({"name": "late", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"});
    server.send(vera, "POST", "/api/tokens", Some(past)).await.expect(400);

    server.send(As::Session(&token), "GET", "/api/groups", None).await.expect(200);
    server.send(As::Basic("vera", &token), "GET", "/api/groups", None).await.expect(200);
    server.send(As::Basic("admin", &token), "GET", "/api/groups", None).await.expect(401);
    let list = server.send(vera, "GET", "/api/tokens", None).await.expect(200);
    assert!(
        list.body[0]["last_used_at"].is_string() && !list.body.to_string().contains(&token),
        "{:?}",
        list.body
    );

    // Everybody sees their own, a system_admin sees all.
    let own = make(&server, admin, "ci", &["admin"]).await.expect(201);
    assert_eq!(server.send(vera, "GET", "/api/tokens", None).await.header("x-total-count"), "1");
    assert_eq!(server.send(admin, "GET", "/api/tokens", None).await.header("x-total-count"), "2");
    let path = |made: &Answer| format!("/api/tokens/{}", made.body["id"].as_str().unwrap());
    server.send(vera, "DELETE", &path(&own), None).await.expect(404);
    server.send(As::Session(&text(&own)), "DELETE", &path(&made), None).await.expect(403);
    server.send(admin, "DELETE", &path(&made), None).await.expect(204);
    server.send(As::Session(&token), "GET", "/api/groups", None).await.expect(401);
    server.send(vera, "DELETE", &path(&made), None).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_end_with_their_account_and_with_a_reset_but_not_with_its_own_new_password() {
    let server = Server::start().await;
    let vera = server.person("vera", "viewer").await;
    let token = text(&make(&server, As::Session(&vera), "ci", &["read", "registry:pull"]).await.expect(201));
    let works = async |token: &str| server.send(As::Session(token), "GET", "/api/groups", None).await.status;
    let change = json!({"current_password": ADMIN_PASSWORD, "new_password": "Harbor54321"});
    server.send(As::Session(&vera), "PATCH", "/api/users/password", Some(change)).await.expect(204);
    assert_eq!((works(&vera).await.as_u16(), works(&token).await.as_u16()), (401, 200));
    // A registry token that was got with it ends with it, too.
    let got = server.send(As::Basic("vera", &token), "GET", "/service/token", None).await.expect(200);
    let registry = got.body["token"].as_str().unwrap().to_owned();
    server.send(As::Session(&registry), "GET", "/v2/", None).await.expect(200);
    server
        .admin("PATCH", "/api/users/vera/password", Some(json!({"new_password": "Harbor99999"})))
        .await
        .expect(204);
    assert_eq!(works(&token).await, 401);
    server.send(As::Session(&registry), "GET", "/v2/", None).await.expect(401);
    server.send(As::Basic("vera", &token), "GET", "/v2/", None).await.expect(401);

    let vera = server.login("vera", "Harbor99999").await;
    let token = text(&make(&server, As::Session(&vera), "ci", &["read"]).await.expect(201));
    assert_eq!(works(&token).await, 200);
    server.admin("DELETE", "/api/users/vera", None).await.expect(204);
    assert_eq!(works(&token).await, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_is_taken_away_is_gone_at_once() {
    let server = Server::start().await;
    let adam = server.person("adam", "admin").await;
    let token = text(&make(&server, As::Session(&adam), "ci", &["write", "registry:push"]).await.expect(201));
    let config = |name: &str| Some(json!({"config_name": name, "config": {}}));
    server.send(As::Session(&token), "POST", "/api/configs", config("one")).await.expect(201);
    let begin = "/v2/library/nginx/blobs/uploads/";
    server.send(As::Basic("adam", &token), "POST", begin, None).await.expect(202);
    server
        .send(As::Session(&adam), "PATCH", "/api/users/adam", Some(json!({"role": "system_admin"})))
        .await
        .expect(403);
    server.admin("PATCH", "/api/users/nobody", Some(json!({"role": "viewer"}))).await.expect(404);
    let changed = server.admin("PATCH", "/api/users/adam", Some(json!({"role": "viewer"}))).await.expect(200);
    assert_eq!(changed.body["role"], "viewer");
    for who in [As::Session(&token), As::Session(&adam)] {
        server.send(who, "POST", "/api/configs", config("two")).await.expect(403);
        server.send(who, "GET", "/api/configs", None).await.expect(200);
    }
    server.send(As::Basic("adam", &token), "POST", begin, None).await.expect(403);
    server.admin("PATCH", "/api/users/admin", Some(json!({"role": "viewer"}))).await.expect(409);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_the_registry_pulls_or_pushes() {
    let server = Server::start().await;
    let admin = As::Session(&server.admin);
    let pull = text(&make(&server, admin, "pull", &["registry:pull"]).await.expect(201));
    let push = text(&make(&server, admin, "push", &["registry:push"]).await.expect(201));
    let begin = "/v2/library/nginx/blobs/uploads/";
    server.send(As::Basic("admin", &pull), "POST", begin, None).await.expect(403);
    server.send(As::Basic("admin", &push), "POST", begin, None).await.expect(202);
    server
        .send(As::Basic("admin", &push), "POST", "/v2/satellite/group-state/g/state/blobs/uploads/", None)
        .await
        .expect(403);
    for (token, expected) in [(&pull, 401), (&push, 202)] {
        let path = "/service/token?scope=repository:library/nginx:pull,push";
        let got = server.send(As::Basic("admin", token), "GET", path, None).await.expect(200);
        let bearer = got.body["token"].as_str().unwrap().to_owned();
        let status = server.send(As::Session(&bearer), "POST", begin, None).await.status.as_u16();
        // The account may not at all, which is said before the token is looked at.
        assert!(status == expected || (expected == 401 && status == 403), "{status}");
        server.send(As::Session(&bearer), "GET", "/v2/library/nginx/tags/list", None).await.expect(404);
    }
    // What only looks like a token is looked up nowhere, and locks nobody out.
    for _ in 0..10 {
        let bad = format!("{}0", &push[..44]);
        let status = server.send(As::Basic("admin", &bad), "GET", "/v2/", None).await.status.as_u16();
        assert!(status == 401 || bad == push, "{status}");
    }
    server.login("admin", ADMIN_PASSWORD).await;
}
