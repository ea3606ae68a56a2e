//! Registration by a one-time token, and the secrets that come of it.

use ground_control::domain::heartbeat::{HeartbeatOutcome, HeartbeatRecord, Report};
use ground_control::domain::satellite::{SatelliteState, SecretMatch};
use ground_control::domain::ztr::ClaimRefusal;
use ground_control::domain::{SatelliteId, StoreError};
use ground_control::store::{RotateSecret, SharedStore};

use crate::fixture::{Fixture, at, by_nonce, by_source, claim, hashed, new_satellite, satellite};

async fn matches(store: &SharedStore, name: &str, secret: &str) -> Option<SecretMatch> {
    store.robot(name).await.unwrap().and_then(|robot| robot.check(&hashed(secret)))
}

async fn heartbeat(store: &SharedStore, satellite: &SatelliteId, seconds: i64) -> HeartbeatOutcome {
    let record =
        HeartbeatRecord { satellite: satellite.clone(), received_at: at(seconds), report: Report::default() };
    store.record_heartbeats(&[record]).await.unwrap()[0]
}

const CURRENT: Option<SecretMatch> = Some(SecretMatch::Current { previous_kept: false });

pub(crate) async fn a_nonce_is_answered_until_the_first_heartbeat(fixture: Fixture) {
    let store = fixture.ready().await;
    let created = satellite(&store, "edge-01", &[]).await;
    let robot = store.robot("edge-01").await.unwrap().unwrap();
    assert!(robot.secret.is_none() && robot.state == SatelliteState::Pending);

    let grant = claim(&store, "edge-01", by_nonce("n"), "first", at(10)).await.unwrap();
    assert_eq!(
        (&grant.satellite, grant.satellite_name.as_str(), grant.again),
        (&created.id, "edge-01", false)
    );
    assert_eq!(matches(&store, "edge-01", "first").await, CURRENT);

    // The answer was lost: the same device gets a fresh secret, and if the first one did arrive it still works.
    let grant = claim(&store, "edge-01", by_nonce("n"), "second", at(90_000)).await.unwrap();
    assert!(grant.again);
    assert_eq!(matches(&store, "edge-01", "first").await, Some(SecretMatch::Previous));
    assert_eq!(
        matches(&store, "edge-01", "second").await,
        Some(SecretMatch::Current { previous_kept: true })
    );
    for other in [by_nonce("m"), by_source("192.0.2.1")] {
        assert_eq!(claim(&store, "edge-01", other, "stolen", at(20)).await, Err(ClaimRefusal::Used));
    }
    assert_eq!(matches(&store, "edge-01", "stolen").await, None);

    assert_eq!(
        heartbeat(&store, &created.id, 100_000).await,
        HeartbeatOutcome::Recorded { first: true, secret_rotated_at: Some(at(90_000)) }
    );
    assert_eq!(claim(&store, "edge-01", by_nonce("n"), "third", at(100_001)).await, Err(ClaimRefusal::Used));
    assert!(matches(&store, "edge-01", "second").await.is_some());
}

pub(crate) async fn a_source_is_answered_for_ten_minutes(fixture: Fixture) {
    let store = fixture.ready().await;
    satellite(&store, "edge-01", &[]).await;
    let source = || by_source("192.0.2.1");
    claim(&store, "edge-01", source(), "first", at(0)).await.unwrap();
    for other in [by_source("192.0.2.2"), by_source("2001:db8::1"), by_nonce("n")] {
        assert_eq!(claim(&store, "edge-01", other, "stolen", at(1)).await, Err(ClaimRefusal::Used));
    }
    claim(&store, "edge-01", source(), "second", at(599)).await.unwrap();
    // Perhaps another device behind the same address: two of them never work side by side.
    assert_eq!(matches(&store, "edge-01", "first").await, None);
    assert_eq!(matches(&store, "edge-01", "second").await, CURRENT);
    assert_eq!(claim(&store, "edge-01", source(), "third", at(600)).await, Err(ClaimRefusal::Used));
}

