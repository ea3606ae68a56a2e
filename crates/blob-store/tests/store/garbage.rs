use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use blob_store::{Completeness, Options, PutManifest, Store, StoreError};
use oci::Digest;

use crate::support::*;

#[tokio::test]
async fn what_no_manifest_names_goes_and_the_rest_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let manifest = push_image(&store, "a", 1, &["t"]).await;
    let stray = put_blob(&store, "a", &content(50, 700)).await;
    let report = store.collect_garbage().await.unwrap();
    assert_eq!((report.blobs, report.bytes, report.orphans), (1, 700, 0));
    assert!(read_blob(&store, "a", &stray).await.is_none());
    assert!(!file_of(dir.path(), &stray).try_exists().unwrap());
    let name = repository("a");
    assert!(store.wholeness(&name, &Digest::sha256(&manifest)).await.unwrap().is_whole());

    store.delete_tag(&name, &tag("t")).await.unwrap();
    assert_eq!(store.collect_garbage().await.unwrap().blobs, 0, "an untagged manifest stays");
    store.delete_manifest(&name, &Digest::sha256(&manifest)).await.unwrap();
    assert_eq!(store.collect_garbage().await.unwrap().blobs, 3);
    let usage = store.usage().unwrap();
    assert_eq!(usage, blob_store::Usage::default());
    assert!(!store.has_repository(&name).unwrap());
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_two_images_share_stays_until_the_last_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let shared = content(1, 900);
    let mut manifests = Vec::new();
    for n in 0..2 {
        let (name, config) = (format!("r{n}"), content(10 + n, 30));
        put_blob(&store, &name, &config).await;
        put_blob(&store, &name, &shared).await;
        manifests.push((repository(&name), put(&store, &name, &image(&config, &[&shared]), &[]).await));
    }
    let layer = Digest::sha256(&shared);
    store.delete_manifest(&manifests[0].0, &manifests[0].1).await.unwrap();
    store.collect_garbage().await.unwrap();
    assert_eq!(read_blob(&store, "r1", &layer).await, Some(shared));
    store.delete_manifest(&manifests[1].0, &manifests[1].1).await.unwrap();
    store.collect_garbage().await.unwrap();
    assert!(!store.has_blob_anywhere(&layer).unwrap());
}

#[tokio::test]
async fn inside_the_grace_nothing_goes_and_pins_hold_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, 10);
    let digest = Digest::sha256(&bytes);
    {
        let grace = Options { grace: Duration::from_secs(3600), ..options() };
        let store = Store::open(dir.path(), grace).unwrap();
        put_blob(&store, "a", &bytes).await;
        let manifest = push_image(&store, "a", 1, &[]).await;
        store.delete_manifest(&repository("a"), &Digest::sha256(&manifest)).await.unwrap();
        assert_eq!(store.collect_garbage().await.unwrap().blobs, 0);
        assert_eq!(read_blob(&store, "a", &digest).await, Some(bytes.clone()));
    }
    let store = open(dir.path());
    let pin = store.pin([digest]);
    assert_eq!(store.collect_garbage().await.unwrap().blobs, 3);
    assert_eq!(read_blob(&store, "a", &digest).await, Some(bytes));
    drop(pin);
    assert_eq!(store.collect_garbage().await.unwrap().blobs, 1);
}

#[tokio::test]
async fn a_reader_goes_on_reading_what_was_collected() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(1, 1 << 20);
    let digest = put_blob(&store, "a", &bytes).await;
    let reader = store.blob(&repository("a"), &digest).unwrap().unwrap();
    assert_eq!(store.collect_garbage().await.unwrap().blobs, 1);
    assert_eq!(reader.read_all(u64::MAX).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_pushes_a_collection_never_takes_what_an_accepted_manifest_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let done = Arc::new(AtomicBool::new(false));
    let collector = {
        let (store, done) = (store.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut collected = 0;
            while !done.load(Ordering::Relaxed) {
                collected += store.collect_garbage().await.unwrap().blobs;
            }
            collected
        })
    };
    let pushers: Vec<_> = (0..4_u64)
        .map(|p| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut accepted = Vec::new();
                let mut refused = 0;
                for n in 0..40_u64 {
                    // Layers are shared among pushers, and each kept image is deleted half of the time.
                    let (config, layer) = (content(p * 1000 + n, 64), content(n % 5, 2000));
                    let name = format!("r{p}");
                    put_blob(&store, &name, &config).await;
                    put_blob(&store, &name, &layer).await;
                    let manifest = image(&config, &[&layer]);
                    match try_put(&store, &name, &manifest, &[]).await {
                        Ok(_) if n % 2 == 0 => accepted.push((name, Digest::sha256(&manifest))),
                        Ok(_) => {
                            store
                                .delete_manifest(&repository(&name), &Digest::sha256(&manifest))
                                .await
                                .unwrap();
                        }
                        Err(StoreError::MissingBlobs { .. }) => refused += 1,
                        Err(e) => panic!("{e}"),
                    }
                }
                (accepted, refused)
            })
        })
        .collect();
    let mut accepted = Vec::new();
    for pusher in pushers {
        accepted.extend(pusher.await.unwrap().0);
    }
    done.store(true, Ordering::Relaxed);
    assert!(collector.await.unwrap() > 0, "the collector had something to do");
    store.collect_garbage().await.unwrap();
    for (name, digest) in accepted {
        let whole = store.wholeness(&repository(&name), &digest).await.unwrap();
        assert!(whole.is_whole(), "{name} {digest}: {whole:?}");
    }
    assert!(store.scrub(Default::default()).await.unwrap().damaged.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_blob_that_is_there_can_always_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let done = Arc::new(AtomicBool::new(false));
    let collector = {
        let (store, done) = (store.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                store.collect_garbage().await.unwrap();
            }
        })
    };
    let config = content(1, 10);
    let digest = Digest::sha256(&config);
    for n in 0..60_u64 {
        put_blob(&store, "src", &config).await;
        let pin = store.pin([digest]);
        if store.has_blob_anywhere(&digest).unwrap() {
            let manifest = to_bytes(&serde_json::json!({
                "schemaVersion": 2, "mediaType": oci::media_type::OCI_MANIFEST,
                "config": descriptor(oci::media_type::OCI_CONFIG, &config), "layers": [],
                "annotations": {"n": n.to_string()},
            }));
            let name = repository("dst");
            let put = PutManifest {
                repository: name.clone(),
                digest: Digest::sha256(&manifest),
                media_type: None,
                bytes: manifest.clone(),
                tags: vec![],
                completeness: Completeness::HeldAnywhere,
            };
            store.put_manifest(put).await.unwrap();
            store.delete_manifest(&name, &Digest::sha256(&manifest)).await.unwrap();
        }
        drop(pin);
    }
    done.store(true, Ordering::Relaxed);
    collector.await.unwrap();
}
