use std::time::Duration;

use blob_store::{Options, Partial, Store, StoreError};
use oci::{Algorithm, Digest};

use crate::support::*;

const SIZE: usize = 2_000_000;

async fn write_until(partial: &mut Partial, bytes: &bytes::Bytes, end: usize) {
    let mut at = usize::try_from(partial.offset()).unwrap();
    while at < end {
        let next = (at + 60_000).min(end);
        partial.write(bytes.slice(at..next)).await.unwrap();
        at = next;
    }
}

fn booted(dir: &std::path::Path, boot: &str) -> Store {
    Store::open(dir, Options { boot_id: Some(boot.into()), ..options() }).unwrap()
}

#[tokio::test]
async fn a_download_continues_in_the_same_boot_and_is_published_when_whole() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    for (algorithm, name) in [(Algorithm::Sha256, "a"), (Algorithm::Sha512, "b")] {
        let digest = Digest::of(algorithm, &bytes);
        {
            let store = booted(dir.path(), "one");
            let mut partial = store.partial(digest, SIZE as u64).await.unwrap();
            assert_eq!(partial.offset(), 0);
            assert!(matches!(
                store.partial(digest, SIZE as u64).await,
                Err(StoreError::PartialBusy { digest: busy }) if busy == digest
            ));
            write_until(&mut partial, &bytes, 1_234_567).await;
            partial.checkpoint().await.unwrap();
            let short = partial.finish(None).await;
            assert!(matches!(short, Err(StoreError::SizeMismatch { actual: 1_234_567, .. })));
            assert!(!store.has_blob_anywhere(&digest).unwrap());
        }
        let store = booted(dir.path(), "one");
        let mut partial = store.partial(digest, SIZE as u64).await.unwrap();
        assert_eq!(partial.offset(), 1_234_567);
        write_until(&mut partial, &bytes, SIZE).await;
        assert!(matches!(partial.write(bytes.slice(..1)).await, Err(StoreError::SizeMismatch { .. })));
        partial.finish(Some(&repository(name))).await.unwrap();
        assert_eq!(read_blob(&store, name, &digest).await, Some(bytes.clone()));
        assert_eq!(read_blob(&store, "other", &digest).await, None);
        assert_eq!(std::fs::read_dir(dir.path().join("partials")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn after_another_boot_only_what_was_synced_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, SIZE);
    let digest = Digest::sha256(&bytes);
    {
        let store = booted(dir.path(), "one");
        let mut partial = store.partial(digest, SIZE as u64).await.unwrap();
        write_until(&mut partial, &bytes, 500_000).await;
        partial.checkpoint().await.unwrap();
        // In the file, but not synced: dropping waits for nothing, finishing early would sync.
        write_until(&mut partial, &bytes, 900_000).await;
    }
    // Whatever a power cut makes of bytes that were not synced.
    let path = dir.path().join(format!("partials/sha256-{}", digest.hex()));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 400_000], 500_000).unwrap();
    let store = booted(dir.path(), "two");
    let mut partial = store.partial(digest, SIZE as u64).await.unwrap();
    assert_eq!(partial.offset(), 500_000);
    write_until(&mut partial, &bytes, SIZE).await;
    partial.finish(None).await.unwrap();
    assert!(store.has_blob_anywhere(&digest).unwrap());
}

#[tokio::test]
async fn wrong_bytes_are_discarded_and_the_next_try_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(1, 10_000);
    let digest = Digest::sha256(&bytes);
    let mut partial = store.partial(digest, 10_000).await.unwrap();
    partial.write(content(2, 10_000)).await.unwrap();
    assert!(matches!(partial.finish(None).await, Err(StoreError::DigestMismatch { .. })));
    assert!(!store.has_blob_anywhere(&digest).unwrap());
    let mut partial = store.partial(digest, 10_000).await.unwrap();
    assert_eq!(partial.offset(), 0);
    partial.write(bytes).await.unwrap();
    partial.finish(None).await.unwrap();
    assert!(store.has_blob_anywhere(&digest).unwrap());
}

#[tokio::test]
async fn another_size_for_the_same_digest_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = Digest::sha256(b"x");
    let mut partial = store.partial(digest, 100).await.unwrap();
    partial.write(content(1, 50)).await.unwrap();
    partial.checkpoint().await.unwrap();
    drop(partial);
    assert_eq!(store.partial(digest, 60).await.unwrap().offset(), 0);
}

#[tokio::test]
async fn what_is_held_needs_no_byte_and_is_linked_where_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(1, 1000);
    let digest = put_blob(&store, "a", &bytes).await;
    let partial = store.partial(digest, 1000).await.unwrap();
    assert_eq!(partial.offset(), 1000);
    partial.finish(Some(&repository("b"))).await.unwrap();
    assert_eq!(read_blob(&store, "b", &digest).await, Some(bytes));
}

#[tokio::test]
async fn a_file_published_but_not_written_down_is_taken_as_it_is_after_a_check() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(1, 5000);
    let digest = Digest::sha256(&bytes);
    let store = open(dir.path());
    for (planted, right) in [(content(2, 5000), false), (bytes.clone(), true)] {
        let path = file_of(dir.path(), &digest);
        blob_store::durable::create_dir_all(path.parent().unwrap()).unwrap();
        blob_store::durable::write_file(&path, &planted, 0o600).unwrap();
        let partial = store.partial(digest, 5000).await.unwrap();
        assert_eq!(partial.offset(), 5000, "no byte of it is asked for again");
        assert_eq!(partial.finish(Some(&repository("a"))).await.is_ok(), right);
        assert_eq!(store.has_blob_anywhere(&digest).unwrap(), right);
    }
    assert_eq!(read_blob(&store, "a", &digest).await, Some(bytes));
}

#[tokio::test]
async fn forgotten_partials_expire_and_running_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options { partial_idle: Duration::ZERO, ..options() }).unwrap();
    let (forgotten, running) = (Digest::sha256(b"f"), Digest::sha256(b"r"));
    drop(store.partial(forgotten, 10).await.unwrap());
    let partial = store.partial(running, 10).await.unwrap();
    assert_eq!(store.collect_garbage().await.unwrap().partials, 1);
    let names: Vec<_> = std::fs::read_dir(dir.path().join("partials"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 2);
    assert!(names.iter().all(|n| n.contains(&running.hex())));
    drop(partial);
}
