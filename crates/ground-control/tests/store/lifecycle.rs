//! Revoked, let in again, deleted, silent: what a satellite's life does to its credentials.

use ground_control::domain::heartbeat::HeartbeatOutcome;
use ground_control::domain::identity::{Enabling, IssueRefusal, NameRecord, NewRegistration};
use ground_control::domain::satellite::{Satellite, SatelliteState, SecretMatch};
use ground_control::domain::ztr::ClaimRefusal;
use ground_control::domain::{Entity, StoreError};
use ground_control::store::SharedStore;
use jiff::SignedDuration;

use crate::fixture::{
    Fixture, agent_of, at, attest, by_nonce, claim, enrolled, group, hashed, known, published, registration,
    renew, report, satellite,
};

/// A satellite in a group, registered with `token`, attested with `key`, with a robot, online.
async fn working(store: &SharedStore, name: &str, token: &str) -> Satellite {
    let new = NewRegistration { groups: vec!["us-east".into()], ..registration(name, token, 1) };
    let (made, _) = store.register_identity(new, at(1)).await.unwrap();
    attest(store, token, "key", 2).await.unwrap();
    store.identity_used(&made.id, "key", at(3)).await.unwrap();
    assert!(store.grant_secret(&made.id, &hashed("secret"), at(3)).await.unwrap());
    let first = HeartbeatOutcome::Recorded { first: true, secret_rotated_at: Some(at(3)) };
    assert_eq!(report(store, &made.id, "@every 00h00m30s", 4).await, first);
    made
}

async fn secret(store: &SharedStore, name: &str) -> Option<SecretMatch> {
    store.robot(name).await.unwrap().and_then(|robot| robot.check(&hashed("secret")))
}

pub(crate) async fn a_revoked_satellite_is_refused(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    let made = working(&store, "edge-01", "token").await;
    enrolled(&store, "edge-01", "unused", 5).await;
    let before = known(&store, "edge-01").await;
    assert!(!store.pullable(&made.id).await.unwrap().is_empty());

    let revoked = store.revoke_satellite("edge-01", at(6)).await.unwrap();
    assert_eq!(
        (revoked.state, revoked.groups.as_slice()),
        (SatelliteState::Revoked, &["us-east".to_owned()][..])
    );
    let after = known(&store, "edge-01").await;
    assert!(after.state == SatelliteState::Revoked && after.epoch != before.epoch && after.epoch > 0);
    assert!(store.pullable(&made.id).await.unwrap().is_empty());
    assert_eq!(report(&store, &made.id, "", 7).await, HeartbeatOutcome::Refused);
    for token in ["token", "unused"] {
        assert_eq!(attest(&store, token, "key", 7).await, Err(IssueRefusal::NotAdmitted));
    }
    assert_eq!(renew(&store, &made.id, ("key", "next"), 7).await, Err(IssueRefusal::NotAdmitted));
    // Its secret and its key are known, so that it is told that it is revoked.
    assert!(secret(&store, "edge-01").await.is_some());
    let record = store.renewal_record("edge-01").await.unwrap().unwrap();
    assert_eq!((record.state, record.keys), (SatelliteState::Revoked, vec!["key".to_owned()]));
    assert_eq!(store.registration("edge-01").await.unwrap().unwrap().satellite, made.id);

    // Again is no error, and no new life.
    assert_eq!(store.revoke_satellite("edge-01", at(8)).await.unwrap(), revoked);
    assert_eq!(known(&store, "edge-01").await, after);
    assert!(matches!(store.revoke_satellite("edge-02", at(8)).await, Err(StoreError::NotFound { .. })));
}

