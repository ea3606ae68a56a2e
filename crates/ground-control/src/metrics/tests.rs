use std::collections::BTreeSet;

use super::*;
use crate::domain::satellite::SatelliteState;

/// The lines of `docs/operations.md` that describe metrics: name, kind, labels.
fn documented() -> BTreeSet<(String, String, String)> {
    let text = include_str!("../../../../docs/operations.md");
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.strip_suffix('`')?.to_owned();
            let known = name.starts_with("ground_control_") || name.starts_with("process_");
            known.then(|| (name, cells.next().unwrap().to_owned(), cells.next().unwrap().to_owned()))
        })
        .collect()
}

#[test]
fn the_documented_metrics_are_those_that_there_are() {
    let metrics = Metrics::default();
    let there: BTreeSet<_> = metrics
        .catalogue()
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
            (metric.name.clone(), metric.kind.clone(), labels)
        })
        .collect();
    assert_eq!(there.len(), metrics.catalogue().len(), "a name is there twice");
    assert_eq!(documented(), there);
}

#[test]
fn strangers_cannot_add_labels() {
    let metrics = Metrics::default();
    let took = Duration::from_millis(3);
    for method in ["GET", "BREW", "SMUGGLE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for status in 200..=599 {
            metrics.answered(&method, NO_ROUTE, StatusCode::from_u16(status).unwrap(), took);
        }
    }
    let text = metrics.encode().unwrap();
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(series("ground_control_requests_total{"), 2 * 4);
    assert_eq!(series("ground_control_request_duration_seconds_count{"), 2);
    assert_eq!(series("ground_control_refusals_total{"), 4);
}

#[test]
fn a_request_is_under_way_until_it_is_answered_or_given_up() {
    let metrics = Metrics::default();
    let (one, other) = (metrics.under_way(), metrics.under_way());
    assert_eq!(metrics.values.requests_under_way.get(), 2);
    drop(one);
    drop(other);
    assert_eq!(metrics.values.requests_under_way.get(), 0);
}

#[test]
fn jobs_tell_how_they_ended() {
    let metrics = Metrics::default();
    let before = metrics.encode().unwrap();
    assert!(before.contains("ground_control_job_failures_total{job=\"garbage\"} 0\n"), "{before}");
    assert!(!before.contains("ground_control_job_last_success_timestamp_seconds{"), "{before}");
    metrics.job(Job::Garbage).ended(false);
    metrics.job(Job::Garbage).ended(true);
    drop(metrics.job(Job::Garbage));
    let text = metrics.encode().unwrap();
    for line in [
        "ground_control_job_runs_total{job=\"garbage\"} 2\n",
        "ground_control_job_failures_total{job=\"garbage\"} 1\n",
        "ground_control_job_duration_seconds_count{job=\"garbage\"} 2\n",
        "ground_control_job_last_success_timestamp_seconds{job=\"garbage\"} ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn what_nobody_knows_is_not_told() {
    let metrics = Metrics::default();
    let states = vec![(SatelliteState::Online, 7), (SatelliteState::Stale, 0)];
    metrics.set_satellites(Some(&Census { states, drifting: 3 }));
    let text = metrics.encode().unwrap();
    assert!(text.contains("ground_control_satellites{state=\"online\"} 7\n"), "{text}");
    assert!(text.contains("ground_control_satellites_drifting{drift=\"true\"} 3\n"), "{text}");
    metrics.set_unresolved(Some(2));
    assert!(metrics.encode().unwrap().contains("ground_control_artifacts_unresolved{} 2\n"));
    metrics.set_satellites(None);
    metrics.set_unresolved(None);
    let text = metrics.encode().unwrap();
    assert!(
        !text.contains("ground_control_satellites{") && !text.contains("ground_control_satellites_drifting{")
    );
    assert!(!text.contains("\nground_control_artifacts_unresolved{"), "{text}");
}

#[test]
fn the_process_is_seen() {
    let metrics = Metrics::default();
    metrics.encode().unwrap();
    assert!(metrics.values.process.resident.get() > 100_000);
}

#[test]
fn the_lag_is_the_age_of_the_oldest() {
    let metrics = Metrics::default();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let mut status = publish::Status { published: 3, ..publish::Status::default() };
    status.lag.waiting = 2;
    status.lag.oldest = Timestamp::from_second(1_800_000_000 - 90).ok();
    metrics.set_publisher(&status, now);
    assert_eq!(metrics.values.lag_seconds.get(), 90.0);
    assert!(metrics.encode().unwrap().contains("ground_control_documents_total{outcome=\"published\"} 3\n"));
    metrics.set_publisher(&publish::Status::default(), now);
    assert_eq!((metrics.values.lag_seconds.get(), metrics.values.waiting.get()), (0.0, 0));
}