pub(crate) async fn tokens_expire_and_end(fixture: Fixture) {
    let store = fixture.ready().await;
    let day = 24 * 3600;
    assert_eq!(claim(&store, "edge-00", by_nonce("n"), "s", at(0)).await, Err(ClaimRefusal::Unknown));
    satellite(&store, "edge-01", &[]).await;
    assert_eq!(claim(&store, "edge-01", by_nonce("n"), "s", at(day)).await, Err(ClaimRefusal::Expired));
    claim(&store, "edge-01", by_nonce("n"), "s", at(day - 1)).await.unwrap();

    satellite(&store, "edge-02", &[]).await;
    claim(&store, "edge-02", by_nonce("n"), "s", at(2)).await.unwrap();
    store.delete_satellite("edge-02", at(3)).await.unwrap();
    assert_eq!(claim(&store, "edge-02", by_nonce("n"), "t", at(4)).await, Err(ClaimRefusal::Used));
    assert!(store.robot("edge-02").await.unwrap().is_none());

    // A name that comes back has nothing of what was before.
    let mut new = new_satellite("edge-02", &[]);
    new.token = hashed("another token");
    store.create_satellite(new, at(5)).await.unwrap();
    assert_eq!(claim(&store, "edge-02", by_nonce("n"), "t", at(6)).await, Err(ClaimRefusal::Used));
    assert!(store.robot("edge-02").await.unwrap().unwrap().secret.is_none());
}

pub(crate) async fn of_two_claims_at_once_one_is_granted(fixture: Fixture) {
    let store = fixture.ready().await;
    let other = fixture.open().await;
    for n in 0..10 {
        let name = format!("edge-{n:02}");
        satellite(&store, &name, &[]).await;
        let (a, b) = tokio::join!(
            claim(&store, &name, by_nonce("a"), "secret of a", at(10)),
            claim(&other, &name, by_nonce("b"), "secret of b", at(10)),
        );
        let (won, lost) =
            if a.is_ok() { ("secret of a", "secret of b") } else { ("secret of b", "secret of a") };
        assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
        assert_eq!(a.or(b).map(|grant| grant.again), Ok(false));
        assert_eq!(matches(&store, &name, won).await, CURRENT);
        assert_eq!(matches(&store, &name, lost).await, None);
    }
}

pub(crate) async fn a_previous_secret_is_good_until_the_new_one_is_used(fixture: Fixture) {
    let store = fixture.ready().await;
    let created = satellite(&store, "edge-01", &[]).await;
    claim(&store, "edge-01", by_nonce("n"), "one", at(1)).await.unwrap();
    let rotate = async |presented: &str, new: &str| {
        let rotate = RotateSecret {
            satellite: created.id.clone(),
            presented: hashed(presented),
            new_secret: hashed(new),
        };
        store.rotate_secret(rotate, at(2)).await.unwrap()
    };
    assert!(rotate("one", "two").await);
    assert_eq!(matches(&store, "edge-01", "one").await, Some(SecretMatch::Previous));
    // The answer was lost: asked with the old one again, the old one still stays.
    assert!(rotate("one", "three").await);
    assert_eq!(matches(&store, "edge-01", "one").await, Some(SecretMatch::Previous));
    assert_eq!(matches(&store, "edge-01", "two").await, None);
    store.robot_secret_used(&created.id, &hashed("one")).await.unwrap();
    assert_eq!(matches(&store, "edge-01", "one").await, Some(SecretMatch::Previous));
    store.robot_secret_used(&created.id, &hashed("three")).await.unwrap();
    assert_eq!(matches(&store, "edge-01", "one").await, None);
    assert_eq!(matches(&store, "edge-01", "three").await, CURRENT);
    assert!(!rotate("one", "four").await);
    assert_eq!(matches(&store, "edge-01", "three").await, CURRENT);

    store.delete_satellite("edge-01", at(3)).await.unwrap();
    assert!(!rotate("three", "five").await);
    assert!(matches!(store.satellite("edge-01").await, Err(StoreError::NotFound { .. })));
}
