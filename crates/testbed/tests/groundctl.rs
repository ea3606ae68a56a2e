//! The operator's command line against the built Ground Control.
#![allow(clippy::unwrap_used, reason = "a test program: what fails ends the test")]

#[path = "groundctl/fleet.rs"]
mod fleet;
#[path = "groundctl/operator.rs"]
mod operator;
#[path = "groundctl/watching.rs"]
mod watching;

use serde_json::Value;
use testbed::files;
use testbed::ground_control::Options;

use operator::{operator, operator_of, text};

#[tokio::test]
async fn a_fleet_is_run_from_the_command_line() {
    let dir = files::scratch("groundctl").unwrap();
    let (ground_control, operator) = operator(dir.path()).await;
    assert!(operator.fails(4, &["satellites", "list"]).contains("groundctl login"));
    operator.logs_in(ground_control.password());

    let group = operator.file(
        "group.yaml",
        "group: shops\nartifacts:\n- repository: library/nginx\n  tag: [latest, \"1.10\"]\n- repository: a/b/c\n  tag: stable\n",
    );
    operator.does(&["groups", "apply", "-f", &group]);
    let shown = operator.json(&["groups", "get", "shops"]);
    assert_eq!(shown["artifacts"][0]["tag"], serde_json::json!(["latest", "1.10"]));
    assert_eq!(shown["projects"], serde_json::json!(["a", "library"]));

    let created = operator.json(&["satellites", "create", "edge-01", "--group", "shops"]);
    assert_eq!(created["token"].as_str().unwrap().len(), 32);
    assert!(operator.fails(5, &["satellites", "create", "edge-01"]).contains("edge-01"));
    let table = operator.does(&["satellites", "list"]);
    assert!(table.contains("edge-01") && table.contains("pending") && table.contains("shops"), "{table}");
    assert_eq!(operator.json(&["groups", "satellites", "shops"])[0]["name"], "edge-01");

    operator.does(&["groups", "remove", "shops", "edge-01"]);
    assert_eq!(operator.json(&["satellites", "get", "edge-01"])["groups"], serde_json::json!([]));
    operator.does(&["groups", "add", "shops", "edge-01"]);

    let config = operator
        .file("config.yaml", "app_config:\n  log_level: debug\n  heartbeat_interval: \"@every 5s\"\n");
    operator.does(&["configs", "create", "slow-link", "-f", &config]);
    operator.does(&["configs", "assign", "slow-link", "edge-01"]);
    assert!(operator.fails(2, &["configs", "delete", "slow-link"]).contains("slow-link"));
    let patch =
        operator.file("patch.json", r#"{"app_config":{"log_level":"warn","heartbeat_interval":null}}"#);
    let patched = operator.json(&["configs", "patch", "slow-link", "-f", &patch]);
    assert_eq!(patched["config"]["app_config"], serde_json::json!({"log_level": "warn"}));
    let wrong = operator.file("wrong.json", r#"{"app_config":{"log_level":"loud"}}"#);
    assert!(operator.fails(2, &["configs", "patch", "slow-link", "-f", &wrong]).contains("log_level"));
    operator.does(&["configs", "assign", "default", "edge-01"]);
    operator.does(&["configs", "delete", "slow-link"]);

    let fleet = operator.json(&["status"]);
    assert_eq!((fleet["health"].as_str(), fleet["satellites"].as_u64()), (Some("healthy"), Some(1)));
    operator.does(&["groups", "delete", "shops"]);
    operator.does(&["satellites", "delete", "edge-01"]);
    operator.fails(3, &["satellites", "get", "edge-01"]);

    operator.does(&["logout"]);
    operator.fails(4, &["groups", "list"]);
    ground_control.stop().await.unwrap();
}

#[tokio::test]
async fn input_that_is_wrong_says_what_and_changes_nothing() {
    let dir = files::scratch("groundctl").unwrap();
    let (ground_control, operator) = operator(dir.path()).await;
    let password = operator.file("wrong-password", "no-such-password-1A");
    let said = operator.fails(4, &["login", "--password-file", &password]);
    assert!(!said.contains("no-such-password"), "{said}");
    operator.logs_in(ground_control.password());
    for (content, words) in [
        ("group: g\nartifacts:\n- repository: library/nginx\n  tag: 1.10\n", "quotes"),
        ("group: Not_A_Name!\nartifacts: []\n", "name"),
        ("group: g\nartifacts:\n- repository: ../up\n  tag: t\n", "repository"),
        ("{", "group.yaml"),
    ] {
        let file = operator.file("group.yaml", content);
        let said = operator.fails(2, &["groups", "apply", "-f", &file]);
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(operator.json(&["groups", "list"]), serde_json::json!([]));
    let session = operator.home.join(".config/groundctl/session.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&session.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    ground_control.stop().await.unwrap();
}

#[tokio::test]
async fn identities_are_run_from_the_command_line() {
    let dir = files::scratch("groundctl").unwrap();
    let options = Options { spiffe: true, ..Options::default() };
    let (ground_control, operator) = operator_of(dir.path(), options).await;
    operator.logs_in(ground_control.password());
    let status = operator.json(&["spire", "status"]);
    assert_eq!((&status["provider"], &status["connected"]), (&"builtin".into(), &true.into()), "{status}");
    assert_eq!(operator.json(&["spire", "agents"])["agents"], serde_json::json!([]));

    let (token, bundle) = (operator.home.join("token"), operator.home.join("bundle.pem"));
    let register = |region: &'static str| {
        [
            "satellites",
            "register",
            "edge-01",
            "--region",
            region,
            "--ttl",
            "1h",
            "--join-token-file",
            text(&token),
        ]
    };
    let registered =
        operator.json(&[&register("eu-west")[..], &["--trust-bundle-file", text(&bundle)]].concat());
    let id = "spiffe://harbor-satellite.local/satellite/region/eu-west/edge-01";
    assert_eq!((&registered["spiffe_id"], &registered["join_token"]), (&id.into(), &Value::Null));
    assert!(String::from_utf8(files::read(&bundle).unwrap()).unwrap().contains("BEGIN CERTIFICATE"));
    let first = files::read(&token).unwrap();
    assert!(first.len() >= 32);
    assert_eq!(operator.json(&["satellites", "get", "edge-01"])["spiffe_id"], id);

    operator.does(&register("eu-west"));
    let second = files::read(&token).unwrap();
    assert_ne!(first, second, "a repetition gives a new token");
    assert!(operator.fails(5, &register("us-east")).contains("edge-01"));
    assert_eq!(files::read(&token).unwrap(), second, "a refusal leaves the file as it was");

    operator.fails(3, &["satellites", "revoke", "edge-02"]);
    operator.does(&["satellites", "revoke", "edge-01"]);
    assert_eq!(operator.json(&["satellites", "get", "edge-01"])["state"], "revoked");
    let enabled = operator.json(&["satellites", "enable", "edge-01", "--join-token-file", text(&token)]);
    assert_eq!((&enabled["spiffe_id"], &enabled["join_token"]), (&id.into(), &Value::Null));
    assert_ne!(files::read(&token).unwrap(), second);
    assert_eq!(operator.json(&["satellites", "get", "edge-01"])["state"], "pending");
    operator.fails(5, &["satellites", "enable", "edge-01"]);
    operator.fails(5, &["satellites", "approve", "edge-01"]);

    // One without an identity is let in again with its own kind of token.
    operator.does(&["satellites", "create", "edge-03"]);
    operator.does(&["satellites", "revoke", "edge-03"]);
    assert_eq!(operator.json(&["satellites", "enable", "edge-03"])["token"].as_str().map(str::len), Some(32));
    ground_control.stop().await.unwrap();
}
