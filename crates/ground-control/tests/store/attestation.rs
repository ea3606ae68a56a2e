//! Join tokens, renewal, and the authorities of the built-in authority.

use ground_control::domain::identity::{AuthorityRecord, IssueRefusal};
use ground_control::domain::secret::Hashed;
use jiff::SignedDuration;

use crate::fixture::{DAY, Fixture, at, attest, enrolled, hashed, known, registration, renew, renewal};

pub(crate) async fn a_join_token_is_bound_to_its_key(fixture: Fixture) {
    let store = fixture.ready().await;
    let made = enrolled(&store, "edge-01", "token", 0).await;
    assert_eq!(attest(&store, "no token", "key", 1).await, Err(IssueRefusal::Unknown));
    assert_eq!(attest(&store, "token", "key", 600).await, Err(IssueRefusal::Expired));
    let first = attest(&store, "token", "key", 599).await.unwrap();
    assert_eq!(
        (&first.satellite, first.name.as_str(), first.region.as_str()),
        (&made.id, "edge-01", "default")
    );
    assert_eq!((first.epoch, first.again), (known(&store, "edge-01").await.epoch, false));

    // The answer was lost: the same key is answered, long after the token's end, and no other is.
    let again = attest(&store, "token", "key", 100_000).await.unwrap();
    assert!(again.again && again.epoch == first.epoch);
    assert_eq!(attest(&store, "token", "other", 2).await, Err(IssueRefusal::Used));
    let record = store.renewal_record("edge-01").await.unwrap().unwrap();
    assert_eq!((record.keys, record.expires_at), (vec!["key".to_owned()], at(100_000) + DAY));

    // A report by other credentials says nothing of the SVID's answer; its use does.
    crate::fixture::report(&store, &made.id, "@every 30s", 100_001).await;
    assert!(attest(&store, "token", "key", 100_002).await.is_ok());
    store.identity_used(&made.id, "key", at(100_003)).await.unwrap();
    assert_eq!(attest(&store, "token", "key", 100_004).await, Err(IssueRefusal::Used));
    assert_eq!(store.renewal_record("edge-01").await.unwrap().unwrap().keys, ["key"]);
}

pub(crate) async fn a_repeat_voids_only_what_nobody_claimed(fixture: Fixture) {
    let store = fixture.ready().await;
    enrolled(&store, "edge-01", "first", 0).await;
    enrolled(&store, "edge-01", "second", 1).await;
    assert_eq!(attest(&store, "first", "key", 2).await, Err(IssueRefusal::Used));
    attest(&store, "second", "key", 2).await.unwrap();
    // Claimed, the answer perhaps lost: a repeat does not take it away.
    enrolled(&store, "edge-01", "third", 3).await;
    assert!(attest(&store, "second", "key", 4).await.unwrap().again);
    // Nor does one by a method without tokens.
    let mut other = registration("edge-01", "", 5);
    other.join_token = None;
    store.register_identity(other, at(5)).await.unwrap();
    assert_eq!(attest(&store, "third", "other", 6).await, Err(IssueRefusal::Used));
    assert!(attest(&store, "second", "key", 6).await.is_ok());
}

pub(crate) async fn of_two_attestations_at_once_one_is_granted(fixture: Fixture) {
    let store = fixture.ready().await;
    let other = fixture.open().await;
    for n in 0..10 {
        let (name, token) = (format!("edge-{n:02}"), format!("token {n}"));
        enrolled(&store, &name, &token, 1).await;
        let (a, b) = tokio::join!(attest(&store, &token, "a", 2), attest(&other, &token, "b", 2));
        let won = if a.is_ok() { "a" } else { "b" };
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        assert_eq!(a.and(b).unwrap_err(), IssueRefusal::Used);
        assert_eq!(store.renewal_record(&name).await.unwrap().unwrap().keys, [won]);
    }
}

