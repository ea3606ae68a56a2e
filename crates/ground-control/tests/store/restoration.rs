//! What becomes of a database that was put back.

use ground_control::domain::user::{NewSession, NewUser, Role};
use jiff::SignedDuration;

use crate::fixture::{Fixture, at, by_nonce, claim, due, group, hashed, published, satellite};

pub(crate) async fn a_restored_database_is_newer_than_all_before(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "edge", "library/app").await;
    satellite(&store, "edge-01", &["edge"]).await;
    satellite(&store, "edge-02", &["edge"]).await;
    claim(&store, "edge-01", by_nonce("n"), "secret", at(2)).await.unwrap();
    published(&store, at(2)).await;
    let (before, told) = (store.position().await.unwrap(), store.publications(0, u64::MAX >> 1, 100));
    let told = told.await.unwrap();
    assert_eq!((before.epoch, told.is_empty()), (0, false));
    let user = NewUser { username: "ann".into(), role: Role::Admin, password_hash: "$argon2id$".into() };
    let user = store.create_user(user, at(3)).await.unwrap();
    let session = NewSession { token: hashed("s"), user: user.id, expires_at: at(1000) };
    store.create_session(session, at(3)).await.unwrap();
    // What a server that is no more had in hand.
    let hour = SignedDuration::from_hours(1);
    assert_eq!(store.take_lease("sweep", "gone", at(3), at(3) + hour).await.unwrap(), Ok(()));
    store.republish_all(at(3)).await.unwrap();
    assert_eq!(store.claim_documents(1, at(3), at(3) + hour).await.unwrap().len(), 1);
    let check = store.key_check("print").await.unwrap();

    let restored = store.restored(4, at(3), at(10)).await.unwrap();
    assert_eq!((restored.epoch, restored.sessions, restored.tokens), (5, 1, 1));
    let after = store.position().await.unwrap();
    assert!(after > before && after.epoch == 5, "{after:?}");
    assert!(after.number > before.number + 1_000_000, "numbers come from the clock: {after:?}");
    let again = store.publications(before.number, after.number, 100).await.unwrap();
    let documents = |list: &[ground_control::domain::desired::Publication]| {
        list.iter().map(|publication| publication.document.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(documents(&again), documents(&told), "in the order in which they were");
    assert_eq!(again.last().unwrap().number, after.number);
    assert!(store.session(&hashed("s"), at(11)).await.unwrap().is_none());
    assert!(
        claim(&store, "edge-02", by_nonce("other"), "secret", at(11)).await.is_err(),
        "the token is closed"
    );
    claim(&store, "edge-01", by_nonce("n"), "secret", at(11)).await.unwrap();
    assert_eq!(store.take_lease("sweep", "new", at(11), at(11) + hour).await.unwrap(), Ok(()));
    let asked = due(&store, at(11)).await;
    assert_eq!(u64::try_from(asked.len()).unwrap(), restored.documents);
    assert!(asked.iter().all(|claimed| claimed.verify));
    let standing = store.standing().await.unwrap();
    assert_eq!((standing.epoch, standing.key_check), (5, Some(check)));
    assert!(standing.schema >= 13, "{}", standing.schema);

    // The same again: its own epoch counts, too.
    assert_eq!(store.restored(0, at(3), at(20)).await.unwrap().epoch, 6);
}
