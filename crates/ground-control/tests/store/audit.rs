//! The audit: in the transaction of the change, in order, bounded, followed by many.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ground_control::domain::audit::{
    Action, Actor, ActorKind, AuditFilter, AuditFrom, Authentication, Entry, Event, Refusal, SinkCursor,
};
use ground_control::domain::user::{NewUser, Role};
use ground_control::store::SharedStore;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::fixture::{Fixture, artifacts, at, attest, enrolled, group, hashed, new_satellite, satellite};

fn ann() -> Actor {
    Actor::new(ActorKind::User, "ann", Authentication::Session)
        .with_request(IpAddr::from([192, 0, 2, 7]), Some("request-1"))
}

async fn after(store: &SharedStore, sequence: u64) -> Vec<Entry> {
    store.audit_entries(&AuditFilter::default(), AuditFrom::After(sequence), 10_000).await.unwrap()
}

async fn actions(store: &SharedStore, sequence: u64) -> Vec<String> {
    after(store, sequence).await.into_iter().map(|row| row.action).collect()
}

fn person(name: &str) -> NewUser {
    NewUser { username: name.into(), role: Role::Viewer, password_hash: "hash".into() }
}

pub(crate) async fn a_change_is_recorded_as_its_actors(fixture: Fixture) {
    let store = fixture.ready().await;
    let start = store.audit_end().await.unwrap();
    let acting = store.acting_for(ann());
    let list = artifacts(json!([{"repository": "library/nginx", "tag": ["latest"]}]));
    acting.sync_group("web", list.clone(), "ann", at(1)).await.unwrap();
    let rows = after(&store, start).await;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(
        (row.sequence, row.action.as_str(), row.outcome.as_str()),
        (start + 1, "group.synced", "done")
    );
    assert_eq!(
        (row.actor_kind.as_str(), row.actor.as_str(), row.subject.as_str()),
        ("user", "ann", "group/web")
    );
    assert_eq!((row.source.as_str(), row.request_id.as_str(), row.count), ("192.0.2.7", "request-1", 1));
    assert_eq!(row.details, json!({"revision": 1, "added": 1, "removed": 0, "changed": 0}));

    // What is so already is no change; neither is what fails.
    acting.sync_group("web", list, "ann", at(2)).await.unwrap();
    acting.create_satellite(new_satellite("edge-01", &["none"]), at(2)).await.unwrap_err();
    acting.delete_group("none", at(2)).await.unwrap_err();
    assert_eq!(store.audit_end().await.unwrap(), start + 1);

    // The same store goes on as before, and that is Ground Control itself.
    satellite(&store, "edge-01", &["web"]).await;
    let rows = after(&store, start + 1).await;
    assert_eq!((rows[0].actor_kind.as_str(), rows[0].action.as_str()), ("system", "satellite.created"));
    acting.join_group("edge-01", "web", at(3)).await.unwrap();
    acting.revoke_satellite("edge-01", at(3)).await.unwrap();
    acting.revoke_satellite("edge-01", at(4)).await.unwrap();
    assert_eq!(actions(&store, start + 2).await, ["satellite.revoked"]);
}

/// Who shows a one-time secret is the satellite whose secret it is.
pub(crate) async fn a_satellite_is_known_by_its_secret(fixture: Fixture) {
    let store = fixture.ready().await;
    enrolled(&store, "edge-01", "join", 1).await;
    let start = store.audit_end().await.unwrap();
    let nameless = store.acting_for(Actor::new(ActorKind::Satellite, "", Authentication::JoinToken));
    attest(&nameless, "no such token", "key", 2).await.unwrap_err();
    attest(&nameless, "join", "key", 2).await.unwrap();
    let rows = after(&store, start).await;
    assert_eq!(
        (rows.len(), rows[0].actor.as_str(), rows[0].action.as_str()),
        (1, "edge-01", "satellite.attested")
    );
}

