use blob_store::{Completeness, PutManifest, StoreError};
use oci::{Algorithm, Digest, Reference, media_type};
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte_by_tag_and_by_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let manifest = push_image(&store, "library/a/b", 1, &["latest", "v1"]).await;
    let digest = Digest::sha256(&manifest);
    let name = repository("library/a/b");
    for reference in [Reference::Tag(tag("latest")), Reference::Tag(tag("v1")), Reference::Digest(digest)] {
        for _ in 0..2 {
            let found = store.manifest(&name, &reference).unwrap().unwrap();
            assert_eq!((found.digest, &found.bytes), (digest, &manifest));
            assert_eq!(found.media_type, media_type::OCI_MANIFEST);
        }
    }
    assert_eq!(store.manifest(&repository("other"), &Reference::Digest(digest)).unwrap(), None);
    assert_eq!(store.manifest_anywhere(&digest).unwrap().unwrap().bytes, manifest);
}

#[tokio::test]
async fn blobs_have_to_be_visible_in_the_manifests_own_repository() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (config, layer) = (content(1, 10), content(2, 10));
    put_blob(&store, "a", &config).await;
    put_blob(&store, "b", &layer).await;
    let manifest = image(&config, &[&layer]);
    let Err(StoreError::MissingBlobs { missing, .. }) = try_put(&store, "a", &manifest, &["t"]).await else {
        panic!("a layer is missing")
    };
    assert_eq!(missing.0.iter().map(|d| d.digest).collect::<Vec<_>>(), [Digest::sha256(&layer)]);
    assert_eq!(store.resolve_tag(&repository("a"), &tag("t")).unwrap(), None);
    store.link_blob(&repository("a"), &Digest::sha256(&layer)).await.unwrap();
    assert!(try_put(&store, "a", &manifest, &["t"]).await.unwrap().created);
    assert!(!try_put(&store, "a", &manifest, &["t"]).await.unwrap().created);
}

#[tokio::test]
async fn what_was_fetched_by_digest_needs_to_be_held_anywhere_only_and_becomes_visible() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (config, layer) = (content(1, 10), content(2, 10));
    put_blob(&store, "elsewhere", &config).await;
    let manifest = image(&config, &[&layer]);
    let put = PutManifest {
        repository: repository("a"),
        digest: Digest::sha256(&manifest),
        media_type: Some(media_type::OCI_MANIFEST.into()),
        bytes: manifest.clone(),
        tags: vec![],
        completeness: Completeness::HeldAnywhere,
    };
    assert!(matches!(store.put_manifest(put.clone()).await, Err(StoreError::MissingBlobs { .. })));
    put_blob(&store, "third", &layer).await;
    assert!(read_blob(&store, "a", &Digest::sha256(&layer)).await.is_none());
    store.put_manifest(put).await.unwrap();
    assert_eq!(read_blob(&store, "a", &Digest::sha256(&layer)).await, Some(layer));
}

#[tokio::test]
async fn foreign_layers_and_children_of_an_index_may_be_absent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let config = content(1, 10);
    put_blob(&store, "a", &config).await;
    let foreign = to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_MANIFEST,
        "config": descriptor(media_type::DOCKER_CONFIG, &config),
        "layers": [descriptor(media_type::DOCKER_FOREIGN_LAYER, b"somewhere else")],
    }));
    put(&store, "a", &foreign, &[]).await;
    put(&store, "a", &index(&[b"not here", &foreign]), &["sparse"]).await;
}

#[tokio::test]
async fn any_media_type_and_both_algorithms_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bytes = content(7, 300);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let digest = Digest::of(algorithm, &bytes);
        let put = PutManifest {
            repository: repository("a"),
            digest,
            media_type: Some("application/vnd.example+thing".into()),
            bytes: bytes.clone(),
            tags: vec![],
            completeness: Completeness::VisibleHere,
        };
        store.put_manifest(put).await.unwrap();
        let found = store.manifest(&repository("a"), &Reference::Digest(digest)).unwrap().unwrap();
        assert_eq!((found.digest, found.bytes), (digest, bytes.clone()));
        assert_eq!(found.media_type, "application/vnd.example+thing");
    }
    let lie = PutManifest {
        repository: repository("a"),
        digest: Digest::sha256(b"other"),
        media_type: Some("x/y".into()),
        bytes,
        tags: vec![],
        completeness: Completeness::VisibleHere,
    };
    assert!(matches!(store.put_manifest(lie).await, Err(StoreError::DigestMismatch { .. })));
}

#[tokio::test]
async fn tags_and_repositories_are_sorted_and_paged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let name = repository("r");
    push_image(&store, "r", 1, &["b", "a", "B", "1.10", "1.9", "_"]).await;
    push_image(&store, "r/s", 1, &["other"]).await;
    push_image(&store, "q", 2, &[]).await;
    put_blob(&store, "only-a-blob", &content(9, 9)).await;
    let sorted = ["1.10", "1.9", "B", "_", "a", "b"].map(tag);
    let all = store.tags(&name, None, 100).unwrap();
    assert_eq!((all.items.as_slice(), all.more), (sorted.as_slice(), false));
    let first = store.tags(&name, None, 2).unwrap();
    assert_eq!((first.items.as_slice(), first.more), (&sorted[..2], true));
    let rest = store.tags(&name, Some("1.9"), 4).unwrap();
    assert_eq!((rest.items.as_slice(), rest.more), (&sorted[2..], false));
    assert_eq!(store.tags(&name, Some("1.95"), 1).unwrap().items, [tag("B")]);
    assert!(store.tags(&name, Some("b"), 9).unwrap().items.is_empty());
    assert!(store.tags(&name, None, 0).unwrap().more);

    let names = store.repositories(None, 10).unwrap();
    assert_eq!(names.items, ["q", "r", "r/s"].map(repository));
    let page = store.repositories(Some("q"), 1).unwrap();
    assert_eq!((page.items, page.more), (vec![repository("r")], true));
    assert!(store.has_repository(&repository("only-a-blob")).unwrap());
    assert!(!store.has_repository(&repository("nothing")).unwrap());
    let manifests = store.manifests(&name, None, 10).unwrap().items;
    assert_eq!((manifests.len(), manifests[0].tags.as_slice()), (1, sorted.as_slice()));
}