pub(crate) async fn a_revoked_satellite_is_let_in_by_its_registration(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    let made = working(&store, "edge-01", "token").await;
    let before = known(&store, "edge-01").await;
    store.revoke_satellite("edge-01", at(5)).await.unwrap();
    let revoked = known(&store, "edge-01").await;
    published(&store, at(6)).await;

    // Nothing of what is wrong changes anything.
    let wrong = NewRegistration { groups: vec!["nowhere".into()], ..registration("edge-01", "fresh", 7) };
    let refused = store.enable_satellite("edge-01", Enabling::Registration(Box::new(wrong)), at(7)).await;
    assert!(matches!(refused, Err(StoreError::NotFound { entity: Entity::Group, .. })));
    let other = Enabling::Registration(Box::new(registration("edge-02", "fresh", 7)));
    assert!(matches!(store.enable_satellite("edge-01", other, at(7)).await, Err(StoreError::Invalid { .. })));
    assert_eq!(known(&store, "edge-01").await, revoked);

    let new = Enabling::Registration(Box::new(registration("edge-01", "fresh", 8)));
    let enabled = store.enable_satellite("edge-01", new, at(8)).await.unwrap();
    assert_eq!((&enabled.id, enabled.state), (&made.id, SatelliteState::Pending));
    assert_eq!(enabled.groups, ["us-east"]);
    let epoch = known(&store, "edge-01").await.epoch;
    assert!(![before.epoch, revoked.epoch].contains(&epoch));
    assert_eq!(published(&store, at(8)).await, ["satellite/edge-01"]);
    // Nothing of before is good: neither secret, nor key, nor token.
    assert_eq!(secret(&store, "edge-01").await, None);
    assert_eq!(renew(&store, &made.id, ("key", "next"), 9).await, Err(IssueRefusal::Key));
    assert_eq!(attest(&store, "token", "key", 9).await, Err(IssueRefusal::Used));
    assert_eq!(attest(&store, "fresh", "key", 9).await.unwrap().epoch, epoch);
    assert!(store.grant_secret(&made.id, &hashed("new secret"), at(9)).await.unwrap());
    let first = HeartbeatOutcome::Recorded { first: true, secret_rotated_at: Some(at(9)) };
    assert_eq!(report(&store, &made.id, "", 10).await, first);
    assert!(store.due_withdrawals(at(1000), SignedDuration::from_secs(1), 10).await.unwrap().is_empty());

    // To register it is the same word of an administrator's.
    store.revoke_satellite("edge-01", at(11)).await.unwrap();
    enrolled(&store, "edge-01", "once more", 12).await;
    assert_eq!(secret(&store, "edge-01").await, None);
    let now = known(&store, "edge-01").await;
    assert!(now.state == SatelliteState::Pending && now.epoch != epoch);
}

pub(crate) async fn a_revoked_satellite_is_let_in_by_a_token(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    let made = satellite(&store, "edge-01", &["us-east"]).await;
    claim(&store, "edge-01", by_nonce("n"), "secret", at(2)).await.unwrap();
    store.revoke_satellite("edge-01", at(3)).await.unwrap();
    assert_eq!(claim(&store, "edge-01", by_nonce("n"), "s", at(4)).await, Err(ClaimRefusal::Used));
    assert!(store.due_withdrawals(at(4), SignedDuration::from_secs(1), 10).await.unwrap().is_empty());

    let how = Enabling::Token { token: hashed("token of edge-01, second"), expires_at: at(1000) };
    let enabled = store.enable_satellite("edge-01", how, at(5)).await.unwrap();
    assert_eq!((&enabled.id, enabled.state), (&made.id, SatelliteState::Pending));
    assert_eq!(enabled.groups, ["us-east"]);
    assert_eq!(secret(&store, "edge-01").await, None);
    assert_eq!(claim(&store, "edge-01", by_nonce("n"), "s", at(6)).await, Err(ClaimRefusal::Used));
    claim(&store, "edge-01, second", by_nonce("m"), "fresh", at(6)).await.unwrap();
    assert!(!store.pullable(&made.id).await.unwrap().is_empty());
}

