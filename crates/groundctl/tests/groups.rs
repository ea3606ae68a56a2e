//! Groups and their history, as they are asked for and shown.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/answering.rs"]
mod answering;

use serde_json::{Value, json};

use answering::{Answering, groundctl, said};

fn revision() -> Value {
    let artifact = |tag: &str| json!({"repository": "library/nginx", "tag": [tag], "labels": [], "type": "image", "deleted": false});
    json!({
        "number": 7, "author": "ann", "created_at": "2026-01-01T00:00:00Z", "restored_from": 4,
        "added": 0, "removed": 0, "changed": 1, "reordered": false, "artifacts": [artifact("1.2")],
        "difference": {"added": [], "removed": [], "reordered": false,
                       "changed": [{"from": artifact("1.3"), "to": artifact("1.2")}]},
    })
}

#[test]
fn the_history_of_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let server = Answering::with(&json!([revision()]));
    let output = groundctl(&server.url, dir.path(), &["groups", "revisions", "east"]);
    assert_eq!(server.asked().0, "GET /api/groups/east/revisions?page=1&page_size=100 HTTP/1.1");
    for word in ["7", "ann", "~1, restored from 4"] {
        assert!(said(&output).contains(word), "{}", said(&output));
    }

    let server = Answering::with(&revision());
    let output = groundctl(&server.url, dir.path(), &["groups", "revisions", "east", "7"]);
    assert_eq!(server.asked().0, "GET /api/groups/east/revisions/7 HTTP/1.1");
    assert!(said(&output).contains("~ from") && said(&output).contains("1.3"), "{}", said(&output));

    let server = Answering::with(&revision());
    let output = groundctl(&server.url, dir.path(), &["-o", "json", "groups", "revisions", "east", "7"]);
    server.asked();
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), revision());
}

#[test]
fn an_earlier_list_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Answering::with(&revision());
    let output = groundctl(&server.url, dir.path(), &["groups", "restore", "east", "4"]);
    assert_eq!(server.asked().0, "POST /api/groups/east/revisions/4/restore HTTP/1.1");
    assert!(said(&output).contains("list of revision 4, as revision 7"), "{}", said(&output));
    let output = groundctl("http://127.0.0.1:9", dir.path(), &["groups", "restore", "east", "first"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn satellites_are_chosen_by_label() {
    let dir = tempfile::tempdir().unwrap();
    let group = |selector: Value| {
        json!({"id": "1", "group_name": "east", "registry_url": "", "projects": [], "artifacts": [], "selector": selector,
               "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"})
    };
    let server = Answering::with(&group(json!("env in (prod)")));
    let output = groundctl(&server.url, dir.path(), &["groups", "select", "east", "env=prod"]);
    let (line, body) = server.asked();
    assert_eq!(
        (line.as_str(), body),
        ("PUT /api/groups/east/selector HTTP/1.1", json!({"selector": "env=prod"}))
    );
    assert!(said(&output).contains("group east chooses env in (prod)"), "{}", said(&output));
    let server = Answering::with(&group(Value::Null));
    let output = groundctl(&server.url, dir.path(), &["groups", "select", "east", "--none"]);
    assert_eq!(server.asked().1, json!({"selector": null}));
    assert!(said(&output).contains("by name alone"), "{}", said(&output));
    for bad in [["groups", "select", "east"].as_slice(), &["groups", "select", "east", "env", "--none"]] {
        assert_eq!(groundctl("http://127.0.0.1:9", dir.path(), bad).status.code(), Some(2));
    }
}

#[test]
fn what_a_list_stands_for_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let server = Answering::with(&json!({
        "id": "1", "group_name": "east", "registry_url": "", "projects": [], "selector": null,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "artifacts": [{"repository": "a/rule", "match": {"semver": "^1"}, "keep": 2}],
        "resolutions": [{
            "repository": "a/rule", "tag": null, "digest": null, "match": {"semver": "^1"}, "keep": 2,
            "resolved": [{"tag": "1.4.0", "digest": digest, "referrers": null}],
            "resolved_at": "2026-01-01T00:00:00Z",
            "unresolved": {"reason": "none of the 0 tags", "since": "2026-01-01T00:00:00Z"},
        }],
    }));
    let output = groundctl(&server.url, dir.path(), &["groups", "get", "east"]);
    assert_eq!(server.asked().0, "GET /api/groups/east HTTP/1.1");
    for word in ["semver ^1", "1.4.0", "none of"] {
        assert!(said(&output).contains(word), "{}", said(&output));
    }
}

#[test]
fn an_adapters_url_is_made_and_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    let server = Answering::with(&json!({"url": "https://gc/hooks/replication/s3cret"}));
    let path = file.to_str().unwrap();
    let output = groundctl(&server.url, dir.path(), &["groups", "replication", "east", "--file", path]);
    assert_eq!(server.asked().0, "POST /api/groups/east/replication-secret HTTP/1.1");
    assert!(!said(&output).contains("s3cret"), "{}", said(&output));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "https://gc/hooks/replication/s3cret");
    let server = Answering::with(&json!({}));
    let output = groundctl(&server.url, dir.path(), &["groups", "replication", "east", "--remove"]);
    assert_eq!(server.asked().0, "DELETE /api/groups/east/replication-secret HTTP/1.1");
    assert!(said(&output).contains("takes nothing"), "{}", said(&output));
}
