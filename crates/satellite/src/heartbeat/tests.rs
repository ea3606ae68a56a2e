use fleet_protocol::heartbeat::HeartbeatAnswer;

use super::*;
use crate::status::{
    FailedArtifact as Failure, GroupStatus, ImageStatus, LastSync, RefusedConfig, TagConflict,
};

fn digest(seed: &[u8]) -> String {
    oci::Digest::sha256(seed).to_string()
}

fn effective() -> Effective {
    let site = crate::config::testing::site(std::path::Path::new("/nonexistent"));
    Effective::of(&site, &crate::config::Layer::default())
}

#[test]
fn every_field_is_filled() {
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let mut status = Status { name: Some("edge-01".into()), activity: "idle".into(), ..Status::default() };
    status.desired.state_digest = Some(digest(b"state"));
    status.desired.groups.push(GroupStatus {
        url: "https://h/g:latest".into(),
        error: Some("404".into()),
        ..GroupStatus::default()
    });
    status.config.digest = Some(digest(b"config"));
    status.config.refused = Some(RefusedConfig { reason: "bad interval".into(), ..RefusedConfig::default() });
    status.last_sync = Some(LastSync { duration_ms: 1234, ..LastSync::default() });
    let image = ImageStatus {
        registry: "h.example.com:5000".into(),
        repository: "library/nginx".into(),
        tags: vec!["1".into(), "latest".into()],
        digest: digest(b"image"),
        size_bytes: 77,
        whole: true,
        ..ImageStatus::default()
    };
    status.images = vec![
        image.clone(),
        ImageStatus { tags: vec![], repository: "by/digest".into(), ..image.clone() },
        ImageStatus { whole: false, ..image },
    ];
    status.failed = vec![Failure {
        reference: "h/a:1".into(),
        digest: Some(digest(b"failed")),
        reason: "x".repeat(2000),
        attempts: 3,
        ..Failure::default()
    }];
    status.conflicts = vec![TagConflict {
        reference: "a/b:c".into(),
        kept: None,
        wanted: [(digest(b"1"), vec!["g2".into(), "g1".into()]), (digest(b"2"), vec!["g1".into()])].into(),
    }];
    let figures = Figures { cpu_percent: 1.5, memory_bytes: 9_000_000, storage_bytes: 42 };
    let config = effective();
    let told =
        Told { figures, generation: 7, registry_username: Some("robot$edge-01".into()), ..Told::default() };
    let message = compose(&status, &config, told.clone(), now);
    assert!(message.lists_images());
    let json = serde_json::to_value(&message).unwrap();

    assert_eq!(json["name"], "edge-01");
    assert_eq!(json["activity"], "idle");
    assert_eq!(json["state_report_interval"], config.heartbeat_interval.to_string());
    assert_eq!(json["latest_state_digest"], digest(b"state"));
    assert_eq!(json["latest_config_digest"], digest(b"config"));
    assert_eq!(json["memory_used_bytes"], 9_000_000);
    assert_eq!(json["storage_used_bytes"], 42);
    assert_eq!(json["cpu_percent"], 1.5);
    assert_eq!(json["request_created_time"], "2026-11-21T12:00:00Z");
    assert_eq!(json["last_sync_duration_ms"], 1234);
    assert_eq!(json["image_count"], 2, "an image that is not whole is none");
    let references: Vec<&str> = json["cached_images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["reference"].as_str().unwrap())
        .collect();
    let of = digest(b"image");
    assert_eq!(
        references,
        [
            format!("h.example.com:5000/library/nginx:1@{of}"),
            format!("h.example.com:5000/library/nginx:latest@{of}"),
            format!("h.example.com:5000/by/digest@{of}"),
        ]
    );
    assert_eq!(json["cached_images"][0]["size_bytes"], 77);
    assert_eq!(json["failed"][0]["digest"], digest(b"failed"));
    assert_eq!(json["failed"][0]["attempts"], 3);
    assert!(json["failed"][0]["reason"].as_str().unwrap().chars().count() <= MAX_REASON + 1);
    assert_eq!(json["conflicts"][0]["groups"], serde_json::json!(["g1", "g2"]));
    assert_eq!(json["config_refusals"][0], "bad interval");
    assert_eq!(json["document_errors"][0]["document"], "https://h/g:latest");
    assert_eq!(json["generation"], 7);
    assert_eq!(json["registry_username"], "robot$edge-01");

    let known = Told { known_images: Some(&message.inventory_digest), ..told.clone() };
    let short = compose(&status, &config, known, now);
    assert_eq!(short.cached_images, []);
    assert_eq!((short.inventory_digest.clone(), short.image_count), (message.inventory_digest.clone(), 2));
    assert!(!short.lists_images());
    let another = Told { known_images: Some("sha256:another"), ..told };
    assert_eq!(compose(&status, &config, another, now).cached_images.len(), 3);
}

#[test]
fn this_process_has_figures() {
    let dir = tempfile::tempdir().unwrap();
    let store = blob_store::Store::open(dir.path(), blob_store::Options::default()).unwrap();
    let mut meter = ProcessMeter::default();
    let all = Metrics { cpu: true, memory: true, storage: true };
    // Until the system has counted some of it: on a busy machine that is no fixed time.
    let begun = cpu_ticks().unwrap();
    while cpu_ticks().unwrap() < begun + 2 {}
    let figures = meter.read(all, &store);
    assert!(figures.cpu_percent > 0.0, "{figures:?}");
    assert!((1 << 20..1 << 34).contains(&figures.memory_bytes), "{figures:?}");
    let none = meter.read(Metrics { cpu: false, memory: false, storage: false }, &store);
    assert_eq!(none, Figures::default());
}

#[test]
fn an_answer_may_be_empty() {
    assert_eq!(HeartbeatAnswer::parse(b"").unwrap(), HeartbeatAnswer::default());
    let answer = HeartbeatAnswer::parse(br#"{"events":["refresh_credentials"],"later":1}"#).unwrap();
    assert_eq!(answer.events, ["refresh_credentials"]);
}

#[test]
fn nodes_are_told_as_long_as_they_fit_and_say_nothing_new_by_being_there() {
    use crate::site::nodes::{NodeFailure as Failed, NodeStatus};
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let failure = Failed { reference: "q.io/a:1".into(), reason: "x".repeat(2000), ..Failed::default() };
    let node = |number: usize| NodeStatus {
        name: format!("n{number}"),
        seen_at: now,
        present: 2,
        pulling: 1,
        waiting: 3,
        failed: 5,
        failures: vec![failure.clone(); 5],
        ..NodeStatus::default()
    };
    let mut status = Status { nodes: (0..600).map(node).collect(), ..Status::default() };
    let told = |status: &Status, now| compose(status, &effective(), Told::default(), now).nodes;
    let nodes = told(&status, now);
    assert_eq!((nodes.len(), nodes[0].present, nodes[0].missing, nodes[0].failed), (MAX_NODES, 2, 9, 5));
    assert_eq!(nodes.iter().map(|node| node.failures.len()).sum::<usize>(), MAX_NODE_FAILURES);
    assert_eq!(nodes[0].failures[0].reason.chars().count(), MAX_REASON + 1);
    let later = now + jiff::SignedDuration::from_mins(1);
    for node in &mut status.nodes {
        node.seen_at = later;
    }
    assert_eq!(told(&status, later), nodes, "that they are still there is no news");
    let silent = told(&status, later + SILENT + SILENT);
    assert_eq!(silent[0].silent_since, Some(later));
}

#[test]
fn nodes_that_are_known_cost_a_digest_and_silence_is_told() {
    use crate::site::nodes::NodeStatus;
    let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let node = |number: usize| NodeStatus {
        name: format!("worker-{number:03}.site.example.com"),
        seen_at: now,
        runtime: "containerd".into(),
        runtime_version: "2.2.0".into(),
        agent_version: "1.0.0".into(),
        present: 40,
        ..NodeStatus::default()
    };
    let mut status = Status { nodes: (0..MAX_NODES).map(node).collect(), ..Status::default() };
    let compose = |status: &Status, known: Option<&str>, now| {
        compose(status, &effective(), Told { known_nodes: known, ..Told::default() }, now)
    };
    let bytes = |message: &Heartbeat| serde_json::to_vec(message).unwrap().len();
    let whole = compose(&status, None, now);
    let (digest, without) = (whole.nodes_digest.clone(), bytes(&compose(&Status::default(), None, now)));
    assert!(bytes(&whole) > 60_000, "{}", bytes(&whole));
    // They are heard of again and again, which is no news.
    let later = now + SILENT;
    for node in &mut status.nodes {
        node.seen_at = later;
    }
    let idle = compose(&status, Some(&digest), later);
    assert_eq!((idle.nodes.len(), &idle.nodes_digest), (0, &digest));
    assert!(bytes(&idle) < without + 60, "{} {without}", bytes(&idle));
    // But one that falls silent is.
    status.nodes[7].seen_at = now;
    assert_eq!(compose(&status, Some(&digest), later).nodes.len(), 0);
    let silent = compose(&status, Some(&digest), later + SILENT);
    assert_eq!((silent.nodes.len(), silent.nodes[7].silent_since), (MAX_NODES, Some(now)));
    assert_eq!(compose(&status, Some(&silent.nodes_digest), later + SILENT).nodes.len(), 0);
    status.nodes.clear();
    let gone = compose(&status, Some(&digest), later);
    assert_eq!(
        (gone.nodes.len(), gone.nodes_digest.as_str()),
        (0, ""),
        "no digest and no list: there are none"
    );
}
