use std::time::Duration;

use blob_store::{Options, Store, StoreError};
use oci::{Algorithm, Digest};

use crate::support::*;

#[tokio::test]
async fn a_push_in_chunks_continues_exactly_where_it_stands_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let name = repository("a");
    let bytes = content(1, 300_000);
    let id = {
        let store = open(dir.path());
        let upload = store.create_upload(&name, None).await.unwrap();
        let mut writer = upload.append(Some(0)).await.unwrap();
        writer.write(bytes.slice(..100_000)).await.unwrap();
        assert!(matches!(upload.append(None).await, Err(StoreError::UploadBusy)));
        assert!(matches!(upload.finish(&Digest::sha256(&bytes)).await, Err(StoreError::UploadBusy)));
        assert_eq!(writer.close().await.unwrap(), 100_000);
        assert!(matches!(
            upload.append(Some(99_999)).await,
            Err(StoreError::UploadOffset { offset: 100_000 })
        ));
        upload.id()
    };
    let store = open(dir.path());
    assert!(matches!(store.upload(&repository("b"), id).await, Err(StoreError::UnknownUpload)));
    let upload = store.upload(&name, id.to_string().parse().unwrap()).await.unwrap();
    assert_eq!(upload.offset(), 100_000);
    let mut writer = upload.append(Some(100_000)).await.unwrap();
    for chunk in bytes.slice(100_000..).chunks(7001) {
        writer.write(chunk.to_vec().into()).await.unwrap();
    }
    assert_eq!(writer.close().await.unwrap(), 300_000);
    let digest = Digest::sha256(&bytes);
    assert_eq!(read_blob(&store, "a", &digest).await, None, "nothing is visible before it is whole");
    assert_eq!(upload.finish(&digest).await.unwrap(), 300_000);
    assert_eq!(read_blob(&store, "a", &digest).await, Some(bytes));
    assert!(matches!(store.upload(&name, id).await, Err(StoreError::UnknownUpload)));
    assert!(matches!(upload.append(None).await, Err(StoreError::UnknownUpload)));
    assert_eq!(std::fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
}

#[tokio::test]
async fn either_algorithm_may_come_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let name = repository("a");
    let bytes = content(1, 100_000);
    for assumed in [None, Some(Algorithm::Sha256), Some(Algorithm::Sha512)] {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let upload = store.create_upload(&name, assumed).await.unwrap();
            let mut writer = upload.append(None).await.unwrap();
            writer.write(bytes.clone()).await.unwrap();
            writer.close().await.unwrap();
            let digest = Digest::of(algorithm, &bytes);
            upload.finish(&digest).await.unwrap();
            assert_eq!(read_blob(&store, "a", &digest).await, Some(bytes.clone()));
        }
    }
}

#[tokio::test]
async fn a_wrong_digest_leaves_nothing_and_a_cancelled_upload_neither() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let name = repository("a");
    let wrong = Digest::sha256(b"other");
    for cancel in [false, true] {
        let upload = store.create_upload(&name, None).await.unwrap();
        let mut writer = upload.append(None).await.unwrap();
        writer.write(content(1, 10)).await.unwrap();
        writer.close().await.unwrap();
        if cancel {
            upload.cancel().await.unwrap();
        } else {
            let result = upload.finish(&wrong).await;
            assert!(matches!(result, Err(StoreError::DigestMismatch { expected, .. }) if *expected == wrong));
        }
        assert!(matches!(store.upload(&name, upload.id()).await, Err(StoreError::UnknownUpload)));
    }
    assert!(!store.has_blob_anywhere(&wrong).unwrap());
    assert!(!store.has_blob_anywhere(&Digest::sha256(&content(1, 10))).unwrap());
    assert_eq!(std::fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_what_it_had_sent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let name = repository("a");
    let bytes = content(1, 2 << 20);
    let upload = store.create_upload(&name, None).await.unwrap();
    let mut writer = upload.append(None).await.unwrap();
    for chunk in bytes.chunks(64 << 10).take(20) {
        writer.write(chunk.to_vec().into()).await.unwrap();
    }
    drop(writer);
    let writer = loop {
        match upload.append(None).await {
            Ok(writer) => break writer,
            Err(StoreError::UploadBusy) => tokio::task::yield_now().await,
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(upload.offset(), 20 * (64 << 10));
    let mut writer = writer;
    writer.write(bytes.slice(20 * (64 << 10)..)).await.unwrap();
    writer.close().await.unwrap();
    upload.finish(&Digest::sha256(&bytes)).await.unwrap();
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let upload = store.create_upload(&repository("a"), None).await.unwrap();
    let digest = Digest::sha256(b"");
    assert_eq!(upload.finish(&digest).await.unwrap(), 0);
    assert_eq!(read_blob(&store, "a", &digest).await.unwrap().len(), 0);
}

#[tokio::test]
async fn idle_uploads_expire_and_busy_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let expiring = Options { upload_idle: Duration::ZERO, ..options() };
    let name = repository("a");
    let old = {
        let store = Store::open(dir.path(), expiring.clone()).unwrap();
        store.create_upload(&name, None).await.unwrap().id()
    };
    let store = Store::open(dir.path(), expiring).unwrap();
    let idle = store.create_upload(&name, None).await.unwrap();
    let busy = store.create_upload(&name, None).await.unwrap();
    let writer = busy.append(None).await.unwrap();
    assert_eq!(store.collect_garbage().await.unwrap().uploads, 2);
    for id in [old, idle.id()] {
        assert!(matches!(store.upload(&name, id).await, Err(StoreError::UnknownUpload)));
    }
    writer.close().await.unwrap();
    assert!(store.upload(&name, busy.id()).await.is_ok());
    assert!(matches!("../../etc".parse::<blob_store::UploadId>(), Err(StoreError::UnknownUpload)));
}
