//! How what satellites hold differs from what they shall have.

use std::collections::BTreeSet;

use fleet_protocol::heartbeat::{FailedArtifact, FetchingArtifact};
use ground_control::domain::heartbeat::{CachedImage, HeartbeatRecord, Report};
use ground_control::domain::rollout::{Progress, Totals};
use ground_control::domain::satellite::{Satellite, SatelliteFilter};
use ground_control::store::SharedStore;
use oci::Digest;
use rand::RngExt as _;
use serde_json::json;

use crate::fixture::{Fixture, artifacts, at, page, published, satellite};

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

/// A report of one who holds these artifacts.
fn holding(satellite: &Satellite, seconds: i64, held: &[&str]) -> HeartbeatRecord {
    let images = held
        .iter()
        .map(|text| CachedImage { reference: format!("h/library/{text}:1@{}", digest(text)), size_bytes: 1 });
    let report = Report { cached_images: images.collect(), ..Report::default() };
    HeartbeatRecord { satellite: satellite.id.clone(), received_at: at(seconds), report }
}

async fn want(store: &SharedStore, group: &str, wanted: &[&str]) {
    let list = wanted.iter().map(
        |text| json!({"repository": format!("library/{text}"), "tag": "1", "digest": digest(text).to_string()}),
    );
    store.sync_group(group, artifacts(list.collect()), "ann", at(1)).await.unwrap();
    settle(store).await;
}

/// Publishes what waits, and looks at all members that are to be looked at.
async fn settle(store: &SharedStore) {
    while !published(store, at(100_000)).await.is_empty() {}
    while store.look_at_members().await.unwrap() {}
}

async fn report(store: &SharedStore, record: HeartbeatRecord) {
    store.record_heartbeats(&[record]).await.unwrap();
}

async fn drifting(store: &SharedStore, drift: bool) -> Vec<String> {
    let filter = SatelliteFilter { drift: Some(drift), ..SatelliteFilter::default() };
    let list = store.satellites(filter, page(1, 100)).await.unwrap();
    assert_eq!(list.total, list.items.len() as u64);
    list.items.into_iter().map(|satellite| satellite.name).collect()
}

pub(crate) async fn drift_is_what_differs(fixture: Fixture) {
    let store = fixture.ready().await;
    let one = satellite(&store, "edge-01", &[]).await;
    settle(&store).await;
    assert_eq!(drifting(&store, false).await, ["edge-01"], "nothing is wanted and nothing is there");
    want(&store, "east", &["a", "b"]).await;
    store.join_group("edge-01", "east", at(2)).await.unwrap();
    settle(&store).await;
    assert_eq!(drifting(&store, true).await, ["edge-01"], "never heard of");
    report(&store, holding(&one, 3, &["a", "b"])).await;
    assert_eq!((drifting(&store, true).await.len(), drifting(&store, false).await.len()), (0, 1));
    report(&store, holding(&one, 4, &["a", "b", "c"])).await;
    assert_eq!(drifting(&store, true).await, ["edge-01"], "c is desired by nobody");
    want(&store, "west", &["c"]).await;
    assert_eq!(drifting(&store, true).await.len(), 1);
    store.join_group("edge-01", "west", at(5)).await.unwrap();
    settle(&store).await;
    assert!(drifting(&store, true).await.is_empty());
    want(&store, "west", &["c", "d"]).await;
    assert_eq!((drifting(&store, true).await.len(), store.census().await.unwrap().drifting), (1, 1));
    let all = store.satellite_artifacts("edge-01", page(1, 10)).await.unwrap();
    let shown: Vec<_> =
        all.items.iter().map(|a| (a.group.as_deref(), a.repository.as_str(), a.there)).collect();
    assert_eq!(
        (all.total, shown),
        (
            4,
            vec![
                (Some("east"), "library/a", true),
                (Some("east"), "library/b", true),
                (Some("west"), "library/c", true),
                (Some("west"), "library/d", false),
            ]
        )
    );
    store.leave_group("edge-01", "west", at(6)).await.unwrap();
    settle(&store).await;
    assert_eq!(drifting(&store, true).await.len(), 1, "c is not desired any more");
    let all = store.satellite_artifacts("edge-01", page(1, 10)).await.unwrap();
    let last = all.items.last().unwrap();
    assert_eq!(
        (last.group.as_deref(), last.repository.as_str()),
        (None, &*format!("h/library/c:1@{}", digest("c")))
    );
    store.delete_group("east", at(7)).await.unwrap();
    report(&store, holding(&one, 8, &[])).await;
    settle(&store).await;
    assert!(drifting(&store, true).await.is_empty());
    // What is gone does not drift.
    report(&store, holding(&one, 9, &["x"])).await;
    assert_eq!(store.census().await.unwrap().drifting, 1);
    store.delete_satellite("edge-01", at(10)).await.unwrap();
    assert_eq!(store.census().await.unwrap().drifting, 0);
}

