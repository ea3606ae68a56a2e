//! What others are told, in which order things were published, and who wakes by it.

use std::time::Duration;

use fleet_protocol::desired::generation;
use ground_control::desired::{Hub, Woken};
use ground_control::domain::change::Change;
use ground_control::domain::document::DocumentKey;
use ground_control::store::SharedStore;
use oci::Digest;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, at, due, group, published, satellite, written};

/// Waits until a change is told; others before it are passed over.
async fn told(changes: &mut Receiver<Change>, wanted: &Change) {
    let told = tokio::time::timeout(Duration::from_secs(10), async {
        while changes.recv().await.unwrap() != *wanted {}
    });
    assert!(told.await.is_ok(), "{wanted} was not told");
}

async fn woken(poll: &mut ground_control::desired::Poll) -> Woken {
    tokio::time::timeout(Duration::from_secs(10), poll.woken()).await.unwrap()
}

pub(crate) async fn changes_are_told(fixture: Fixture) {
    let store = fixture.ready().await;
    // Replicas share a server; a file has one process.
    let other = if store.kind() == "sqlite" { store.clone() } else { fixture.open().await };
    let mut changes = other.changes();
    group(&store, "us-east", "library/nginx").await;
    told(&mut changes, &Change::Fleet).await;
    published(&store, at(2)).await;
    told(&mut changes, &Change::Published(DocumentKey::group("us-east"))).await;
    satellite(&store, "edge-01", &["us-east"]).await;
    store.revoke_satellite("edge-01", at(3)).await.unwrap();
    told(&mut changes, &Change::Satellite("edge-01".into())).await;
    store.delete_satellite("edge-01", at(4)).await.unwrap();
    told(&mut changes, &Change::Satellite("edge-01".into())).await;
    // What was not committed is not told.
    assert!(store.delete_satellite("edge-01", at(5)).await.is_err());
    assert!(store.set_password("nobody", "hash", at(5)).await.is_err());
    group(&store, "us-west", "library/nginx").await;
    assert_eq!(changes.recv().await.unwrap(), Change::Fleet);
    assert!(changes.is_empty());
}

pub(crate) async fn a_listener_that_was_cut_off_says_so(fixture: Fixture) {
    let store = fixture.ready().await;
    if store.kind() == "sqlite" {
        return;
    }
    let mut changes = store.changes();
    fixture
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .await;
    told(&mut changes, &Change::Lost).await;
    group(&store, "us-east", "library/nginx").await;
    told(&mut changes, &Change::Fleet).await;
}

pub(crate) async fn publications_are_numbered(fixture: Fixture) {
    let store = fixture.ready().await;
    let before = store.position().await.unwrap();
    group(&store, "us-east", "library/nginx").await;
    satellite(&store, "edge-01", &["us-east"]).await;
    published(&store, at(2)).await;
    let position = store.position().await.unwrap();
    assert_eq!((position.epoch, position.number), (0, before.number + 2));
    let list = store.publications(before.number, position.number, 10).await.unwrap();
    let names: Vec<_> = list.iter().map(|publication| publication.document.to_string()).collect();
    assert_eq!(names, ["group/us-east", "satellite/edge-01"]);
    let named = list[1].named.as_ref().unwrap();
    assert_eq!((named.groups.as_slice(), named.config.as_str()), (&["us-east".to_owned()][..], "default"));
    assert_eq!(store.publications(before.number, position.number, 1).await.unwrap(), list[..1]);
    assert_eq!(store.publications(before.number, position.number - 1, 10).await.unwrap(), list[..1]);

    // What is published as it was takes no number.
    store.republish(&DocumentKey::group("us-east"), at(3)).await.unwrap();
    let claimed = due(&store, at(3)).await.remove(0);
    written(&store, &claimed, list[0].digest.unwrap(), at(3), at(3)).await;
    assert_eq!(store.position().await.unwrap(), position);

    // Who is shut out takes one, and so does what is removed.
    store.delete_satellite("edge-01", at(4)).await.unwrap();
    let shut_out = store.position().await.unwrap();
    assert_eq!(store.shut_out(position.number, shut_out.number).await.unwrap(), ["edge-01"]);
    assert!(store.shut_out(shut_out.number, u64::from(u32::MAX)).await.unwrap().is_empty());
    let claimed = due(&store, at(4)).await.remove(0);
    store.document_removed(&claimed).await.unwrap();
    let end = store.position().await.unwrap();
    let list = store.publications(shut_out.number, end.number, 10).await.unwrap();
    assert_eq!((list.len(), list[0].digest), (1, None));

    // An older program publishes without a number: what it wrote is asked for once more.
    assert_eq!(store.ask_for_unnumbered(at(5)).await.unwrap(), 0);
    fixture
        .execute("UPDATE published SET generation = generation + 1 WHERE document = 'group/us-east'")
        .await;
    assert_eq!(store.ask_for_unnumbered(at(5)).await.unwrap(), 1);
    assert_eq!(published(&store, at(5)).await, ["group/us-east"]);
    assert_eq!(store.ask_for_unnumbered(at(6)).await.unwrap(), 0);
    assert!(store.position().await.unwrap().number > end.number);
}

