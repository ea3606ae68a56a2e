//! What satellites report.

use fleet_protocol::heartbeat::NodePresence;
use ground_control::desired::Hub;
use ground_control::domain::SatelliteId;
use ground_control::domain::heartbeat::{CachedImage, HISTORY, HeartbeatOutcome, HeartbeatRecord, Report};
use ground_control::domain::satellite::{Satellite, SatelliteState};
use ground_control::metrics::Metrics;
use ground_control::store::{Credential, Fold, HeartbeatRecorder, Incoming};

use crate::fixture::{Fixture, at, page, satellite};

fn record(satellite: &SatelliteId, seconds: i64, images: &[(&str, u64)]) -> HeartbeatRecord {
    let cached_images = images
        .iter()
        .map(|(reference, size_bytes)| CachedImage {
            reference: (*reference).into(),
            size_bytes: *size_bytes,
        })
        .collect();
    let report = Report {
        name: "whatever it says".into(),
        activity: format!("report {seconds}"),
        state_report_interval: "@every 00h00m30s".into(),
        image_count: images.len() as u64,
        cached_images,
        ..Report::default()
    };
    HeartbeatRecord { satellite: satellite.clone(), received_at: at(seconds), report }
}

pub(crate) async fn reports_are_recorded(fixture: Fixture) {
    let store = fixture.ready().await;
    let one = satellite(&store, "edge-01", &[]).await;
    let two = satellite(&store, "edge-02", &[]).await;
    let gone = satellite(&store, "edge-03", &[]).await;
    store.delete_satellite("edge-03", at(2)).await.unwrap();
    assert_eq!(store.latest_heartbeat("edge-01").await.unwrap(), None);

    let batch = [
        record(&two.id, 10, &[]),
        record(&gone.id, 10, &[]),
        record(&one.id, 10, &[("h/r:1@sha256:aa", 5)]),
        record(&SatelliteId::generate(), 10, &[]),
        record(&one.id, 11, &[("h/r:2@sha256:bb", 6)]),
    ];
    assert_eq!(
        store.record_heartbeats(&batch).await.unwrap(),
        [
            HeartbeatOutcome::Recorded { first: true, secret_rotated_at: None },
            HeartbeatOutcome::Gone,
            HeartbeatOutcome::Recorded { first: true, secret_rotated_at: None },
            HeartbeatOutcome::Gone,
            HeartbeatOutcome::Recorded { first: false, secret_rotated_at: None },
        ]
    );
    assert!(store.record_heartbeats(&[]).await.unwrap().is_empty());
    let latest = store.latest_heartbeat("edge-01").await.unwrap().unwrap();
    assert_eq!((latest.received_at, &latest.report), (at(11), &batch[4].report));
    let seen = store.satellite("edge-01").await.unwrap();
    assert_eq!((seen.state, seen.last_seen), (SatelliteState::Online, Some(at(11))));
    assert_eq!(seen.heartbeat_interval.as_deref(), Some("@every 00h00m30s"));
    assert_eq!(seen.updated_at, one.updated_at);

    // What says nothing of its interval does not wipe it.
    let mut silent = record(&one.id, 12, &[]);
    silent.report.state_report_interval = String::new();
    store.record_heartbeats(&[silent]).await.unwrap();
    assert!(store.satellite("edge-01").await.unwrap().heartbeat_interval.is_some());
}

pub(crate) async fn the_history_is_bounded(fixture: Fixture) {
    let store = fixture.ready().await;
    let one = satellite(&store, "edge-01", &[]).await;
    let total = HISTORY + 7;
    let batch: Vec<_> = (0..total).map(|n| record(&one.id, n, &[("h/r:1", 1)])).collect();
    store.record_heartbeats(&batch).await.unwrap();
    let history = store.heartbeat_history("edge-01").await.unwrap();
    let kept: Vec<_> = history.iter().map(|heartbeat| heartbeat.received_at).collect();
    let expected: Vec<_> = (7..total).rev().map(at).collect();
    assert_eq!(kept, expected);
    assert_eq!(history[0].report.activity, format!("report {}", total - 1));
    assert!(history[0].report.cached_images.is_empty());
}