pub(crate) async fn a_new_device_takes_over_when_it_is_used(fixture: Fixture) {
    let store = fixture.ready().await;
    let made = enrolled(&store, "edge-01", "first", 0).await;
    attest(&store, "first", "old", 1).await.unwrap();
    store.identity_used(&made.id, "old", at(2)).await.unwrap();
    // Hardware changed; while the new device's answer may be lost, the old one still works.
    enrolled(&store, "edge-01", "second", 3).await;
    attest(&store, "second", "new", 4).await.unwrap();
    assert_eq!(store.renewal_record("edge-01").await.unwrap().unwrap().keys, ["new", "old"]);
    store.identity_used(&made.id, "new", at(5)).await.unwrap();
    assert_eq!(renew(&store, &made.id, ("old", "older"), 6).await, Err(IssueRefusal::Key));
    renew(&store, &made.id, ("new", "newer"), 7).await.unwrap();
}

pub(crate) async fn lost_answers_lock_nobody_out(fixture: Fixture) {
    let store = fixture.ready().await;
    let made = enrolled(&store, "edge-01", "token", 0).await;
    attest(&store, "token", "a", 1).await.unwrap();
    store.identity_used(&made.id, "a", at(2)).await.unwrap();
    let first = renew(&store, &made.id, ("a", "b"), 3).await.unwrap();
    assert_eq!((first.again, first.epoch), (false, known(&store, "edge-01").await.epoch));
    assert!(known(&store, "edge-01").await.awaits_use);
    // Lost: again with the same new key, then with another one.
    assert!(renew(&store, &made.id, ("a", "b"), 4).await.unwrap().again);
    renew(&store, &made.id, ("a", "c"), 5).await.unwrap();
    assert_eq!(renew(&store, &made.id, ("b", "d"), 6).await, Err(IssueRefusal::Key));
    // Arrived: to renew with it is a use of it.
    renew(&store, &made.id, ("c", "d"), 7).await.unwrap();
    assert_eq!(renew(&store, &made.id, ("a", "e"), 8).await, Err(IssueRefusal::Key));
    assert_eq!(store.renewal_record("edge-01").await.unwrap().unwrap().keys, ["d", "c"]);
    store.identity_used(&made.id, "d", at(9)).await.unwrap();
    assert!(!known(&store, "edge-01").await.awaits_use);
    assert_eq!(renew(&store, &made.id, ("c", "e"), 10).await, Err(IssueRefusal::Key));
    renew(&store, &made.id, ("d", "e"), 11).await.unwrap();
    assert!(store.renewal_record("edge-02").await.unwrap().is_none());
}

pub(crate) async fn a_nonce_is_good_once(fixture: Fixture) {
    let store = fixture.ready().await;
    let other = fixture.open().await;
    let made = enrolled(&store, "edge-01", "token", 0).await;
    attest(&store, "token", "a", 1).await.unwrap();
    let with = async |store: &ground_control::store::SharedStore, nonce: Hashed, now| {
        store.renew(renewal(&made.id, nonce, ("a", "b"), now), at(now)).await.unwrap()
    };
    assert_eq!(with(&store, hashed("never kept"), 2).await, Err(IssueRefusal::Nonce));
    store.keep_nonce(&hashed("late"), at(300), at(2)).await.unwrap();
    assert_eq!(with(&store, hashed("late"), 300).await, Err(IssueRefusal::Nonce));
    store.keep_nonce(&hashed("once"), at(303), at(3)).await.unwrap();
    with(&store, hashed("once"), 4).await.unwrap();
    assert_eq!(with(&store, hashed("once"), 4).await, Err(IssueRefusal::Nonce));

    for n in 0..10 {
        let nonce = hashed(&format!("at once {n}"));
        store.keep_nonce(&nonce, at(310), at(10)).await.unwrap();
        let (a, b) = tokio::join!(with(&store, nonce.clone(), 11), with(&other, nonce.clone(), 11));
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        assert_eq!(a.and(b).unwrap_err(), IssueRefusal::Nonce);
    }
    // A refusal consumes it, too.
    store.keep_nonce(&hashed("refused"), at(320), at(20)).await.unwrap();
    let wrong = renewal(&made.id, hashed("refused"), ("stolen", "b"), 21);
    assert_eq!(store.renew(wrong, at(21)).await.unwrap(), Err(IssueRefusal::Key));
    assert_eq!(with(&store, hashed("refused"), 21).await, Err(IssueRefusal::Nonce));
}

