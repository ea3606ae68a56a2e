//! The built program's words and exit codes where no Ground Control is needed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn groundctl(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_groundctl"))
        .args(arguments)
        .env_clear()
        .env("HOME", home.path())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn no_server_is_named() {
    let output = groundctl(&["satellites", "list"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("--server"), "{}", said(&output));
}

#[test]
fn not_logged_in() {
    let output = groundctl(&["--server", "http://127.0.0.1:9", "groups", "list"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(said(&output).contains("groundctl login"), "{}", said(&output));
}

#[test]
fn nothing_listens() {
    // A port that was free a moment ago, and that nobody was told.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_groundctl"))
        .args(["--server", &format!("http://127.0.0.1:{port}"), "status"])
        .env_clear()
        .env("HOME", home.path())
        .env("GROUNDCTL_TOKEN", "a-session-that-nobody-gave")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(said(&output).contains("cannot be reached"), "{}", said(&output));
    assert!(!said(&output).contains("a-session-that-nobody-gave"));
}

#[test]
fn plain_http_beyond_loopback_is_refused() {
    let output = groundctl(&["--server", "http://gc.example.com", "login", "--password-file", "/dev/null"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("USE_UNSECURE"), "{}", said(&output));
}

#[test]
fn completions_of_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = groundctl(&["completion", shell]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains("satellites"), "{shell}");
    }
}

#[test]
fn unknown_flags_are_usage() {
    assert_eq!(groundctl(&["--nonsense"]).status.code(), Some(2));
}
