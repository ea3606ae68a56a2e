//! The publisher, from the records to a real store of blobs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use blob_store::Store as Blobs;
use fleet_protocol::state_image::{self, StateImage};
use ground_control::domain::document::DocumentKey;
use ground_control::publish::{
    BuiltinRegistry, Options, Publisher, RegistryBackend, RegistryError, StateManifest, Status,
};
use ground_control::store::SharedStore;
use jiff::Timestamp;
use oci::{Digest, Manifest, Reference, RepositoryName};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::fixture::{Fixture, artifacts, group, new_satellite};

const URL: &str = "http://registry.example.com";

/// A registry that writes down what it is asked, and refuses where it is told to.
#[derive(Debug)]
struct Watched {
    inner: BuiltinRegistry,
    asked: Mutex<Vec<String>>,
    refuse: AtomicBool,
}

impl Watched {
    fn new(blobs: &Blobs) -> Arc<Self> {
        let inner = BuiltinRegistry::new(blobs.clone());
        Arc::new(Self { inner, asked: Mutex::default(), refuse: AtomicBool::new(false) })
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn note(&self, what: &str, repository: &RepositoryName) -> Result<(), RegistryError> {
        if self.refuse.load(Ordering::SeqCst) {
            let source = "the disk is full".into();
            return Err(RegistryError { operation: "refuse", repository: repository.to_string(), source });
        }
        let name = repository.as_str().trim_start_matches("satellite/").trim_end_matches("/state");
        self.asked.lock().unwrap().push(format!("{what} {}", name.replace("-state", "")));
        Ok(())
    }
}

#[async_trait]
impl RegistryBackend for Watched {
    async fn current(&self, repository: &RepositoryName) -> Result<Option<StateManifest>, RegistryError> {
        self.inner.current(repository).await
    }

    async fn publish(&self, repository: &RepositoryName, image: &StateImage) -> Result<(), RegistryError> {
        self.note("publish", repository)?;
        self.inner.publish(repository, image).await
    }

    async fn remove(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), RegistryError> {
        self.note("remove", repository)?;
        self.inner.remove(repository, digest).await
    }