pub(crate) async fn renewal_ends_with_the_grace(fixture: Fixture) {
    let store = fixture.ready().await;
    let made = enrolled(&store, "edge-01", "token", 0).await;
    assert_eq!(renew(&store, &made.id, ("a", "b"), 1).await, Err(IssueRefusal::Key));
    attest(&store, "token", "a", 0).await.unwrap();
    let day = 24 * 3600;
    // The SVID ended after a day, the grace ten days later.
    renew(&store, &made.id, ("a", "b"), 11 * day).await.unwrap();
    store.identity_used(&made.id, "b", at(11 * day)).await.unwrap();
    let end = (11 + 11) * day;
    assert_eq!(renew(&store, &made.id, ("b", "c"), end + 1).await, Err(IssueRefusal::Key));
    renew(&store, &made.id, ("b", "c"), end).await.unwrap();
}

pub(crate) async fn what_is_issued_beside_a_revocation_is_worth_nothing(fixture: Fixture) {
    let store = fixture.ready().await;
    let other = fixture.open().await;
    for n in 0..10 {
        let (name, token) = (format!("edge-{n:02}"), format!("token {n}"));
        let made = enrolled(&store, &name, &token, 1).await;
        attest(&store, &token, "a", 2).await.unwrap();
        let (attested, renewed, granted, revoked) = tokio::join!(
            attest(&store, &token, "a", 3),
            renew(&other, &made.id, ("a", "b"), 3),
            async { other.grant_secret(&made.id, &hashed("secret"), at(3)).await.unwrap() },
            async { store.revoke_satellite(&name, at(3)).await.unwrap() },
        );
        let now = known(&store, &name).await;
        for issued in [attested, renewed] {
            match issued {
                Ok(grant) => assert_ne!(grant.epoch, now.epoch),
                Err(refusal) => assert_eq!(refusal, IssueRefusal::NotAdmitted),
            }
        }
        let _ = granted;
        assert!(!revoked.state.admits() && !now.state.admits());
        assert!(!store.grant_secret(&made.id, &hashed("late"), at(4)).await.unwrap());
        assert_eq!(attest(&store, &token, "a", 4).await, Err(IssueRefusal::NotAdmitted));
        assert_eq!(renew(&store, &made.id, ("a", "b"), 4).await, Err(IssueRefusal::NotAdmitted));
    }
}

pub(crate) async fn authorities_are_kept_once(fixture: Fixture) {
    let store = fixture.ready().await;
    let year = 365 * 24 * 3600;
    let authority = |id: &str, domain: &str, signs_from: i64| AuthorityRecord {
        id: id.into(),
        trust_domain: domain.into(),
        certificate: format!("certificate of {id}"),
        sealed_key: "c2VhbGVk".into(),
        created_at: at(0),
        signs_from: at(signs_from),
        expires_at: at(signs_from + year),
    };
    let first = authority("first", "a.example", 0);
    assert!(store.add_authority(first.clone()).await.unwrap());
    assert!(!store.add_authority(authority("twin", "a.example", 0)).await.unwrap());
    assert!(!store.add_authority(authority("a moment later", "a.example", 1)).await.unwrap());
    assert!(store.add_authority(authority("elsewhere", "b.example", 0)).await.unwrap());
    let next = authority("next", "a.example", year * 9 / 10);
    let other = fixture.open().await;
    let (a, b) = tokio::join!(async { store.add_authority(next.clone()).await.unwrap() }, async {
        other.add_authority(AuthorityRecord { id: "its twin".into(), ..next.clone() }).await.unwrap()
    },);
    assert!(a != b);
    let kept = store.authorities("a.example").await.unwrap();
    assert_eq!(kept.first(), Some(&first));
    assert_eq!(kept.len(), 2);
    assert!(kept[1].signs_from > kept[0].signs_from);
    store.remove_authority("first").await.unwrap();
    store.remove_authority("first").await.unwrap();
    assert_eq!(store.authorities("a.example").await.unwrap(), kept[1..]);
    assert!(store.authorities("c.example").await.unwrap().is_empty());
    assert_eq!(kept[0].expires_at.duration_since(kept[0].signs_from), SignedDuration::from_secs(year));
}