pub(crate) async fn a_rollout_tells_who_has_it_and_who_not(fixture: Fixture) {
    let store = fixture.ready().await;
    want(&store, "east", &["a"]).await;
    let mut fleet = Vec::new();
    for n in 0..6 {
        fleet.push(satellite(&store, &format!("edge-{n}"), &["east"]).await);
    }
    settle(&store).await;
    report(&store, holding(&fleet[0], 10, &["a"])).await;
    let mut fetching = holding(&fleet[1], 10, &[]);
    fetching.report.fetching = vec![FetchingArtifact {
        reference: "library/a:1".into(),
        digest: Some(digest("a")),
        bytes: 30,
        total_bytes: 100,
    }];
    report(&store, fetching).await;
    let mut failed = holding(&fleet[2], 10, &[]);
    failed.report.failed = vec![FailedArtifact {
        reference: "library/a:1".into(),
        digest: Some(digest("a")),
        reason: "the disk is full".into(),
        since: at(5),
        attempts: 3,
    }];
    report(&store, failed).await;
    // What fails of another group says nothing about this one.
    let mut other = holding(&fleet[3], 10, &[]);
    other.report.failed = vec![FailedArtifact {
        reference: "library/z:1".into(),
        digest: Some(digest("z")),
        reason: "gone".into(),
        since: at(5),
        attempts: 1,
    }];
    report(&store, other).await;
    report(&store, holding(&fleet[4], 10, &["a"])).await;
    store.revoke_satellite("edge-4", at(11)).await.unwrap();

    let all = store.rollout("east", None, page(1, 10)).await.unwrap();
    let totals = Totals { current: 2, fetching: 1, failed: 1, waiting: 1, unreachable: 1 };
    assert_eq!((all.totals, all.members.total, all.settling), (totals, 6, false));
    assert_eq!(all.digests, BTreeSet::from([digest("a").to_string()]));
    let progress: Vec<_> = all.members.items.iter().map(|member| member.progress).collect();
    use Progress::{Current, Failed, Fetching, Unreachable, Waiting};
    assert_eq!(progress, [Current, Fetching, Failed, Waiting, Current, Unreachable]);
    let reason = |n: usize| all.members.items[n].reason(&all.digests);
    assert_eq!((reason(1).bytes, reason(1).total_bytes), (30, 100));
    assert_eq!(reason(2).text.as_deref(), Some("library/a:1: the disk is full"));
    assert_eq!(reason(2).since, Some(at(5)));
    assert_eq!(reason(5).text.as_deref(), Some("the satellite was never heard of"));
    for wanted in Progress::ALL {
        let some = store.rollout("east", Some(wanted), page(1, 1)).await.unwrap();
        let mut totals = some.totals;
        assert_eq!(some.members.total, *totals.of(wanted));
        assert!(some.members.items.iter().all(|member| member.progress == wanted));
        assert_eq!(some.members.items.len(), 1);
    }

    // Another list: everybody is looked at again, page by page.
    let list = artifacts(json!([{"repository": "library/b", "tag": "1", "digest": digest("b").to_string()}]));
    store.sync_group("east", list, "ann", at(12)).await.unwrap();
    published(&store, at(100_000)).await;
    assert!(store.rollout("east", None, page(1, 1)).await.unwrap().settling);
    settle(&store).await;
    let totals = store.rollout("east", None, page(1, 1)).await.unwrap().totals;
    assert_eq!((totals.current, totals.wanted()), (0, 6));
    assert!(store.rollout("west", None, page(1, 1)).await.is_err());
}

/// Whatever happens in whatever order: drift is what the sets say.
pub(crate) async fn drift_agrees_with_the_sets(fixture: Fixture) {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let store = fixture.ready().await;
    let (one, two) = (satellite(&store, "edge-1", &[]).await, satellite(&store, "edge-2", &[]).await);
    let mut lists = [BTreeSet::new(), BTreeSet::new()];
    let mut members = [BTreeSet::new(), BTreeSet::new()];
    let mut held = [BTreeSet::new(), BTreeSet::new()];
    for group in ["g0", "g1"] {
        want(&store, group, &[]).await;
    }
    let some = || -> BTreeSet<&str> { NAMES.into_iter().filter(|_| rand::rng().random()).collect() };
    let mut steps = Vec::new();
    for n in 0..60 {
        let (which, group) =
            (usize::from(rand::rng().random::<bool>()), usize::from(rand::rng().random::<bool>()));
        let name = format!("edge-{}", which + 1);
        let group_name = format!("g{group}");
        let step = rand::rng().random_range(0..4);
        match step {
            0 => {
                lists[group] = some();
                let list: Vec<&str> = lists[group].iter().copied().collect();
                want(&store, &group_name, &list).await;
                steps.push(format!("{group_name} = {list:?}"));
            }
            1 => {
                held[which] = some();
                let list: Vec<&str> = held[which].iter().copied().collect();
                report(&store, holding([&one, &two][which], 100 + n, &list)).await;
                steps.push(format!("{name} holds {list:?}"));
            }
            2 => {
                members[which].insert(group);
                store.join_group(&name, &group_name, at(2)).await.unwrap();
                steps.push(format!("{name} joins {group_name}"));
            }
            _ => {
                members[which].remove(&group);
                store.leave_group(&name, &group_name, at(2)).await.unwrap();
                steps.push(format!("{name} leaves {group_name}"));
            }
        }
        settle(&store).await;
        let expected: Vec<String> = (0..2)
            .filter(|which| {
                let wanted: BTreeSet<&str> =
                    members[*which].iter().flat_map(|group| lists[*group].iter().copied()).collect();
                wanted != held[*which]
            })
            .map(|which| format!("edge-{}", which + 1))
            .collect();
        assert_eq!(drifting(&store, true).await, expected, "after {steps:?}");
    }
}
