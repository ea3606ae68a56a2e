//! Keys of requests that make something once.

use futures_util::future::join_all;
use ground_control::domain::StoreError;
use ground_control::domain::idempotency::{Attempt, CLAIM, Claim, LIFETIME, MOST_KEYS, Outcome};
use ground_control::domain::store::Terms;
use ground_control::store::SharedStore;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::fixture::{Fixture, at};

fn attempt(key: &str, holder: &str) -> Attempt {
    let claim = Claim { caller: "ann".to_owned(), key_hash: key.to_owned(), holder: holder.to_owned() };
    Attempt { claim, request_hash: "request".to_owned() }
}

fn on(store: &SharedStore, attempt: &Attempt) -> SharedStore {
    store.on_terms(Terms { claim: Some(attempt.claim.clone()), ..Terms::default() })
}

fn later(now: Timestamp, life: SignedDuration) -> Timestamp {
    now + life
}

async fn make(store: &SharedStore, name: &str) -> Result<(), StoreError> {
    store.create_config(name, json!({}), at(1)).await.map(drop)
}

pub(crate) async fn the_same_request_is_answered_again(fixture: Fixture) {
    let store = fixture.ready().await;
    let one = attempt("k", "one");
    assert_eq!(store.claim_key(&one, at(1)).await.unwrap(), Outcome::Claimed);
    let again = attempt("k", "two");
    assert_eq!(store.claim_key(&again, at(2)).await.unwrap(), Outcome::UnderWay);
    make(&on(&store, &one), "slow").await.unwrap();
    assert!(store.keep_answer(&one.claim, 201, Some("sealed"), at(600)).await.unwrap());
    // Another replica, or this one after a restart.
    let other = fixture.open().await;
    let answered = Outcome::Answered(201, "sealed".to_owned());
    assert_eq!(other.claim_key(&again, at(599)).await.unwrap(), answered);
    let another = Attempt { request_hash: "another".to_owned(), ..again.clone() };
    assert_eq!(other.claim_key(&another, at(5)).await.unwrap(), Outcome::AnotherRequest);
    // Another caller's key is another key.
    let bob = Claim { caller: "bob".to_owned(), ..again.claim.clone() };
    let bob = Attempt { claim: bob, ..again.clone() };
    assert_eq!(other.claim_key(&bob, at(5)).await.unwrap(), Outcome::Claimed);
    // What is not kept any more is not made again, either, until the key is forgotten.
    for now in [at(600), at(601)] {
        assert_eq!(store.claim_key(&again, now).await.unwrap(), Outcome::Forgotten);
        store.purge_keys(now).await.unwrap();
    }
    let end = later(at(1), LIFETIME);
    assert_eq!(
        store.claim_key(&again, later(end, -SignedDuration::from_secs(1))).await.unwrap(),
        Outcome::Forgotten
    );
    store.purge_keys(end).await.unwrap();
    assert_eq!(store.claim_key(&again, end).await.unwrap(), Outcome::Claimed);
}

pub(crate) async fn of_many_at_once_one_is_carried_out(fixture: Fixture) {
    let stores = [fixture.ready().await, fixture.open().await];
    let claims = (0..12).map(|n| {
        let store = &stores[n % 2];
        async move { store.claim_key(&attempt("k", &format!("holder-{n}")), at(1)).await.unwrap() }
    });
    let outcomes = join_all(claims).await;
    let claimed = outcomes.iter().filter(|outcome| **outcome == Outcome::Claimed).count();
    let waiting = outcomes.iter().filter(|outcome| **outcome == Outcome::UnderWay).count();
    assert_eq!((claimed, waiting), (1, 11), "{outcomes:?}");
}

/// Wherever a process ends, nothing is made twice, and what was not made can be.
pub(crate) async fn a_claim_outlives_its_process(fixture: Fixture) {
    let store = fixture.ready().await;
    let over = later(at(1), CLAIM);
    // Before anything was made: the claim is taken over when its time is up, and the one before makes nothing any more.
    let one = attempt("before", "one");
    store.claim_key(&one, at(1)).await.unwrap();
    let two = attempt("before", "two");
    assert_eq!(store.claim_key(&two, at(2)).await.unwrap(), Outcome::UnderWay);
    assert_eq!(store.claim_key(&two, over).await.unwrap(), Outcome::Claimed);
    let late = make(&on(&store, &one), "slow").await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    assert!(store.config("slow").await.is_err());
    assert!(!store.keep_answer(&one.claim, 201, None, at(600)).await.unwrap());
    store.release_key(&one.claim).await.unwrap();
    make(&on(&store, &two), "slow").await.unwrap();
    // Between what was made and its answer: nobody begins again.
    let three = attempt("before", "three");
    assert_eq!(store.claim_key(&three, later(over, CLAIM)).await.unwrap(), Outcome::Forgotten);
    store.release_key(&two.claim).await.unwrap();
    assert_eq!(store.claim_key(&three, later(over, CLAIM)).await.unwrap(), Outcome::Forgotten);
    // What fails leaves no mark: the transaction is one.
    let four = attempt("failed", "four");
    store.claim_key(&four, at(1)).await.unwrap();
    assert!(matches!(make(&on(&store, &four), "slow").await, Err(StoreError::Conflict { .. })));
    store.release_key(&four.claim).await.unwrap();
    assert_eq!(store.claim_key(&attempt("failed", "five"), at(2)).await.unwrap(), Outcome::Claimed);
}

pub(crate) async fn keys_of_a_caller_are_bounded(fixture: Fixture) {
    let store = fixture.ready().await;
    // One more than are kept, each answered a second after the one before.
    assert_eq!(MOST_KEYS, 1000);
    fixture
        .execute(
            "INSERT INTO idempotency_keys (caller, key_hash, request_hash, claim, claimed_until, made, status,
                 answer, answer_until, created_at, expires_at)
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             SELECT 'ann', 'k' || i, 'request', 'one', 0, TRUE, 201, 'sealed', 1800000000000,
                 1700000000000 + i, 1800000000000 FROM n",
        )
        .await;
    let answered = Outcome::Answered(201, "sealed".to_owned());
    let now = at(2);
    assert_eq!(store.claim_key(&attempt("k0", "two"), now).await.unwrap(), answered);
    assert_eq!(store.claim_key(&attempt("new", "one"), now).await.unwrap(), Outcome::Claimed);
    assert_eq!(store.claim_key(&attempt("k1", "two"), now).await.unwrap(), answered);
    assert_eq!(
        store.claim_key(&attempt("k0", "two"), now).await.unwrap(),
        Outcome::Claimed,
        "the oldest is gone"
    );
}
