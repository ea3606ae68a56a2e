//! Accounts and API tokens, as they are asked for and shown.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/answering.rs"]
mod answering;

use serde_json::{Value, json};

use answering::{Answering, groundctl, said};

fn token(more: &[(&str, Value)]) -> Value {
    let mut token = json!({
        "id": "42", "name": "ci", "owner": "vera", "scopes": ["read", "registry:pull"],
        "created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-02-01T00:00:00Z", "last_used_at": null,
    });
    for (key, value) in more {
        token[*key] = value.clone();
    }
    token
}

#[test]
fn a_token_is_made_and_shown_once() {
    let dir = tempfile::tempdir().unwrap();
    let made = token(&[("token", json!("hsgc_secret"))]);
    let arguments = [
        "token",
        "create",
        "ci",
        "--scope",
        "read",
        "--scope",
        "registry:pull",
        "--expires",
        "2026-02-01T00:00:00Z",
    ];
    let server = Answering::with(&made);
    let output = groundctl(&server.url, dir.path(), &arguments);
    let (line, body) = server.asked();
    assert_eq!(line, "POST /api/tokens HTTP/1.1");
    assert_eq!(
        body,
        json!({"name": "ci", "scopes": ["read", "registry:pull"], "expires_at": "2026-02-01T00:00:00Z"})
    );
    assert!(said(&output).starts_with("hsgc_secret\n"), "{}", said(&output));

    let server = Answering::with(&made);
    let output =
        groundctl(&server.url, dir.path(), &[&arguments[..], &["--token-file", "t", "-o", "json"]].concat());
    server.asked();
    assert!(output.status.success() && !said(&output).contains("hsgc_secret"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(dir.path().join("t")).unwrap(), "hsgc_secret\n");
    for bad in [["token", "create", "ci"].as_slice(), &["token", "create", "ci", "--scope", "all"]] {
        let output = groundctl("http://127.0.0.1:9", dir.path(), bad);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
}

#[test]
fn tokens_are_listed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Answering::with(&json!([token(&[])]));
    let output = groundctl(&server.url, dir.path(), &["tokens", "list"]);
    assert_eq!(server.asked().0, "GET /api/tokens?page=1&page_size=100 HTTP/1.1");
    for shown in ["42", "vera", "read, registry:pull", "(ended)", "never"] {
        assert!(said(&output).contains(shown), "{shown}: {}", said(&output));
    }
    let server = Answering::with(&Value::Null);
    assert!(groundctl(&server.url, dir.path(), &["token", "delete", "42"]).status.success());
    assert_eq!(server.asked().0, "DELETE /api/tokens/42 HTTP/1.1");
}

#[test]
fn accounts_are_made_and_changed() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("new", "Harbor54321\n"), ("old", "Harbor12345")] {
        std::io::Write::write_all(
            &mut std::fs::File::create(dir.path().join(name)).unwrap(),
            text.as_bytes(),
        )
        .unwrap();
    }
    let user = json!({"id": "1", "username": "vera", "role": "viewer", "created_at": "2026-01-01T00:00:00Z"});
    for (arguments, line, body, answer) in [
        (
            &["user", "create", "vera", "--role", "viewer", "--password-file", "new"][..],
            "POST /api/users HTTP/1.1",
            json!({"username": "vera", "password": "Harbor54321", "role": "viewer"}),
            user.clone(),
        ),
        (
            &["user", "role", "vera", "admin"],
            "PATCH /api/users/vera HTTP/1.1",
            json!({"role": "admin"}),
            user.clone(),
        ),
        (
            &["user", "password", "vera", "--password-file", "new"],
            "PATCH /api/users/vera/password HTTP/1.1",
            json!({"new_password": "Harbor54321"}),
            Value::Null,
        ),
        (
            &["user", "password", "--password-file", "new", "--current-password-file", "old"],
            "PATCH /api/users/password HTTP/1.1",
            json!({"current_password": "Harbor12345", "new_password": "Harbor54321"}),
            Value::Null,
        ),
        (&["user", "delete", "vera"], "DELETE /api/users/vera HTTP/1.1", Value::Null, Value::Null),
        (&["users", "list"], "GET /api/users?page=1&page_size=100 HTTP/1.1", Value::Null, json!([user])),
    ] {
        let server = Answering::with(&answer);
        let output = groundctl(&server.url, dir.path(), arguments);
        assert_eq!(server.asked(), (line.to_owned(), body), "{arguments:?}");
        assert!(output.status.success() && !said(&output).contains("Harbor"), "{}", said(&output));
    }
}
