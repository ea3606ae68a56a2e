//! Leases: one holder at a time.

use jiff::SignedDuration;

use crate::fixture::{Fixture, at};

pub(crate) async fn one_holds_it_until_it_ends(fixture: Fixture) {
    let store = fixture.open().await;
    let (now, minute) = (at(0), SignedDuration::from_mins(1));
    assert_eq!(store.take_lease("sweep", "a", now, now + minute).await.unwrap(), Ok(()));
    assert_eq!(store.take_lease("sweep", "b", now, now + minute).await.unwrap(), Err(now + minute));
    assert_eq!(store.take_lease("other", "b", now, now + minute).await.unwrap(), Ok(()));
    // Taken again, it lasts longer; given back by whom it is not, it stays.
    assert_eq!(store.take_lease("sweep", "a", now, now + minute * 2).await.unwrap(), Ok(()));
    store.end_lease("sweep", "b").await.unwrap();
    let late = now + minute * 2;
    assert_eq!(store.take_lease("sweep", "b", late - minute, late).await.unwrap(), Err(late));
    assert_eq!(store.take_lease("sweep", "b", late, late + minute).await.unwrap(), Ok(()));
    store.end_lease("sweep", "b").await.unwrap();
    assert_eq!(store.take_lease("sweep", "a", late, late + minute).await.unwrap(), Ok(()));
}