/// Neither is there without the other.
pub(crate) async fn a_change_and_its_row_are_one(fixture: Fixture) {
    let store = fixture.ready().await;
    let start = store.audit_end().await.unwrap();
    fixture.execute("ALTER TABLE audit_log RENAME TO audit_log_away").await;
    store.create_user(person("bob"), at(1)).await.unwrap_err();
    store.create_satellite(new_satellite("edge-01", &[]), at(1)).await.unwrap_err();
    fixture.execute("ALTER TABLE audit_log_away RENAME TO audit_log").await;
    assert!(store.credentials("bob").await.unwrap().is_none());
    store.satellite("edge-01").await.unwrap_err();
    assert_eq!(store.audit_end().await.unwrap(), start);
    store.create_user(person("bob"), at(1)).await.unwrap();
    assert_eq!(after(&store, start).await[0].sequence, start + 1, "numbers have no gaps");
}

/// Whoever follows by the last number seen misses nothing, whatever the order in which transactions end.
pub(crate) async fn a_follower_misses_no_row(fixture: Fixture) {
    const WRITERS: usize = 6;
    const CHANGES: usize = 15;
    let replicas = [fixture.ready().await, fixture.open().await];
    group(&replicas[0], "web", "library/nginx").await;
    for n in 0..WRITERS {
        enrolled(&replicas[0], &format!("edge-{n}"), &format!("join-{n}"), 1).await;
    }
    let start = replicas[0].audit_end().await.unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let followers: Vec<_> = replicas
        .iter()
        .map(|store| {
            let (store, ended) = (Arc::clone(store), Arc::clone(&ended));
            tokio::spawn(async move {
                let (mut last, mut seen) = (start, Vec::new());
                loop {
                    let over = ended.load(Ordering::SeqCst);
                    let rows = after(&store, last).await;
                    if rows.is_empty() && over {
                        return seen;
                    }
                    last = rows.last().map_or(last, |row| row.sequence);
                    seen.extend(rows.into_iter().map(|row| row.sequence));
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let store = Arc::clone(&replicas[n % 2]);
            tokio::spawn(async move {
                let name = format!("edge-{n}");
                let id = store.satellite(&name).await.unwrap().id;
                for change in 0..CHANGES {
                    // Changes of people stand in one line; those of satellites lock their own rows only.
                    match change % 3 {
                        0 => {
                            let label = json!({"change": change.to_string()});
                            store.patch_labels(&name, &label, at(2)).await.unwrap();
                        }
                        1 => {
                            let secret = hashed(&format!("{name} {change}"));
                            assert!(store.grant_secret(&id, &secret, at(2)).await.unwrap());
                        }
                        _ => {
                            store.join_group(&name, "none", at(2)).await.unwrap_err();
                            let secret = hashed(&format!("{name} {change}"));
                            assert!(store.grant_secret(&id, &secret, at(2)).await.unwrap());
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    ended.store(true, Ordering::SeqCst);
    let expected: Vec<u64> = (start + 1..=start + (WRITERS * CHANGES) as u64).collect();
    for follower in followers {
        assert_eq!(follower.await.unwrap(), expected);
    }
}

pub(crate) async fn rows_are_chosen_and_paged(fixture: Fixture) {
    let store = fixture.ready().await;
    let start = store.audit_end().await.unwrap();
    for name in ["web", "shop", "till"] {
        group(&store, name, "library/nginx").await;
    }
    store.acting_for(ann()).delete_group("shop", at(2)).await.unwrap();
    let find = async |filter: AuditFilter, from: AuditFrom, limit: u32| {
        let rows = store.audit_entries(&filter, from, limit).await.unwrap();
        rows.into_iter().map(|row| row.sequence - start).collect::<Vec<_>>()
    };
    let by = |actor: Option<&str>, action: Option<&str>, subject: Option<&str>| AuditFilter {
        actor: actor.map(Into::into),
        action: action.map(Into::into),
        subject: subject.map(Into::into),
        ..AuditFilter::default()
    };
    let newest = AuditFrom::Before(None);
    assert_eq!(find(by(Some("ann"), None, None), newest, 10).await, [4]);
    assert_eq!(find(by(None, Some("group.synced"), None), newest, 2).await, [3, 2]);
    assert_eq!(find(by(None, Some("group.synced"), None), AuditFrom::Before(Some(start + 2)), 2).await, [1]);
    assert_eq!(find(by(None, None, Some("group/shop")), AuditFrom::After(start), 10).await, [2, 4]);
    assert_eq!(find(by(None, None, Some("x' OR '1'='1")), newest, 10).await, [0; 0]);
    let hour = SignedDuration::from_hours(1);
    let now = Timestamp::now();
    let since = AuditFilter { since: Some(now + hour), ..AuditFilter::default() };
    let until = AuditFilter { until: Some(now - hour), ..AuditFilter::default() };
    assert_eq!((find(since, newest, 10).await, find(until, newest, 10).await), (vec![], vec![]));
}

pub(crate) async fn the_trail_is_bounded(fixture: Fixture) {
    let store = fixture.ready().await;
    let list: Vec<Refusal> = (0..50)
        .map(|n| Refusal {
            actor: Actor::new(ActorKind::Anonymous, format!("who-{n}"), Authentication::None),
            event: Event::new(Action::UserLoggedIn, "user", "admin"),
            count: n + 1,
        })
        .collect();
    store.record_refusals(&list).await.unwrap();
    let (end, long_ago) = (store.audit_end().await.unwrap(), at(-1_000_000));
    let rows = after(&store, end - 1).await;
    assert_eq!((rows[0].outcome.as_str(), rows[0].count, rows[0].actor.as_str()), ("refused", 50, "who-49"));
    assert_eq!(store.prune_audit(1000, long_ago, 1000).await.unwrap(), 0);
    // A piece at a time: nobody waits for a long removal.
    assert_eq!(store.prune_audit(10, long_ago, 7).await.unwrap(), 7);
    while store.prune_audit(10, long_ago, 7).await.unwrap() > 0 {}
    let kept: Vec<u64> = after(&store, 0).await.into_iter().map(|row| row.sequence).collect();
    assert_eq!(kept, (end - 9..=end).collect::<Vec<_>>());
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    assert_eq!(store.prune_audit(1000, later, 1000).await.unwrap(), 10);
    assert_eq!(store.prune_audit(1000, later, 1000).await.unwrap(), 0);
    // Numbers go on.
    store.create_user(person("bob"), at(1)).await.unwrap();
    assert_eq!(after(&store, 0).await[0].sequence, end + 1);
}

pub(crate) async fn a_sink_has_one_holder(fixture: Fixture) {
    let store = fixture.ready().await;
    let until = |seconds| at(seconds);
    let first = store.claim_sink("syslog", "a", at(0), until(30)).await.unwrap().unwrap();
    assert_eq!(first, SinkCursor { sequence: 0, lost: 0 });
    assert_eq!(store.claim_sink("syslog", "b", at(10), until(40)).await.unwrap(), None);
    assert!(store.claim_sink("file@b", "b", at(10), until(40)).await.unwrap().is_some());
    let moved = SinkCursor { sequence: 5, lost: 2 };
    assert!(!store.move_sink("syslog", "b", moved, until(40)).await.unwrap());
    assert!(store.move_sink("syslog", "a", moved, until(40)).await.unwrap());
    assert_eq!(store.claim_sink("syslog", "b", at(39), until(70)).await.unwrap(), None);
    assert_eq!(store.claim_sink("syslog", "b", at(40), until(70)).await.unwrap(), Some(moved));
    assert!(!store.move_sink("syslog", "a", moved, until(90)).await.unwrap(), "it has lost the lease");
    assert_eq!(store.claim_sink("syslog", "b", at(50), until(80)).await.unwrap(), Some(moved));
    // Of two at once one gets it.
    let other = fixture.open().await;
    let (a, b) = tokio::join!(
        store.claim_sink("otlp", "a", at(0), until(30)),
        other.claim_sink("otlp", "b", at(0), until(30))
    );
    assert_eq!([a.unwrap(), b.unwrap()].into_iter().flatten().count(), 1);
}
