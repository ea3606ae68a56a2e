//! Accounts, sessions, passwords, the first administrator, and what a restart keeps.

use serde_json::json;

use crate::support::{ADMIN_PASSWORD, As, Server, config};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failed_login_is_answered_alike() {
    let server = Server::start().await;
    let login = async |name: &str, password: &str| {
        let body = json!({"username": name, "password": password});
        server.send(As::Nobody, "POST", "/login", Some(body)).await.expect(401)
    };
    let wrong = login("admin", "wrong").await;
    let unknown = login("nobody", ADMIN_PASSWORD).await;
    let robot = login("robot$edge-01", "x").await;
    let huge = login("admin", &"x".repeat(10_000)).await;
    for other in [&unknown, &robot, &huge] {
        assert_eq!(wrong.body, other.body);
        assert_eq!(wrong.header("www-authenticate"), other.header("www-authenticate"));
    }
    assert_eq!(wrong.body, json!({"message": "wrong or missing credentials", "code": 401}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_locked_after_five_failures_even_for_the_right_password() {
    let server = Server::start().await;
    server.person("vera", "viewer").await;
    for _ in 0..5 {
        server.send(As::Basic("vera", "wrong"), "GET", "/api/groups", None).await.expect(401);
    }
    let body = json!({"username": "vera", "password": "wrong"});
    let answer = server.send(As::Nobody, "POST", "/login", Some(body)).await.expect(429);
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=301).contains(&seconds), "{seconds}");
    // Others from here are not locked out, nor is a session that stands.
    server.login("admin", ADMIN_PASSWORD).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_by_logout_password_and_deletion() {
    let server = Server::start().await;
    let groups = async |token: &str| server.send(As::Session(token), "GET", "/api/groups", None).await.status;
    let first = server.person("vera", "viewer").await;
    let second = server.login("vera", ADMIN_PASSWORD).await;
    server.send(As::Session(&first), "POST", "/api/logout", None).await.expect(204);
    assert_eq!(groups(&first).await, 401);
    assert_eq!(groups(&second).await, 200);

    let change = json!({"current_password": ADMIN_PASSWORD, "new_password": "Harbor54321"});
    server.send(As::Session(&second), "PATCH", "/api/users/password", Some(change.clone())).await.expect(204);
    assert_eq!(groups(&second).await, 401);
    // The old password was remembered a moment ago, and is worth nothing now.
    server.send(As::Basic("vera", ADMIN_PASSWORD), "GET", "/api/groups", None).await.expect(401);
    server.send(As::Basic("vera", ADMIN_PASSWORD), "GET", "/v2/", None).await.expect(401);
    let third = server.login("vera", "Harbor54321").await;
    server.send(As::Session(&third), "PATCH", "/api/users/password", Some(change)).await.expect(401);

    let set = json!({"new_password": "Harbor99999"});
    server.admin("PATCH", "/api/users/vera/password", Some(set.clone())).await.expect(204);
    assert_eq!(groups(&third).await, 401);
    server.admin("PATCH", "/api/users/nobody/password", Some(set)).await.expect(404);
    let fourth = server.login("vera", "Harbor99999").await;
    server.admin("DELETE", "/api/users/vera", None).await.expect(204);
    assert_eq!(groups(&fourth).await, 401);
    server.send(As::Basic("vera", "Harbor99999"), "GET", "/v2/", None).await.expect(401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_listed_and_kept_sane() {
    let server = Server::start().await;
    server.person("adam", "admin").await;
    let users = server.admin("GET", "/api/users", None).await.expect(200);
    assert_eq!(users.header("x-total-count"), "2");
    let list = users.body.as_array().unwrap();
    assert_eq!((&list[0]["username"], &list[0]["role"]), (&json!("adam"), &json!("admin")));
    assert_eq!((&list[1]["username"], &list[1]["role"]), (&json!("admin"), &json!("system_admin")));
    let keys: Vec<&String> = list[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["created_at", "id", "role", "username"]);
    server.admin("GET", "/api/users/nobody", None).await.expect(404);

    let again = json!({"username": "adam", "password": ADMIN_PASSWORD, "role": "admin"});
    server.admin("POST", "/api/users", Some(again)).await.expect(409);
    server.admin("DELETE", "/api/users/admin", None).await.expect(409);
    server.admin("DELETE", "/api/users/nobody", None).await.expect(404);
    for (username, password, role) in [
        ("robot$x", ADMIN_PASSWORD, "admin"),
        ("a:b", ADMIN_PASSWORD, "admin"),
        ("password", ADMIN_PASSWORD, "admin"),
        ("new", "short", "admin"),
        ("new", "alllowercase1", "admin"),
        ("new", ADMIN_PASSWORD, "emperor"),
    ] {
        let body = json!({"username": username, "password": password, "role": role});
        let answer = server.admin("POST", "/api/users", Some(body)).await.expect(400);
        assert!(!answer.body["message"].as_str().unwrap().contains(ADMIN_PASSWORD));
    }
    server.admin("GET", "/api/users/new", None).await.expect(404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_everything_and_another_admin_password_changes_nothing() {
    let server = Server::start().await;
    server.group("east", "library/nginx").await;
    let (name, secret) = server.robot("edge-01", &["east"]).await;
    let waiting = server.satellite("edge-02", &[]).await;
    let session = server.admin.clone();
    server.published().await;
    let dir = server.stop().await;

    let more = [("ADMIN_PASSWORD", "Another12345")];
    let running = ground_control::server::start(&config(&dir, &more)).await.unwrap();
    assert!(running.generated_password.is_none());
    let server = Server { running, dir, client: reqwest::Client::new(), admin: session };
    let login = json!({"username": "admin", "password": "Another12345"});
    server.send(As::Nobody, "POST", "/login", Some(login)).await.expect(401);
    server.login("admin", ADMIN_PASSWORD).await;
    let group = server.admin("GET", "/api/groups/east", None).await.expect(200);
    assert_eq!(group.body["artifacts"][0]["repository"], "library/nginx");
    // The address is another one, and so is what the group says of it.
    assert_eq!(group.body["registry_url"], json!(server.running.public_url));
    server.send(As::Basic(&name, &secret), "POST", "/satellites/sync", Some(json!({}))).await.expect(200);
    server.published().await;
    let state = "/v2/satellite/satellite-state/edge-01/state/manifests/latest";
    server.send(As::Basic(&name, &secret), "GET", state, None).await.expect(200);
    server.register(&waiting).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_password_one_is_made_once() {
    crate::support::provider();
    let dir = tempfile::tempdir().unwrap();
    let none = [("ADMIN_PASSWORD", "")];
    let mut running = ground_control::server::start(&config(&dir, &none)).await.unwrap();
    let password = running.generated_password.take().unwrap();
    let password = secrecy::ExposeSecret::expose_secret(&password).to_owned();
    let server = Server { running, dir, client: reqwest::Client::new(), admin: String::new() };
    server.login("admin", &password).await;
    let dir = server.stop().await;
    let running = ground_control::server::start(&config(&dir, &none)).await.unwrap();
    assert!(running.generated_password.is_none());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_password_may_stand_in_a_file_that_nobody_needs_afterwards() {
    crate::support::provider();
    let (dir, secrets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = secrets.path().join("password");
    let named = [("ADMIN_PASSWORD", ""), ("ADMIN_PASSWORD_FILE", file.to_str().unwrap())];
    let refused =
        async || ground_control::server::start(&config(&dir, &named)).await.expect_err("refused").to_string();
    let none = refused().await;
    assert!(none.starts_with("ADMIN_PASSWORD_FILE: cannot read"), "{none}");
    testbed::files::write(&file, "tiny\n").unwrap();
    let weak = refused().await;
    assert!(weak.starts_with("ADMIN_PASSWORD_FILE: the password needs"), "{weak}");
    assert!(!weak.contains("tiny"), "{weak}");

    testbed::files::write(&file, format!("{ADMIN_PASSWORD}\n")).unwrap();
    let running = ground_control::server::start(&config(&dir, &named)).await.unwrap();
    assert!(running.generated_password.is_none());
    let server = Server { running, dir, client: reqwest::Client::new(), admin: String::new() };
    server.login("admin", ADMIN_PASSWORD).await;
    let dir = server.stop().await;
    drop(secrets);
    let running = ground_control::server::start(&config(&dir, &named)).await.unwrap();
    assert!(running.generated_password.is_none());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_requests_with_one_password_is_served_whole() {
    let server = Server::start().await;
    server.person("adam", "admin").await;
    // More than may wait for the password to be stretched.
    let burst = (0..200).map(|_| server.send(As::Basic("adam", ADMIN_PASSWORD), "GET", "/v2/", None));
    for answer in futures_util::future::join_all(burst).await {
        answer.expect(200);
    }
}
