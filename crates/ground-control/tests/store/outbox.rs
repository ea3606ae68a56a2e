//! Intents to publish.

use std::collections::BTreeSet;

use ground_control::domain::document::{DocumentKey, OutboxLag};
use ground_control::store::DocumentSource;
use jiff::SignedDuration;
use oci::Digest;
use serde_json::json;

use crate::fixture::{Fixture, artifacts, at, due, group, keys, published, satellite, written};

pub(crate) async fn a_change_and_its_intent_are_one(fixture: Fixture) {
    let store = fixture.ready().await;
    assert_eq!(store.outbox_lag().await.unwrap(), OutboxLag::default());
    group(&store, "us-east", "library/nginx").await;
    satellite(&store, "edge-01", &["us-east"]).await;
    store.create_config("slow", json!({}), at(1)).await.unwrap();
    // However often a thing changes, it waits once.
    for n in 2..10 {
        let list = artifacts(json!([{"repository": "library/nginx", "tag": [n.to_string()]}]));
        store.sync_group("us-east", list, "ann", at(n)).await.unwrap();
    }
    let lag = store.outbox_lag().await.unwrap();
    assert_eq!((lag.waiting, lag.failing, lag.oldest), (3, 0, Some(at(1))));

    let key = DocumentKey::satellite("edge-01");
    let DocumentSource::Satellite(source) = store.document_source(&key).await.unwrap() else {
        panic!("no satellite")
    };
    assert_eq!((source.groups, source.config.as_str()), (vec!["us-east".to_owned()], "default"));
    assert_eq!(keys(&source.unpublished), ["group/us-east"]);
    let claimed = due(&store, at(10)).await;
    assert_eq!(
        keys(claimed.iter().map(|c| &c.document)),
        ["config/slow", "group/us-east", "satellite/edge-01"]
    );
    let DocumentSource::Group(group) = store.document_source(&claimed[1].document).await.unwrap() else {
        panic!("no group")
    };
    assert_eq!(group.artifacts[0].tags[0].as_str(), "9");
    assert!(group.unseen);
    for gone in [DocumentKey::satellite("x"), DocumentKey::group("x"), DocumentKey::config("x")] {
        assert_eq!(store.document_source(&gone).await.unwrap(), DocumentSource::Gone);
    }
}

pub(crate) async fn a_newer_change_is_not_swallowed(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    let old = due(&store, at(2)).await.remove(0);
    group(&store, "us-east", "library/alpine").await;
    // While the first publisher is at work nobody else gets the document.
    assert!(due(&store, at(3)).await.is_empty());
    written(&store, &old, Digest::sha256(b"old"), at(3), at(3)).await;
    let new = due(&store, at(3)).await.remove(0);
    assert_ne!(new.change, old.change);
    // One who comes back late with the old change does not end the new one.
    written(&store, &old, Digest::sha256(b"old"), at(4), at(4)).await;
    assert_eq!(store.outbox_lag().await.unwrap().waiting, 1);
    written(&store, &new, Digest::sha256(b"new"), at(5), at(5)).await;
    assert_eq!(store.outbox_lag().await.unwrap().waiting, 0);
}

pub(crate) async fn two_publishers_never_claim_the_same(fixture: Fixture) {
    let (one, two) = (fixture.ready().await, fixture.open().await);
    for n in 0..60 {
        group(&one, &format!("group-{n:02}"), "library/nginx").await;
    }
    let take = async |store: &ground_control::store::SharedStore| {
        let mut taken = Vec::new();
        loop {
            let claimed = store.claim_documents(3, at(2), at(62)).await.unwrap();
            if claimed.is_empty() {
                return taken;
            }
            taken.extend(claimed.into_iter().map(|c| c.document));
        }
    };
    let (mut a, b) = tokio::join!(take(&one), take(&two));
    a.extend(b);
    assert_eq!(a.len(), 60);
    assert_eq!(a.iter().collect::<BTreeSet<_>>().len(), 60);
    // A publisher that died is taken over when its claims run out.
    assert!(due(&two, at(61)).await.is_empty());
    assert_eq!(due(&two, at(62)).await.len(), 60);
}

