//! Satellites and their labels, as they are asked for and shown.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/answering.rs"]
mod answering;

use serde_json::{Value, json};

use answering::{Answering, groundctl, said};

fn satellite() -> Value {
    json!({
        "id": "1", "name": "edge-01", "region": "eu", "spiffe_id": null, "state": "online", "groups": ["east"],
        "labels": {"env": "prod", "rack": "7"}, "config_name": "default", "last_seen": null,
        "heartbeat_interval": null, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    })
}

#[test]
fn lists_are_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let server = Answering::with(&json!([satellite()]));
    let arguments = [
        "satellites",
        "list",
        "--label",
        "env=prod",
        "-l",
        "tier in (a,b)",
        "--region",
        "eu",
        "--state",
        "online",
        "--group",
        "east",
    ];
    let output = groundctl(&server.url, dir.path(), &arguments);
    assert_eq!(
        server.asked().0,
        "GET /api/satellites?label=env%3Dprod&label=tier+in+%28a%2Cb%29&region=eu&state=online&group=east&page=1&page_size=100 HTTP/1.1"
    );
    assert!(said(&output).contains("edge-01"), "{}", said(&output));
    for bad in [["--state", "gone"].as_slice(), &["--which", "stale", "--state", "online"]] {
        let output = groundctl("http://127.0.0.1:9", dir.path(), &[&["satellites", "list"], bad].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
}

#[test]
fn labels_are_set_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Answering::with(&satellite());
    let output =
        groundctl(&server.url, dir.path(), &["satellite", "label", "edge-01", "env=prod", "rack=", "old-"]);
    let (line, body) = server.asked();
    assert_eq!(line, "PATCH /api/satellites/edge-01/labels HTTP/1.1");
    assert_eq!(body, json!({"env": "prod", "rack": "", "old": null}));
    assert!(said(&output).contains("env=prod, rack=7"), "{}", said(&output));
    for bad in [["label", "edge-01"].as_slice(), &["label", "edge-01", "env"]] {
        let output = groundctl("http://127.0.0.1:9", dir.path(), &[&["satellites"], bad].concat());
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
}