pub(crate) async fn only_what_waits_or_is_revoked_is_let_in(fixture: Fixture) {
    let store = fixture.ready().await;
    let made = enrolled(&store, "edge-01", "token", 1).await;
    let token = || Enabling::Token { token: hashed("t"), expires_at: at(1000) };
    let anew = || Enabling::Registration(Box::new(registration("edge-01", "fresh", 2)));
    for how in [token(), anew()] {
        assert!(matches!(
            store.enable_satellite("edge-01", how, at(2)).await,
            Err(StoreError::Conflict { .. })
        ));
    }
    assert!(matches!(store.approve_satellite("edge-01", at(2)).await, Err(StoreError::Conflict { .. })));
    store.revoke_satellite("edge-01", at(3)).await.unwrap();
    assert!(matches!(store.approve_satellite("edge-01", at(3)).await, Err(StoreError::Conflict { .. })));
    store.delete_satellite("edge-01", at(4)).await.unwrap();
    for how in [token(), anew()] {
        assert!(matches!(
            store.enable_satellite("edge-01", how, at(5)).await,
            Err(StoreError::NotFound { .. })
        ));
    }
    assert_eq!(report(&store, &made.id, "", 6).await, HeartbeatOutcome::Gone);
}

pub(crate) async fn a_deleted_identity_is_gone(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    let made = working(&store, "edge-01", "token").await;
    enrolled(&store, "edge-01", "unused", 5).await;
    store.delete_satellite("edge-01", at(6)).await.unwrap();
    assert_eq!(store.name_record("edge-01").await.unwrap(), NameRecord::Deleted);
    for token in ["token", "unused"] {
        assert_eq!(attest(&store, token, "key", 7).await, Err(IssueRefusal::Used));
    }
    assert!(store.renewal_record("edge-01").await.unwrap().is_none());
    assert_eq!(renew(&store, &made.id, ("key", "next"), 7).await, Err(IssueRefusal::Key));
    assert!(store.robot("edge-01").await.unwrap().is_none());
    assert!(store.registration("edge-01").await.unwrap().is_none());

    let next = enrolled(&store, "edge-01", "another life", 8).await;
    assert_ne!(next.id, made.id);
    assert!(next.groups.is_empty());
    assert_eq!(attest(&store, "token", "key", 9).await, Err(IssueRefusal::Used));
    assert_eq!(renew(&store, &made.id, ("key", "next"), 9).await, Err(IssueRefusal::Key));
    assert_eq!(attest(&store, "another life", "key", 9).await.unwrap().satellite, next.id);
}

pub(crate) async fn silence_makes_stale(fixture: Fixture) {
    let store = fixture.ready().await;
    let mut ids = Vec::new();
    for name in ["fast", "slow", "cron", "untold", "never"] {
        ids.push(satellite(&store, name, &[]).await.id);
    }
    for (id, interval) in ids.iter().zip(["@every 00h00m30s", "@every 10m", "*/5 * * * *", ""]) {
        report(&store, id, interval, 0).await;
    }
    let stale = async |now: i64| {
        let mut names = store.mark_stale(at(now), None).await.unwrap();
        names.sort();
        names
    };
    assert!(stale(89).await.is_empty());
    assert_eq!(stale(90).await, ["fast"]);
    assert!(stale(90).await.is_empty());
    assert_eq!(store.satellite("fast").await.unwrap().state, SatelliteState::Stale);
    // It is heard of again, and says nothing of its interval this time.
    let again = HeartbeatOutcome::Recorded { first: false, secret_rotated_at: None };
    assert_eq!(report(&store, &ids[0], "", 1000).await, again);
    assert_eq!(store.satellite("fast").await.unwrap().state, SatelliteState::Online);
    assert_eq!(stale(1089).await, ["cron"]);
    assert_eq!(stale(1090).await, ["fast"]);
    assert_eq!(stale(1800).await, ["slow"]);
    assert!(stale(3599).await.is_empty());
    assert_eq!(stale(3600).await, ["untold"]);
    assert_eq!(store.satellite("never").await.unwrap().state, SatelliteState::Pending);

    // What was reported before there was an end to silence.
    report(&store, &ids[1], "@every 10m", 5000).await;
    fixture.execute("UPDATE satellites SET stale_at = NULL").await;
    assert!(stale(5000 + 3599).await.is_empty());
    assert_eq!(stale(5000 + 3600).await, ["slow"]);
    // A stale one can be revoked, and that is no news of silence.
    store.revoke_satellite("slow", at(9000)).await.unwrap();
    assert!(stale(1_000_000).await.is_empty());
}