pub(crate) async fn who_waits_wakes(fixture: Fixture) {
    let store = fixture.ready().await;
    let other = if store.kind() == "sqlite" { store.clone() } else { fixture.open().await };
    group(&store, "us-east", "library/nginx").await;
    satellite(&store, "edge-01", &["us-east"]).await;
    satellite(&store, "edge-02", &[]).await;
    published(&store, at(2)).await;
    let hub = Hub::new(other);
    hub.read_on().await.unwrap();
    let first = hub.tell("edge-01").unwrap();
    assert!(first.state.is_some() && first.config.is_some() && first.groups.contains_key("us-east"));
    assert_eq!(first.generation, generation(0, store.position().await.unwrap().number - 1));
    assert_eq!(hub.tell("edge-03"), None);

    let stop = CancellationToken::new();
    let task = tokio::spawn(hub.clone().run(stop.clone()));
    let (mut one, mut two) = (hub.wait("edge-01"), hub.wait("edge-02"));
    publish_list(&store, "us-east", "a").await;
    assert_eq!(woken(&mut one).await, Woken::Changed);
    let second = hub.tell("edge-01").unwrap();
    assert!(second.generation > first.generation);
    assert_eq!(second.groups["us-east"], Digest::sha256(b"a"));
    store.revoke_satellite("edge-02", at(4)).await.unwrap();
    assert_eq!(woken(&mut two).await, Woken::ShutOut);
    let mut again = hub.wait("edge-01");
    let mut newer = hub.wait("edge-01");
    assert_eq!(woken(&mut again).await, Woken::Replaced);
    stop.cancel();
    task.await.unwrap();

    // No notification: the position shows that there is more.
    publish_list(&store, "us-east", "b").await;
    assert_eq!(hub.waiting(), 1);
    let stop = CancellationToken::new();
    let task = tokio::spawn(hub.clone().run(stop.clone()));
    hub.seen(store.position().await.unwrap());
    assert_eq!(woken(&mut newer).await, Woken::Changed);
    assert_eq!(hub.tell("edge-01").unwrap().groups["us-east"], Digest::sha256(b"b"));
    stop.cancel();
    task.await.unwrap();

    // After a restore everything is newer, whatever was counted before.
    fixture.execute("INSERT INTO settings (name, value) VALUES ('epoch', '1')").await;
    fixture.execute("UPDATE counters SET value = value - 1").await;
    let before = hub.tell("edge-01").unwrap().generation;
    hub.read_on().await.unwrap();
    assert!(hub.tell("edge-01").unwrap().generation > before);
}

/// Changes a group's list, and publishes it with a digest of its own.
async fn publish_list(store: &SharedStore, name: &str, text: &str) {
    group(store, name, &format!("library/{text}")).await;
    let claimed = due(store, at(3)).await;
    let claimed = claimed.iter().find(|claimed| claimed.document.name == name).unwrap();
    written(store, claimed, Digest::sha256(text.as_bytes()), at(3), at(3)).await;
}