pub(crate) async fn failures_and_postponements_come_back_in_time(fixture: Fixture) {
    let store = fixture.ready().await;
    group(&store, "us-east", "library/nginx").await;
    let claimed = due(&store, at(2)).await.remove(0);
    store.document_failed(&claimed, "the disk is full\0", at(10)).await.unwrap();
    let lag = store.outbox_lag().await.unwrap();
    assert_eq!((lag.waiting, lag.failing), (1, 1));
    assert!(due(&store, at(9)).await.is_empty());
    let again = due(&store, at(10)).await.remove(0);
    assert_eq!(again.attempts, 1);
    store.document_postponed(&again, at(20)).await.unwrap();
    assert!(due(&store, at(19)).await.is_empty());
    let again = due(&store, at(20)).await.remove(0);
    assert_eq!((again.attempts, again.enqueued_at), (1, at(1)));
    // A change in between makes it due at once, and its failures are forgotten.
    store.document_failed(&again, "still full", at(1000)).await.unwrap();
    let list = artifacts(json!([{"repository": "library/alpine", "tag": "latest"}]));
    store.sync_group("us-east", list, "ann", at(21)).await.unwrap();
    let again = due(&store, at(21)).await.remove(0);
    assert_eq!(again.attempts, 0);

    assert!(!store.satellites_waiting(at(30)).await.unwrap());
    satellite(&store, "edge-01", &[]).await;
    assert!(store.satellites_waiting(at(1)).await.unwrap());
    assert!(!store.satellites_waiting(at(0)).await.unwrap());
}

pub(crate) async fn generations_grow_and_manifests_are_superseded(fixture: Fixture) {
    let store = fixture.ready().await;
    let key = DocumentKey::group("us-east");
    let digest = |text: &str| Digest::sha256(text.as_bytes());
    let publish = async |text: &str, seconds: i64| {
        store.republish(&key, at(seconds)).await.unwrap();
        let claimed = due(&store, at(seconds)).await.remove(0);
        assert!(claimed.verify);
        let grace = at(seconds) + SignedDuration::from_secs(100);
        written(&store, &claimed, digest(text), at(seconds), grace).await.generation
    };
    assert_eq!(store.published(&key).await.unwrap(), None);
    let mut generations = Vec::new();
    for (text, seconds) in [("a", 1), ("b", 2), ("b", 3), ("a", 4), ("c", 5)] {
        generations.push(publish(text, seconds).await);
    }
    assert_eq!(generations, [1, 2, 2, 3, 4]);
    let now = store.published(&key).await.unwrap().unwrap();
    assert_eq!((now.digest, now.published_at), (digest("c"), at(5)));
    assert!(store.superseded(10, at(101)).await.unwrap().is_empty());
    let old = store.superseded(10, at(200)).await.unwrap();
    let gone: BTreeSet<_> = old.iter().map(|s| s.digest).collect();
    assert_eq!(gone, BTreeSet::from([digest("a"), digest("b")]));
    store.superseded_removed(&old[0]).await.unwrap();
    assert_eq!(store.superseded(10, at(200)).await.unwrap(), old[1..]);

    // A name that goes and comes back goes on counting.
    store.republish(&key, at(300)).await.unwrap();
    let claimed = due(&store, at(300)).await.remove(0);
    store.document_removed(&claimed).await.unwrap();
    assert_eq!(store.published(&key).await.unwrap(), None);
    assert!(store.superseded(10, at(1000)).await.unwrap().is_empty());
    assert_eq!(publish("c", 301).await, 5);
}

pub(crate) async fn everything_can_be_asked_for_again(fixture: Fixture) {
    let store = fixture.ready().await;
    for n in 0..3 {
        group(&store, &format!("group-{n}"), "library/nginx").await;
        satellite(&store, &format!("edge-{n}"), &[]).await;
    }
    published(&store, at(2)).await;
    let mut listed = Vec::new();
    let mut last = None;
    loop {
        let page = store.published_after(last.as_ref(), 2).await.unwrap();
        let Some((end, _)) = page.last() else { break };
        last = Some(end.clone());
        listed.extend(page.into_iter().map(|(key, _)| key));
    }
    assert_eq!(listed.len(), 7);

    store.delete_satellite("edge-2", at(3)).await.unwrap();
    assert_eq!(store.republish_all(at(4)).await.unwrap(), 7);
    let claimed = due(&store, at(4)).await;
    assert_eq!(
        keys(claimed.iter().map(|c| &c.document)),
        [
            "config/default",
            "group/group-0",
            "group/group-1",
            "group/group-2",
            "satellite/edge-2",
            "satellite/edge-0",
            "satellite/edge-1",
        ]
    );
    assert!(claimed.iter().all(|c| c.verify));
    for claimed in &claimed {
        written(&store, claimed, Digest::sha256(b"x"), at(5), at(5)).await;
    }

    assert_eq!(store.registry_url().await.unwrap(), None);
    assert!(store.set_registry_url("https://a.example.com", at(6)).await.unwrap());
    assert_eq!(published(&store, at(6)).await.len(), 7);
    assert!(!store.set_registry_url("https://a.example.com", at(7)).await.unwrap());
    assert!(published(&store, at(7)).await.is_empty());
    assert!(store.set_registry_url("https://b.example.com", at(8)).await.unwrap());
    assert_eq!(store.registry_url().await.unwrap().as_deref(), Some("https://b.example.com"));
}
