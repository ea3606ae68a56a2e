use blob_store::StoreError;
use futures_util::StreamExt;
use oci::Digest;

use crate::support::*;

#[tokio::test]
async fn a_blob_is_visible_only_where_it_was_pushed_or_mounted_or_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(1, 1000);
    let digest = put_blob(&store, "a", &bytes).await;
    assert_eq!(read_blob(&store, "a", &digest).await, Some(bytes.clone()));
    assert_eq!(read_blob(&store, "b", &digest).await, None);
    assert!(store.has_blob_anywhere(&digest).unwrap());
    store.link_blob(&repository("b"), &digest).await.unwrap();
    assert_eq!(read_blob(&store, "b", &digest).await, Some(bytes));
    assert_eq!(store.repositories_of_blob(&digest, 9).unwrap(), ["a", "b"].map(repository));
    assert_eq!(store.repositories_of_blob(&digest, 1).unwrap().len(), 1);
    assert!(store.unlink_blob(&repository("a"), &digest).await.unwrap());
    assert!(!store.unlink_blob(&repository("a"), &digest).await.unwrap());
    assert_eq!(read_blob(&store, "a", &digest).await, None);
    assert!(read_blob(&store, "b", &digest).await.is_some());
    let nothing = Digest::sha256(b"nothing");
    assert!(matches!(store.link_blob(&repository("a"), &nothing).await, Err(StoreError::UnknownBlob { .. })));
}

#[tokio::test]
async fn a_blob_that_a_manifest_names_cannot_be_deleted_there() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let manifest = push_image(&store, "a", 1, &[]).await;
    let layer = Digest::sha256(&content(1_000_001, 5000));
    store.link_blob(&repository("b"), &layer).await.unwrap();
    assert!(matches!(store.unlink_blob(&repository("a"), &layer).await, Err(StoreError::BlobInUse { .. })));
    assert!(read_blob(&store, "a", &layer).await.is_some());
    assert!(store.unlink_blob(&repository("b"), &layer).await.unwrap());
    store.delete_manifest(&repository("a"), &Digest::sha256(&manifest)).await.unwrap();
    assert!(store.unlink_blob(&repository("a"), &layer).await.unwrap());
    assert_eq!(read_blob(&store, "a", &layer).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_come_in_bounded_chunks_whether_cached_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(3, 3 << 20);
    let digest = put_blob(&store, "a", &bytes).await;
    for (begin, end) in
        [(0, 3 << 20), (1, 2), (100_000, 2_000_001), (5, 5), (3 << 20, 4 << 20), (7, u64::MAX)]
    {
        for drop_cache in [false, true] {
            if drop_cache {
                let file = std::fs::File::open(file_of(dir.path(), &digest)).unwrap();
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            }
            let reader = store.blob(&repository("a"), &digest).unwrap().unwrap();
            assert_eq!((reader.size(), reader.digest()), (3 << 20, digest));
            let mut stream = reader.stream(begin..end);
            let mut all = Vec::new();
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.unwrap();
                assert!(!chunk.is_empty() && chunk.len() <= 256 << 10);
                all.extend_from_slice(&chunk);
            }
            let (begin, end) = (begin as usize, (end as usize).min(3 << 20));
            assert_eq!(all, bytes[begin.min(end)..end]);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_read_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let digest = put_blob(&store, "a", &content(3, 600_000)).await;
    let reader = store.blob(&repository("a"), &digest).unwrap().unwrap();
    std::fs::File::options()
        .write(true)
        .open(file_of(dir.path(), &digest))
        .unwrap()
        .set_len(300_000)
        .unwrap();
    assert!(matches!(reader.read_all(u64::MAX).await, Err(StoreError::Io { .. })));
}

#[tokio::test]
async fn one_layer_of_many_images_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let layer = content(1, 100_000);
    for n in 0..10 {
        let name = format!("r{}", n % 5);
        let config = content(100 + n, 50);
        put_blob(&store, &name, &config).await;
        put_blob(&store, &name, &layer).await;
        put(&store, &name, &image(&config, &[&layer]), &[]).await;
    }
    let usage = store.usage().unwrap();
    assert_eq!((usage.contents, usage.manifests, usage.repositories), (21, 10, 5));
    assert!(usage.bytes < 110_000);
}

#[tokio::test]
async fn a_disk_as_full_as_its_reserve_refuses_content_and_goes_on_with_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = push_image(&open(dir.path()), "a", 1, &["t"]).await;
    let full = blob_store::Options { reserve: u64::MAX, ..options() };
    let store = blob_store::Store::open(dir.path(), full).unwrap();
    let name = repository("a");
    let bytes = content(5, 5000);
    let refused = store.put_blob(&name, &Digest::sha256(&bytes), bytes.clone()).await;
    assert!(refused.unwrap_err().is_no_space());
    assert!(store.create_upload(&name, None).await.unwrap_err().is_no_space());
    let mut partial = store.partial(Digest::sha256(&bytes), 5000).await.unwrap();
    let written = match partial.write(bytes.slice(..100)).await {
        Ok(()) => partial.checkpoint().await,
        refused => refused,
    };
    assert!(written.unwrap_err().is_no_space());
    assert_eq!(partial.offset(), 0);
    let other = image(&content(1, 100), &[]);
    assert!(try_put(&store, "a", &other, &[]).await.unwrap_err().is_no_space());
    // Metadata still goes: that is what the reserve is for.
    store.set_tag(&name, &tag("u"), &Digest::sha256(&manifest)).await.unwrap();
    assert!(store.manifest(&name, &oci::Reference::Tag(tag("u"))).unwrap().is_some());
}
