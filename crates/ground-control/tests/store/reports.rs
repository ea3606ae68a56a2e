//! What satellites report.

use ground_control::desired::Hub;
use ground_control::domain::SatelliteId;
use ground_control::domain::heartbeat::{CachedImage, HISTORY, HeartbeatOutcome, HeartbeatRecord, Report};
use ground_control::domain::satellite::SatelliteState;
use ground_control::metrics::Metrics;
use ground_control::store::HeartbeatRecorder;

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

pub(crate) async fn many_reports_share_a_commit(fixture: Fixture) {
    let store = fixture.ready().await;
    let mut satellites = Vec::new();
    for n in 0..20 {
        satellites.push(satellite(&store, &format!("edge-{n:02}"), &[]).await.id);
    }
    let recorder = HeartbeatRecorder::start(store.clone(), Hub::new(store.clone()), Metrics::default());
    let reports = (0..400i64).map(|n| {
        let recorder = recorder.clone();
        let record = record(&satellites[(n % 20) as usize], n, &[]);
        async move { recorder.record(record).await }
    });
    for outcome in futures_util::future::join_all(reports).await {
        assert!(matches!(outcome, Ok(HeartbeatOutcome::Recorded { .. })), "{outcome:?}");
    }
    for n in 0..20 {
        let history = store.heartbeat_history(&format!("edge-{n:02}")).await.unwrap();
        assert_eq!(history.len(), 20);
    }
    // What cannot be written is told to everyone who waits for it.
    store.close().await;
    assert!(recorder.record(record(&satellites[0], 999, &[])).await.is_err());
}