pub(crate) async fn a_fixed_threshold_counts_instead(fixture: Fixture) {
    let store = fixture.ready().await;
    // More than are marked in one transaction.
    for n in 0..300 {
        let made = satellite(&store, &format!("edge-{n:03}"), &[]).await;
        report(&store, &made.id, "@every 1s", 0).await;
    }
    let threshold = Some(SignedDuration::from_secs(600));
    assert!(store.mark_stale(at(599), threshold).await.unwrap().is_empty());
    let (one, other) = (store.clone(), fixture.open().await);
    let (a, b) = tokio::join!(async { one.mark_stale(at(600), threshold).await.unwrap() }, async {
        other.mark_stale(at(600), threshold).await.unwrap()
    });
    // Each is told of by one alone.
    let mut names: Vec<_> = a.into_iter().chain(b).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 300);
}

pub(crate) async fn withdrawals_are_claimed_once_and_tried_again(fixture: Fixture) {
    let store = fixture.ready().await;
    let retry = SignedDuration::from_secs(60);
    for n in 0..6 {
        enrolled(&store, &format!("edge-{n}"), &format!("token {n}"), 1).await;
    }
    assert!(store.due_withdrawals(at(1), retry, 10).await.unwrap().is_empty());
    for n in 0..5 {
        let name = format!("edge-{n}");
        if n % 2 == 0 {
            store.revoke_satellite(&name, at(10)).await.unwrap();
        } else {
            store.delete_satellite(&name, at(10)).await.unwrap();
        }
    }
    let other = fixture.open().await;
    let (a, b) = tokio::join!(async { store.due_withdrawals(at(10), retry, 3).await.unwrap() }, async {
        other.due_withdrawals(at(10), retry, 3).await.unwrap()
    });
    let mut first: Vec<_> = a.into_iter().chain(b).collect();
    first.extend(store.due_withdrawals(at(10), retry, 10).await.unwrap());
    let mut names: Vec<_> = first.iter().map(|w| w.registration.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["edge-0", "edge-1", "edge-2", "edge-3", "edge-4"]);
    assert!(first.iter().all(|w| w.attempts == 0 && w.agent_is_unused));
    assert!(first.iter().all(|w| w.registration.parent_id == agent_of(&w.registration.name)));

    let done = &first[0].registration.satellite;
    let failed = &first[1].registration.satellite;
    store.withdrawn(done).await.unwrap();
    store.withdrawal_failed(failed, "SPIRE's server does not answer\0", at(40)).await.unwrap();
    assert!(store.due_withdrawals(at(39), retry, 10).await.unwrap().is_empty());
    let again = store.due_withdrawals(at(40), retry, 10).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!((&again[0].registration.satellite, again[0].attempts), (failed, 1));
    // Whoever took one and died does not keep it.
    assert_eq!(store.due_withdrawals(at(100), retry, 10).await.unwrap().len(), 4);
    // What is done is not begun again by a failure that comes late.
    store.withdrawal_failed(done, "late", at(101)).await.unwrap();
    assert_eq!(store.due_withdrawals(at(1000), retry, 10).await.unwrap().len(), 4);
}

pub(crate) async fn what_came_back_is_not_withdrawn(fixture: Fixture) {
    let store = fixture.ready().await;
    let retry = SignedDuration::from_secs(60);
    enrolled(&store, "revoked", "a", 1).await;
    enrolled(&store, "deleted", "b", 1).await;
    enrolled(&store, "moved", "c", 1).await;
    store.revoke_satellite("revoked", at(2)).await.unwrap();
    store.delete_satellite("deleted", at(2)).await.unwrap();
    store.delete_satellite("moved", at(2)).await.unwrap();
    enrolled(&store, "revoked", "d", 3).await;
    enrolled(&store, "deleted", "e", 3).await;
    let elsewhere = NewRegistration { region: "us-east".into(), ..registration("moved", "f", 3) };
    store.register_identity(elsewhere, at(3)).await.unwrap();
    // Only what is another identity now.
    let due = store.due_withdrawals(at(4), retry, 10).await.unwrap();
    let left: Vec<_> =
        due.iter().map(|w| (w.registration.name.as_str(), w.registration.region.as_str())).collect();
    assert_eq!(left, [("moved", "default")]);
}