pub(crate) async fn images_are_replaced_and_paged(fixture: Fixture) {
    let store = fixture.ready().await;
    let one = satellite(&store, "edge-01", &[]).await;
    let images = [("h/c:1", 3), ("h/a:1@sha256:aa", 1), ("h/b:1", 2), ("h/b:1", 9), ("", 1), ("nul\0", 1)];
    store.record_heartbeats(&[record(&one.id, 1, &images)]).await.unwrap();
    let first = store.cached_images("edge-01", page(1, 2)).await.unwrap();
    let named: Vec<_> = first.items.iter().map(|i| (i.reference.as_str(), i.size_bytes)).collect();
    assert_eq!((first.total, named), (3, vec![("h/a:1@sha256:aa", 1), ("h/b:1", 9)]));
    assert_eq!(store.cached_images("edge-01", page(2, 2)).await.unwrap().items[0].reference, "h/c:1");
    // The same list in another order, then a shorter one, then none.
    let same = [("h/b:1", 9), ("h/c:1", 3), ("h/a:1@sha256:aa", 1)];
    for (n, (list, left)) in [(&same[..], 3), (&same[..1], 1), (&[], 0)].into_iter().enumerate() {
        store.record_heartbeats(&[record(&one.id, 10 + n as i64, list)]).await.unwrap();
        assert_eq!(store.cached_images("edge-01", page(1, 10)).await.unwrap().total, left);
    }
}

fn incoming(satellite: &Satellite, seconds: i64, activity: &str) -> Incoming {
    let mut report = record(&satellite.id, seconds, &[]).report;
    report.activity = activity.into();
    Incoming {
        name: satellite.name.clone(),
        credential: Credential::Robot(satellite.id.clone()),
        received_at: at(seconds),
        report,
    }
}

pub(crate) async fn many_reports_share_a_commit(fixture: Fixture) {
    let store = fixture.ready().await;
    let mut satellites = Vec::new();
    for n in 0..20 {
        satellites.push(satellite(&store, &format!("edge-{n:02}"), &[]).await);
    }
    let recorder = HeartbeatRecorder::start(store.clone(), Hub::new(store.clone()), Metrics::default());
    let reports = (0..400i64).map(|n| {
        let recorder = recorder.clone();
        let incoming = incoming(&satellites[(n % 20) as usize], n, &format!("report {n}"));
        async move { recorder.record(incoming).await }
    });
    for outcome in futures_util::future::join_all(reports).await {
        assert!(matches!(outcome, Ok(Fold::Taken(_))), "{outcome:?}");
    }
    for n in 0..20 {
        let history = store.heartbeat_history(&format!("edge-{n:02}")).await.unwrap();
        assert_eq!(history.len(), 20);
    }
    // Who is not who they say is told so, and by whom nothing is known.
    let mut other = incoming(&satellites[0], 500, "other");
    other.credential = Credential::Robot(satellites[1].id.clone());
    assert!(matches!(recorder.record(other).await, Ok(Fold::NotAdmitted)));
    let mut unknown = incoming(&satellites[0], 500, "unknown");
    unknown.name = "edge-99".into();
    assert!(matches!(recorder.record(unknown).await, Ok(Fold::NotAdmitted)));
    store.revoke_satellite("edge-01", at(501)).await.unwrap();
    assert!(matches!(recorder.record(incoming(&satellites[1], 502, "revoked")).await, Ok(Fold::NotAdmitted)));
    // What cannot be written is told to everyone who waits for it.
    store.close().await;
    assert!(recorder.record(incoming(&satellites[0], 999, "closed")).await.is_err());
}

pub(crate) async fn what_says_nothing_new_is_one_row(fixture: Fixture) {
    let store = fixture.ready().await;
    let one = satellite(&store, "edge-01", &[]).await;
    let recorder = HeartbeatRecorder::start(store.clone(), Hub::new(store.clone()), Metrics::default());
    let Ok(Fold::Taken(first)) = recorder.record(incoming(&one, 10, "idle")).await else { panic!() };
    assert!(first.first && first.inventory.is_none());
    for n in 11..20 {
        let Ok(Fold::Taken(again)) = recorder.record(incoming(&one, n, "idle")).await else { panic!() };
        assert!(!again.first);
    }
    recorder.flush().await;
    assert_eq!(store.satellite("edge-01").await.unwrap().last_seen, Some(at(19)));
    assert_eq!(store.latest_heartbeat("edge-01").await.unwrap().unwrap().received_at, at(19));
    assert_eq!(store.heartbeat_history("edge-01").await.unwrap().len(), 1);
    // The history goes on, slowly.
    let later = 20 + 5 * 60;
    assert!(recorder.record(incoming(&one, later, "idle")).await.is_ok());
    recorder.flush().await;
    assert_eq!(store.heartbeat_history("edge-01").await.unwrap().len(), 2);
    // It was heard of: the silence ends three of its intervals later.
    assert!(store.mark_stale(at(later + 89), None).await.unwrap().is_empty());
    assert_eq!(store.mark_stale(at(later + 90), None).await.unwrap(), ["edge-01"]);
}

