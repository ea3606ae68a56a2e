use std::time::Duration;

use bytes::Bytes;
use oci::{Digest, RepositoryName};
use rustix::io::Errno;

use crate::durable::fault::{Operation, inject};
use crate::{Options, Store, StoreError};

fn open(dir: &std::path::Path) -> Store {
    let options = Options { grace: Duration::ZERO, reserve: 0, ..Options::default() };
    Store::open(dir, options).unwrap()
}

async fn put(store: &Store, bytes: &'static [u8]) -> Result<Digest, StoreError> {
    let (name, digest): (RepositoryName, _) = ("r".parse().unwrap(), Digest::sha256(bytes));
    store.put_blob(&name, &digest, Bytes::from_static(bytes)).await.map(|()| digest)
}

#[tokio::test]
async fn a_full_disk_refuses_a_write_keeps_the_rest_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let before = put(&store, b"before").await.unwrap();
    for place in ["journal", "tmp", ""] {
        let _full = inject(&dir.path().join(place), Operation::Write, Errno::NOSPC);
        let refused = put(&store, b"during").await;
        assert!(refused.unwrap_err().is_no_space(), "at {place}");
        assert!(store.link_blob(&"other".parse().unwrap(), &before).await.is_err() || place == "tmp");
        assert!(!store.has_blob_anywhere(&Digest::sha256(b"during")).unwrap());
        assert!(store.has_blob_anywhere(&before).unwrap());
    }
    let during = put(&store, b"during").await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert!(store.has_blob_anywhere(&before).unwrap() && store.has_blob_anywhere(&during).unwrap());
}

#[tokio::test]
async fn what_is_held_for_a_full_disk_is_given_back_when_it_is_and_held_again_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ballast = dir.path().join("ballast");
    put(&store, b"before").await.unwrap();
    assert_eq!(std::fs::metadata(&ballast).unwrap().len(), 4 << 20);
    {
        let _full = inject(&dir.path().join("journal"), Operation::Write, Errno::NOSPC);
        put(&store, b"during").await.unwrap_err();
        assert!(!ballast.try_exists().unwrap());
    }
    assert_eq!(store.collect_garbage().await.unwrap().blobs, 2);
    assert!(ballast.try_exists().unwrap());
}

#[tokio::test]
async fn a_journal_that_cannot_be_set_right_makes_the_store_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let before = put(&store, b"before").await.unwrap();
    {
        let _broken = inject(&dir.path().join("journal"), Operation::Sync, Errno::IO);
        assert!(matches!(put(&store, b"during").await, Err(StoreError::Io { .. })));
    }
    assert!(matches!(put(&store, b"after").await, Err(StoreError::ReadOnly { .. })));
    assert!(store.has_blob_anywhere(&before).unwrap());
    drop(store);
    put(&open(dir.path()), b"after").await.unwrap();
}

#[tokio::test]
async fn an_upload_goes_on_after_space_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let upload = store.create_upload(&"r".parse().unwrap(), None).await.unwrap();
    let mut writer = upload.append(None).await.unwrap();
    writer.write(Bytes::from_static(b"first ")).await.unwrap();
    writer.close().await.unwrap();
    {
        let _full = inject(&dir.path().join("uploads"), Operation::Write, Errno::NOSPC);
        let mut writer = upload.append(Some(6)).await.unwrap();
        let refused = match writer.write(Bytes::from_static(b"second")).await {
            Ok(()) => writer.close().await.map(drop),
            refused => refused,
        };
        assert!(refused.unwrap_err().is_no_space());
    }
    assert_eq!(upload.offset(), 6);
    let mut writer = upload.append(Some(6)).await.unwrap();
    writer.write(Bytes::from_static(b"second")).await.unwrap();
    writer.close().await.unwrap();
    assert_eq!(upload.finish(&Digest::sha256(b"first second")).await.unwrap(), 12);
}

#[tokio::test]
async fn a_publication_that_was_not_written_down_is_found_by_the_next_try() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = Digest::sha256(b"content");
    let mut partial = store.partial(digest, 7).await.unwrap();
    partial.write(Bytes::from_static(b"content")).await.unwrap();
    {
        let _full = inject(&dir.path().join("journal"), Operation::Write, Errno::NOSPC);
        assert!(partial.finish(None).await.unwrap_err().is_no_space());
    }
    assert!(!store.has_blob_anywhere(&digest).unwrap());
    let partial = store.partial(digest, 7).await.unwrap();
    assert_eq!(partial.offset(), 7);
    partial.finish(None).await.unwrap();
    assert!(store.has_blob_anywhere(&digest).unwrap());
}

#[tokio::test]
async fn content_that_is_collected_and_published_again_in_one_batch_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = put(&store, b"content").await.unwrap();
    let again = store.inner.write_temporary(Bytes::from_static(b"content")).await.unwrap();
    let (path, aside) = (again.path().to_owned(), store.inner.shared.layout.temporary_file());
    store
        .inner
        .committer
        .commit(move |t| {
            t.forget(&digest, aside)?;
            t.publish(&path, &digest, 7)
        })
        .await
        .unwrap();
    assert!(store.has_blob_anywhere(&digest).unwrap());
    assert!(store.blob_anywhere(&digest).unwrap().is_some());
}
