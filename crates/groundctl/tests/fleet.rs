//! What `apply` asks Ground Control, and what it makes of answers that a quiet one never gives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/scripted.rs"]
mod scripted;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use scripted::{Answer, Scripted};

const FILE: &str = "configs:\n  slow: {app_config: {log_level: warn}}\n";

fn apply(server: &Scripted, dir: &Path, file: &str) -> Output {
    let mut run = Command::new(env!("CARGO_BIN_EXE_groundctl"))
        .args(["apply", "-f", "-"])
        .env_clear()
        .current_dir(dir)
        .env("HOME", dir)
        .env("GROUNDCTL_SERVER", &server.url)
        .env("GROUNDCTL_TOKEN", "a-session")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    run.stdin.take().unwrap().write_all(file.as_bytes()).unwrap();
    run.wait_with_output().unwrap()
}

fn config(level: &str) -> Value {
    json!({"id": "1", "config_name": "slow", "registry_url": "", "config": {"app_config": {"log_level": level}},
           "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"})
}

/// The answers to a look at a fleet of one config.
fn look() -> Vec<Answer> {
    vec![(200, "", json!([config("info")])), (200, "", json!([])), (200, "", json!([]))]
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_change_depends_on_what_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut answers = look();
    answers.extend([(200, "ETag: \"v1\"\r\n", config("info")), (200, "", config("warn"))]);
    let server = Scripted::with(answers);
    let output = apply(&server, dir.path(), FILE);
    assert!(output.status.success(), "{}", said(&output));
    let asked = server.asked();
    let (head, body) = asked.last().unwrap();
    assert!(
        head.starts_with("PATCH /api/configs/slow ") && head.to_lowercase().contains("if-match: \"v1\""),
        "{head}"
    );
    assert_eq!(*body, json!({"app_config": {"log_level": "warn"}}));
    assert_eq!(asked.len(), 5);
}

#[test]
fn what_somebody_else_changed_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    // Before the request: seen by groundctl. Between the look and the request: refused by Ground Control.
    let before = vec![(200, "", config("debug"))];
    let between = vec![
        (200, "ETag: \"v1\"\r\n", config("info")),
        (412, "", json!({"message": "config \"slow\" was changed by somebody else", "code": 412})),
    ];
    for (answers, requests) in [(before, 4), (between, 5)] {
        let server = Scripted::with([look(), answers].concat());
        let output = apply(&server, dir.path(), FILE);
        assert_eq!(output.status.code(), Some(5), "{}", said(&output));
        assert!(
            said(&output).contains("changed by somebody else") && said(&output).contains("0 of 1"),
            "{}",
            said(&output)
        );
        assert_eq!(server.asked().len(), requests);
    }
}

#[test]
fn who_is_asked_to_go_on_more_slowly_does() {
    let dir = tempfile::tempdir().unwrap();
    let slower =
        (429, "Retry-After: 1\r\n", json!({"message": "too many requests of this account", "code": 429}));
    let mut answers = look();
    answers.insert(1, slower.clone());
    answers.extend([(200, "", config("info")), slower, (200, "", config("warn"))]);
    let server = Scripted::with(answers);
    let output = apply(&server, dir.path(), FILE);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(server.asked().len(), 7);
    let forever =
        (429, "Retry-After: 3600\r\n", json!({"message": "too many requests of this account", "code": 429}));
    let server = Scripted::with(vec![forever]);
    let output = apply(&server, dir.path(), FILE);
    assert!(!output.status.success() && said(&output).contains("too many requests"), "{}", said(&output));
}

#[test]
fn nothing_is_asked_before_the_files_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let server = Scripted::with(Vec::new());
    let output = apply(&server, dir.path(), "configs:\n  slow: {app_config: {log_level: loud}}\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("-:2: configs.slow") && said(&output).contains("nothing was changed"));
    assert!(server.asked().is_empty());
}

#[test]
fn what_is_made_is_asked_for_again_where_its_answer_got_lost() {
    let dir = tempfile::tempdir().unwrap();
    let file = "groups: {web: {}}\n";
    let empty = || (200, "", json!([]));
    let group = json!({"id": "1", "group_name": "web", "registry_url": "", "projects": [], "artifacts": [], "selector": null,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"});
    let none = (404, "", json!({"message": "there is no group \"web\"", "code": 404}));
    let server = Scripted::with(vec![empty(), empty(), empty(), none, scripted::LOST, (200, "", group)]);
    let output = apply(&server, dir.path(), file);
    assert!(output.status.success(), "{}", said(&output));
    let asked = server.asked();
    let key = |(head, _): &(String, Value)| {
        let head = head.to_lowercase();
        head.lines().find_map(|line| line.strip_prefix("idempotency-key: ").map(str::to_owned)).unwrap()
    };
    assert_eq!(asked.len(), 6);
    assert!(asked[5].0.starts_with("POST /api/groups/sync ") && asked[4].1 == asked[5].1);
    assert_eq!(key(&asked[4]), key(&asked[5]), "one request, sent twice");
}