pub(crate) async fn a_list_comes_when_it_is_another(fixture: Fixture) {
    let store = fixture.ready().await;
    let one = satellite(&store, "edge-01", &[]).await;
    let recorder = HeartbeatRecorder::start(store.clone(), Hub::new(store.clone()), Metrics::default());
    let send = async |seconds: i64, images: &[(&str, u64)], listed: bool| {
        let mut incoming = incoming(&one, seconds, "idle");
        let images = record(&one.id, seconds, images).report.cached_images;
        incoming.report.inventory_digest = fleet_protocol::inventory::digest(&images);
        let digest = incoming.report.inventory_digest.clone();
        if listed {
            incoming.report.cached_images = images;
        }
        let Ok(Fold::Taken(taken)) = recorder.record(incoming).await else { panic!() };
        (taken.inventory == Some(digest), taken.list_missing)
    };
    let count = async || store.cached_images("edge-01", page(1, 10)).await.unwrap().total;
    let (a, b) = ([("h/a:1@sha256:aa", 1)], [("h/a:1@sha256:aa", 1), ("h/b:1@sha256:bb", 2)]);
    assert_eq!(send(1, &a, false).await, (false, true), "nothing is known yet");
    assert_eq!((send(2, &a, true).await, count().await), ((true, false), 1));
    assert_eq!((send(3, &a, false).await, count().await), ((true, false), 1));
    assert_eq!((send(4, &b, false).await, count().await), ((false, true), 1), "the old list stays");
    assert_eq!((send(5, &b, true).await, count().await), ((true, false), 2));
    // Others always list.
    assert!(recorder.record(incoming(&one, 6, "idle")).await.is_ok());
    recorder.flush().await;
    assert_eq!(count().await, 0);
}

pub(crate) async fn nodes_come_when_they_are_others(fixture: Fixture) {
    let store = fixture.ready().await;
    let one = satellite(&store, "edge-01", &[]).await;
    let recorder = HeartbeatRecorder::start(store.clone(), Hub::new(store.clone()), Metrics::default());
    let node = |name: &str| NodePresence { name: name.into(), ..NodePresence::default() };
    let (a, b) = (vec![node("n1")], vec![node("n1"), node("n2")]);
    let send = async |seconds: i64, nodes: &[NodePresence], known: Option<&str>| {
        let mut incoming = incoming(&one, seconds, "idle");
        incoming.report = incoming.report.with_nodes(nodes.to_vec(), known);
        let Ok(Fold::Taken(taken)) = recorder.record(incoming).await else { panic!() };
        (taken.nodes, taken.list_missing)
    };
    let shown = async || {
        recorder.flush().await;
        store.latest_heartbeat("edge-01").await.unwrap().unwrap().report.nodes
    };
    let digest = |nodes: &[NodePresence]| fleet_protocol::nodes::digest(nodes);
    let (of_a, of_b) = (digest(&a), digest(&b));

    assert_eq!(send(1, &a, Some(&of_a)).await, (Some(String::new()), true), "nothing is known yet");
    assert_eq!(shown().await, []);
    assert_eq!(send(2, &a, None).await, (Some(of_a.clone()), false));
    assert_eq!(shown().await, a);
    assert_eq!(send(3, &a, Some(&of_a)).await, (Some(of_a.clone()), false));
    assert_eq!(shown().await, a, "it stays where only its digest comes");
    assert_eq!(send(4, &b, Some(&of_b)).await, (Some(of_a.clone()), true));
    assert_eq!(shown().await, a, "the old list stays");
    assert_eq!(send(5, &b, Some(&of_a)).await, (Some(of_b.clone()), false));
    assert_eq!(shown().await, b);

    // Another replica, or this one after a restart, knows what is kept.
    let other = fixture.open().await;
    let again = HeartbeatRecorder::start(other.clone(), Hub::new(other.clone()), Metrics::default());
    let mut short = incoming(&one, 6, "idle");
    short.report = short.report.with_nodes(b.clone(), Some(&of_b));
    let Ok(Fold::Taken(taken)) = again.record(short).await else { panic!() };
    assert_eq!((taken.nodes, taken.list_missing), (Some(of_b), false));
    again.flush().await;
    assert_eq!(shown().await, b);

    // An older program writes the list into the report, and an older satellite always lists.
    fixture.execute(r#"UPDATE heartbeats SET report = '{"nodes":[{"name":"older","present":0}]}'"#).await;
    assert_eq!(shown().await, [node("older")]);
    let mut listed = incoming(&one, 7, "idle");
    listed.report.nodes = a.clone();
    let Ok(Fold::Taken(taken)) = recorder.record(listed).await else { panic!() };
    assert_eq!((taken.nodes, taken.list_missing), (None, false));
    assert_eq!(shown().await, a);
    // One that has none any more says nothing of them.
    assert_eq!(send(8, &[], Some(&of_a)).await, (None, false));
    assert_eq!(shown().await, []);
    assert_eq!(
        store.heartbeat_history("edge-01").await.unwrap()[0].report.nodes,
        [],
        "the history has no lists"
    );

    send(9, &a, None).await;
    store.delete_satellite("edge-01", at(10)).await.unwrap();
    assert!(store.latest_heartbeat("edge-01").await.is_err(), "they go with their satellite");
}