    async fn clear(&self, repository: &RepositoryName) -> Result<(), RegistryError> {
        self.note("clear", repository)?;
        self.inner.clear(repository).await
    }
}

fn blobs(fixture: &Fixture) -> Blobs {
    Blobs::open(fixture.dir.path().join("registry"), blob_store::Options::default()).unwrap()
}

fn options() -> Options {
    Options { poll: Duration::from_millis(20), retry: Duration::from_millis(10), ..Options::new(URL) }
}

fn publisher(store: &SharedStore, registry: &Arc<Watched>) -> Publisher {
    Publisher::new(store.clone(), Arc::clone(registry) as Arc<dyn RegistryBackend>, options()).0
}

async fn satellite(store: &SharedStore, name: &str, groups: &[&str]) {
    store.create_satellite(new_satellite(name, groups), Timestamp::now()).await.unwrap();
}

async fn list(store: &SharedStore, group: &str, list: Value) {
    store.sync_group(group, artifacts(list), "ann", Timestamp::now()).await.unwrap();
}

/// The document as a satellite would read it; `None` where the tag is not there.
async fn document(blobs: &Blobs, key: DocumentKey) -> Option<Value> {
    let repository: RepositoryName = key.repository().parse().unwrap();
    let latest: Reference = "latest".parse().unwrap();
    let stored = blobs.manifest(&repository, &latest).unwrap()?;
    let manifest = Manifest::parse(Some(&stored.media_type), &stored.bytes).unwrap();
    let layer = state_image::candidate_layers(&manifest).next().unwrap().digest;
    let blob = blobs.blob(&repository, &layer).unwrap().unwrap();
    Some(state_image::decode_layer(&blob.read_all(1 << 20).await.unwrap()).unwrap())
}

pub(crate) async fn what_was_committed_is_published_after_a_restart(fixture: Fixture) {
    let store = fixture.open().await;
    store.ensure_default_config(Timestamp::now()).await.unwrap();
    group(&store, "us-east", "library/nginx").await;
    satellite(&store, "edge-01", &["us-east"]).await;
    // The program dies before its publisher ever looked.
    store.close().await;
    drop(store);

    let (store, blobs) = (fixture.open().await, blobs(&fixture));
    let status = publisher(&store, &Watched::new(&blobs)).drain().await;
    assert_eq!((status.published, status.failures, status.lag.waiting), (3, 0, 0));
    assert_eq!(
        document(&blobs, DocumentKey::satellite("edge-01")).await.unwrap(),
        json!({
            "states": [format!("{URL}/satellite/group-state/us-east/state:latest")],
            "config": format!("{URL}/satellite/config-state/default/state:latest"),
        })
    );
    assert_eq!(
        document(&blobs, DocumentKey::group("us-east")).await.unwrap(),
        json!({"group": "us-east", "registry": URL, "artifacts": [
            {"repository": "library/nginx", "tag": ["latest"], "labels": [], "type": "image", "deleted": false}]})
    );
    assert_eq!(
        document(&blobs, DocumentKey::config("default")).await.unwrap(),
        fleet_protocol::config::default_document()
    );
}

pub(crate) async fn documents_follow_the_records(fixture: Fixture) {
    let (store, blobs) = (fixture.open().await, blobs(&fixture));
    let watched = Watched::new(&blobs);
    let mut publisher = publisher(&store, &watched);
    let now = Timestamp::now();
    store.ensure_default_config(now).await.unwrap();
    store.create_config("slow", json!({"app_config": {"log_level": "debug"}}), now).await.unwrap();
    group(&store, "us-east", "library/nginx").await;
    satellite(&store, "edge-01", &["us-east"]).await;
    publisher.drain().await;
    assert_eq!(watched.asked().len(), 4);

    store.assign_config("edge-01", "slow", Timestamp::now()).await.unwrap();
    store.patch_config("slow", json!({"app_config": null}), Timestamp::now()).await.unwrap();
    list(&store, "us-east", json!([{"repository": "library/nginx", "tag": "1", "deleted": true}])).await;
    publisher.drain().await;
    let satellite = document(&blobs, DocumentKey::satellite("edge-01")).await.unwrap();
    assert!(satellite["config"].as_str().unwrap().contains("config-state/slow/"));
    assert_eq!(document(&blobs, DocumentKey::config("slow")).await.unwrap(), json!({}));
    let group = document(&blobs, DocumentKey::group("us-east")).await.unwrap();
    assert_eq!(group["artifacts"][0]["deleted"], json!(true));

    // There and back again within one look is no change of the document: it is not written.
    watched.asked();
    store.assign_config("edge-01", "default", Timestamp::now()).await.unwrap();
    store.assign_config("edge-01", "slow", Timestamp::now()).await.unwrap();
    let status = publisher.drain().await;
    assert_eq!((status.unchanged, watched.asked()), (1, Vec::new()));

    // What is gone from the records is gone from the registry, and what named it was written before.
    store.delete_group("us-east", Timestamp::now()).await.unwrap();
    publisher.drain().await;
    assert_eq!(watched.asked(), ["publish satellite/edge-01", "clear group/us-east"]);
    assert_eq!(document(&blobs, DocumentKey::group("us-east")).await, None);
    store.delete_satellite("edge-01", Timestamp::now()).await.unwrap();
    store.delete_config("slow", Timestamp::now()).await.unwrap();
    publisher.drain().await;
    for gone in [DocumentKey::satellite("edge-01"), DocumentKey::config("slow")] {
        let repository: RepositoryName = gone.repository().parse().unwrap();
        assert!(blobs.manifests(&repository, None, 10).unwrap().items.is_empty());
        assert_eq!(store.published(&gone).await.unwrap(), None);
    }
}

pub(crate) async fn what_is_named_is_published_first(fixture: Fixture) {
    let (store, blobs) = (fixture.open().await, blobs(&fixture));
    let watched = Watched::new(&blobs);
    store.ensure_default_config(Timestamp::now()).await.unwrap();
    for n in 0..80 {
        let name = format!("group-{n:02}");
        group(&store, &name, "library/nginx").await;
        satellite(&store, &format!("edge-{n:02}"), &[&name]).await;
    }
    let status = publisher(&store, &watched).drain().await;
    assert_eq!((status.published, status.lag.waiting), (161, 0));
    let asked = watched.asked();
    let place: BTreeMap<&str, usize> = asked.iter().enumerate().map(|(n, a)| (a.as_str(), n)).collect();
    for n in 0..80 {
        let satellite = place[format!("publish satellite/edge-{n:02}").as_str()];
        assert!(place[format!("publish group/group-{n:02}").as_str()] < satellite);
        assert!(place["publish config/default"] < satellite);
    }
}

pub(crate) async fn a_registry_that_fails_is_tried_again(fixture: Fixture) {
    let (store, blobs) = (fixture.open().await, blobs(&fixture));
    let watched = Watched::new(&blobs);
    watched.refuse.store(true, Ordering::SeqCst);
    store.ensure_default_config(Timestamp::now()).await.unwrap();
    satellite(&store, "edge-01", &[]).await;
    let registry = Arc::clone(&watched) as Arc<dyn RegistryBackend>;
    let (publisher, mut handle) = Publisher::new(store.clone(), registry, options());
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(publisher.run(stopped));
    let failing = handle.wait_for(|s| s.failures >= 3 && s.lag.failing > 0).await.unwrap();
    assert!(failing.last_error.unwrap().contains("the disk is full"));
    // The satellite's document waits for the configuration's, which fails: that is no failure of its own.
    assert_eq!((failing.lag.waiting, failing.lag.failing, failing.published), (2, 1, 0));

    watched.refuse.store(false, Ordering::SeqCst);
    let done = |s: &Status| s.published == 2 && s.lag.waiting == 0 && s.last_error.is_none();
    handle.wait_for(done).await.unwrap();
    assert_eq!(watched.asked(), ["publish config/default", "publish satellite/edge-01"]);
    stop.send(true).unwrap();
    task.await.unwrap();
}

pub(crate) async fn superseded_manifests_go_after_their_grace(fixture: Fixture) {
    let (store, blobs) = (fixture.open().await, blobs(&fixture));
    let registry = Arc::new(BuiltinRegistry::new(blobs.clone())) as Arc<dyn RegistryBackend>;
    let short = Options { grace: Duration::from_millis(50), ..options() };
    let (publisher, mut handle) = Publisher::new(store.clone(), registry, short);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(publisher.run(stopped));
    for tag in ["1", "2", "1", "3"] {
        let before = handle.status().published;
        list(&store, "us-east", json!([{"repository": "library/nginx", "tag": tag}])).await;
        handle.wake();
        handle.wait_for(|s| s.published > before && s.lag.waiting == 0).await.unwrap();
    }
    let repository: RepositoryName = DocumentKey::group("us-east").repository().parse().unwrap();
    let manifests = || blobs.manifests(&repository, None, 10).unwrap().items;
    let mut rounds = handle.status().rounds;
    while manifests().len() > 1 {
        assert!(rounds < 1000, "{:?}", manifests());
        handle.wait_for(|s| s.rounds > rounds).await.unwrap();
        rounds = handle.status().rounds;
    }
    let group = document(&blobs, DocumentKey::group("us-east")).await.unwrap();
    assert_eq!(group["artifacts"][0]["tag"], json!(["3"]));
    assert_eq!(store.published(&DocumentKey::group("us-east")).await.unwrap().unwrap().generation, 4);
    stop.send(true).unwrap();
    task.await.unwrap();
}

pub(crate) async fn a_wiped_registry_is_filled_again(fixture: Fixture) {
    let store = fixture.open().await;
    let first = blobs(&fixture);
    store.ensure_default_config(Timestamp::now()).await.unwrap();
    store.set_registry_url(URL, Timestamp::now()).await.unwrap();
    satellite(&store, "edge-01", &[]).await;
    publisher(&store, &Watched::new(&first)).drain().await;
    drop(first);

    let second = Blobs::open(fixture.dir.path().join("another"), blob_store::Options::default()).unwrap();
    let registry = Arc::new(BuiltinRegistry::new(second.clone())) as Arc<dyn RegistryBackend>;
    let (publisher, mut handle) = Publisher::new(store.clone(), registry, options());
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(publisher.run(stopped));
    handle.wait_for(|s| s.published == 2 && s.lag.waiting == 0).await.unwrap();
    assert!(document(&second, DocumentKey::satellite("edge-01")).await.is_some());
    assert!(document(&second, DocumentKey::config("default")).await.is_some());

    // Asked from elsewhere, as by another process: found without being woken.
    store.republish_all(Timestamp::now()).await.unwrap();
    handle.wait_for(|s| s.published == 4 && s.lag.waiting == 0).await.unwrap();
    drop(stop);
    task.await.unwrap();
}

pub(crate) async fn two_publishers_share_the_work(fixture: Fixture) {
    let (one, two) = (fixture.open().await, fixture.open().await);
    let blobs = blobs(&fixture);
    let watched = Watched::new(&blobs);
    one.ensure_default_config(Timestamp::now()).await.unwrap();
    for n in 0..100 {
        group(&one, &format!("group-{n:03}"), "library/nginx").await;
    }
    let (mut a, mut b) = (publisher(&one, &watched), publisher(&two, &watched));
    let (a, b) = tokio::join!(a.drain(), b.drain());
    assert_eq!((a.published + b.published, a.failures + b.failures), (101, 0));
    let mut asked = watched.asked();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 101);
    assert_eq!(one.outbox_lag().await.unwrap().waiting, 0);
}

pub(crate) async fn a_manifest_that_was_written_and_not_remembered_goes_too(fixture: Fixture) {
    let (store, blobs) = (fixture.open().await, blobs(&fixture));
    let registry = BuiltinRegistry::new(blobs.clone());
    let repository: RepositoryName = DocumentKey::group("us-east").repository().parse().unwrap();
    // A publisher wrote this and died; before another looked, the group changed.
    let lost = StateImage::encode(&json!({"group": "us-east"})).unwrap();
    registry.publish(&repository, &lost).await.unwrap();
    group(&store, "us-east", "library/nginx").await;
    publisher(&store, &Watched::new(&blobs)).drain().await;
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let superseded = store.superseded(10, later).await.unwrap();
    assert_eq!(superseded.iter().map(|s| s.digest).collect::<Vec<_>>(), [lost.digest]);
}