#[tokio::test]
async fn a_tag_moves_and_goes_and_deleting_a_manifest_takes_its_tags_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let name = repository("r");
    let one = Digest::sha256(&push_image(&store, "r", 1, &["t", "u", "keep"]).await);
    let two = Digest::sha256(&push_image(&store, "r", 2, &["t"]).await);
    assert_eq!(store.resolve_tag(&name, &tag("t")).unwrap(), Some(two));
    store.set_tag(&name, &tag("keep"), &two).await.unwrap();
    assert!(matches!(
        store.set_tag(&name, &tag("x"), &Digest::sha256(b"no")).await,
        Err(StoreError::UnknownManifest { .. })
    ));
    assert!(store.delete_manifest(&name, &one).await.unwrap());
    assert!(!store.delete_manifest(&name, &one).await.unwrap());
    assert_eq!(store.manifest(&name, &Reference::Digest(one)).unwrap(), None);
    assert_eq!(store.tags(&name, None, 9).unwrap().items, ["keep", "t"].map(tag));
    assert!(store.delete_tag(&name, &tag("t")).await.unwrap());
    assert!(!store.delete_tag(&name, &tag("t")).await.unwrap());
    assert!(store.manifest(&name, &Reference::Digest(two)).unwrap().is_some());
    let usage = store.usage().unwrap();
    assert_eq!((usage.manifests, usage.tags, usage.repositories), (1, 1, 1));
}

#[tokio::test]
async fn referrers_are_listed_with_and_without_their_subject() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let name = repository("r");
    let subject = image(&content(1, 10), &[]);
    let config = content(3, 2);
    put_blob(&store, "r", &config).await;
    let by_config = to_bytes(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor("application/vnd.example.sbom", &config), "layers": [],
        "subject": descriptor(media_type::OCI_MANIFEST, &subject),
        "annotations": {"k": "v"},
    }));
    let by_type = to_bytes(&json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
        "artifactType": "application/vnd.example.sig",
        "subject": descriptor(media_type::OCI_MANIFEST, &subject),
    }));
    let outcome = try_put(&store, "r", &by_config, &[]).await.unwrap();
    assert_eq!(outcome.subject, Some(Digest::sha256(&subject)));
    put(&store, "r", &by_type, &[]).await;
    let mut found = store.referrers(&name, &Digest::sha256(&subject)).unwrap();
    found.sort_by_key(|d| d.artifact_type.clone());
    let types: Vec<_> = found.iter().map(|d| d.artifact_type.as_deref().unwrap()).collect();
    assert_eq!(types, ["application/vnd.example.sbom", "application/vnd.example.sig"]);
    assert_eq!(found[0].annotations.as_ref().unwrap()["k"], "v");
    assert_eq!((found[0].size, found[1].annotations.is_none()), (by_config.len() as u64, true));
    assert!(store.referrers(&repository("other"), &Digest::sha256(&subject)).unwrap().is_empty());
    store.delete_manifest(&name, &Digest::sha256(&by_type)).await.unwrap();
    assert_eq!(store.referrers(&name, &Digest::sha256(&subject)).unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_is_opened_once_whoever_has_it_lets_go() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    assert!(blob_store::export::is_open(dir.path()).unwrap());
    let path = dir.path().to_owned();
    let (begins, begun) = std::sync::mpsc::channel();
    let second = std::thread::spawn(move || {
        begins.send(()).unwrap();
        open(&path)
    });
    begun.recv().unwrap();
    drop(first);
    drop(second.join().unwrap());
    assert!(!blob_store::export::is_open(dir.path()).unwrap());
}

#[tokio::test]
async fn everything_is_there_after_the_store_was_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = {
        let store = open(dir.path());
        assert!(matches!(blob_store::Store::open(dir.path(), options()), Err(StoreError::Locked { .. })));
        push_image(&store, "r", 1, &["t"]).await
    };
    let store = open(dir.path());
    assert_eq!(store.replayed(), 0, "a clean end leaves nothing to replay");
    let found = store.manifest(&repository("r"), &Reference::Tag(tag("t"))).unwrap().unwrap();
    assert_eq!(found.bytes, manifest);
    assert_eq!(store.usage().unwrap().contents, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_commits_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let base = push_image(&store, "r", 1, &[]).await;
    let digest = Digest::sha256(&base);
    let writers: Vec<_> = (0..500)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(
                async move { store.set_tag(&repository("r"), &tag(&format!("t{n}")), &digest).await },
            )
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    drop(store);
    assert_eq!(open(dir.path()).tags(&repository("r"), None, 1000).unwrap().items.len(), 500);
}
