//! A small simulated fleet against the built Ground Control: every part of `cargo xtask fleet`, for some seconds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and tells why"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const SATELLITES: usize = 50;

/// `xtask fleet` with a small fleet and short windows.
fn fleet(more: &[&str]) -> Command {
    let ground_control = testbed::binaries::find("ground-control", None).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args([
        "fleet", "--images", "5", "--wait", "2", "--window", "4", "--churn", "200", "--listed", "500",
    ]);
    command.arg("--programs").arg(ground_control.parent().unwrap()).args(more);
    command
}

/// Runs it to its end and gives its figures by name.
fn figures(json: &Path, more: &[&str]) -> BTreeMap<String, f64> {
    let satellites = SATELLITES.to_string();
    let mut command = fleet(&["--satellites", &satellites, "--json", json.to_str().unwrap()]);
    let output = command.args(more).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    eprintln!("{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let measures = report["measures"].as_array().unwrap().iter();
    // What nobody saw is `null`.
    measures
        .map(|one| (one["name"].as_str().unwrap().to_owned(), one["ours"].as_f64().unwrap_or(f64::NAN)))
        .collect()
}

fn a_fleet_lives(database: &str) {
    let dir = tempfile::tempdir().unwrap();
    // Half of the fleet knows no waiting, so that both kinds are seen in a few seconds.
    let more =
        ["--database", database, "--plain", "50", "--partition", "40", "--skewed", "40", "--seed", "7"];
    let figures = figures(&dir.path().join("report.json"), &more);
    let of = |name: &str| *figures.get(name).unwrap_or_else(|| panic!("{name} is not among {figures:#?}"));
    assert_eq!(of("failures while the fleet connects"), 0.0);
    assert_eq!(of("steady: failures"), 0.0);
    assert!(of("steady: heartbeats") >= SATELLITES as f64);
    assert!(of("steady: CPU of Ground Control") > 0.0);
    assert!(of("steady: RSS of Ground Control") > 1.0);
    assert!(of("steady: body sent to acknowledged, p99") > 0.0);
    assert!(of("churn: new connections") > 0.0);
    assert!(of("burst: heartbeats acknowledged") > 0.0);
    assert!(of("steady: end of wait to answer, p99") >= 0.0);
    assert!(of("one satellite changed: acknowledged to told, p99") >= 0.0);
    assert_eq!(of("group of all changed: state documents written"), 1.0);
    assert!(of("group of all changed: all told after") > 0.0);
    assert!(of("500 satellites in the database: the slowest list page") > 0.0);
}

#[test]
fn a_fleet_lives_on_sqlite() {
    a_fleet_lives("sqlite");
}

#[test]
fn a_fleet_lives_on_postgresql() {
    a_fleet_lives("postgres");
}

#[test]
fn it_ends_when_it_is_interrupted() {
    let mut command = fleet(&["--satellites", "5", "--only", "steady"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The first line says that all are registered: Ground Control and the fleet run.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("register"));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let begin = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}
