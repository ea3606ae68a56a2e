//! The one-time token on its way from Ground Control's answer to where the operator wants it.
//!
//! Ground Control's part is a canned answer here; the same commands run against the built one in the end-to-end tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/answering.rs"]
mod answering;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use answering::{Answering, groundctl, said};

const TOKEN: &str = "0a1b2c3d-join-token-4e5f";
const BUNDLE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";

fn registration() -> Value {
    json!({
        "satellite": "edge-01", "region": "eu-west", "spiffe_id": "spiffe://td/satellite/region/eu-west/edge-01",
        "parent_agent_id": "spiffe://td/agent/edge-01", "join_token": TOKEN, "expires_at": "2030-01-01T00:00:00Z",
        "spire_server_address": null, "spire_server_port": null, "trust_domain": "td", "trust_bundle": BUNDLE,
    })
}

#[test]
fn a_token_that_goes_into_a_file_is_not_shown() {
    for format in ["table", "json"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Answering::with(&registration());
        let output = groundctl(
            &server.url,
            dir.path(),
            &[
                "--output",
                format,
                "satellites",
                "register",
                "edge-01",
                "--region",
                "eu-west",
                "--selector",
                "unix:uid:0",
                "--ttl",
                "10m",
                "--group",
                "shops",
                "--config",
                "slow",
                "--join-token-file",
                "token",
                "--trust-bundle-file",
                "bundle.pem",
            ],
        );
        assert!(output.status.success(), "{}", said(&output));
        let (line, body) = server.asked();
        assert_eq!(line, "POST /api/satellites/register HTTP/1.1");
        let wanted = json!({"satellite_name": "edge-01", "region": "eu-west", "selectors": ["unix:uid:0"],
            "attestation_method": "join_token", "ttl_seconds": 600, "parent_agent_id": null, "groups": ["shops"],
            "config_name": "slow"});
        assert_eq!(body, wanted);
        assert!(!said(&output).contains(TOKEN), "{}", said(&output));
        assert!(said(&output).contains("spiffe://td/satellite/region/eu-west/edge-01"));
        for (name, content) in [("token", TOKEN), ("bundle.pem", BUNDLE)] {
            let path = dir.path().join(name);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
    }
}

#[test]
fn a_token_without_a_file_is_shown_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Answering::with(&registration());
    let output = groundctl(&server.url, dir.path(), &["satellites", "register", "edge-01"]);
    server.asked();
    let said = said(&output);
    assert_eq!(said.matches(TOKEN).count(), 1, "{said}");
    assert!(said.contains(BUNDLE.trim_end()), "{said}");

    let server = Answering::with(&registration());
    let output = groundctl(&server.url, dir.path(), &["--output", "json", "satellites", "enable", "edge-01"]);
    assert_eq!(server.asked().0, "POST /api/satellites/edge-01/enable HTTP/1.1");
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&shown["join_token"], &shown["trust_bundle"]), (&json!(TOKEN), &json!(BUNDLE)));
}

#[test]
fn an_agent_that_attests_otherwise_leaves_no_token_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut answer = registration();
    answer["join_token"] = Value::Null;
    let server = Answering::with(&answer);
    let arguments = [
        "satellites",
        "register",
        "edge-01",
        "--attestation-method",
        "x509pop",
        "--join-token-file",
        "token",
    ];
    let output = groundctl(&server.url, dir.path(), &arguments);
    assert_eq!(server.asked().1["attestation_method"], "x509pop");
    assert!(said(&output).contains("attests otherwise"), "{}", said(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_satellite_without_spiffe_is_enabled_with_its_kind_of_token() {
    let dir = tempfile::tempdir().unwrap();
    let answer = json!({"token": "00112233445566778899aabbccddeeff"});
    let server = Answering::with(&answer);
    let output =
        groundctl(&server.url, dir.path(), &["satellites", "enable", "edge-01", "--token-file", "token"]);
    server.asked();
    assert!(output.status.success() && !said(&output).contains("00112233"), "{}", said(&output));
    assert_eq!(
        std::fs::read_to_string(dir.path().join("token")).unwrap(),
        "00112233445566778899aabbccddeeff"
    );
}

#[test]
fn a_file_that_cannot_be_written_is_said_before_anything_is_registered() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there: had it been asked, the exit code would be that of a server out of reach.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    for (file, code) in [("missing/token", 1), ("/dev/null", 2), (".", 2)] {
        let arguments = ["satellites", "register", "edge-01", "--join-token-file", file];
        let output = groundctl(&url, dir.path(), &arguments);
        assert_eq!(output.status.code(), Some(code), "{file}: {}", said(&output));
    }
}

#[test]
fn revoke_approve_and_spire() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["revoke", "approve"] {
        let server = Answering::with(&json!({}));
        let output = groundctl(&server.url, dir.path(), &["satellites", command, "edge-01"]);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(server.asked().0, format!("POST /api/satellites/edge-01/{command} HTTP/1.1"));
    }
    let status = json!({"enabled": true, "trust_domain": "td", "provider": "builtin", "connected": true});
    let server = Answering::with(&status);
    let output = groundctl(&server.url, dir.path(), &["spire", "status"]);
    assert_eq!(server.asked().0, "GET /api/spire/status HTTP/1.1");
    assert!(said(&output).contains("builtin"), "{}", said(&output));

    let agents = json!({"agents": [{"spiffe_id": "spiffe://td/spire/agent/x509pop/ab", "attestation_type": "x509pop",
        "selectors": ["x509pop:subject:cn:edge-01"], "expires_at": "2030-01-01T00:00:00Z"}]});
    let server = Answering::with(&agents);
    let output = groundctl(&server.url, dir.path(), &["spire", "agents", "--type", "x509pop"]);
    assert_eq!(server.asked().0, "GET /api/spire/agents?attestation_type=x509pop HTTP/1.1");
    assert!(said(&output).contains("x509pop:subject:cn:edge-01"), "{}", said(&output));
    assert_eq!(
        groundctl("http://127.0.0.1:9", dir.path(), &["spire", "agents", "--type", "tpm"]).status.code(),
        Some(2)
    );
}
