//! Whole graphs: everything arrives as it was, once, and the tag last.

use std::sync::Arc;

use async_trait::async_trait;
use oci::{Digest, media_type};
use serde_json::json;
use transfer::{Admission, Cause, CopyRequest, Event, Outcome, Verdict};

use crate::content::{Content, bytes};
use crate::hostile::Reply;
use crate::upstream::{Site, Upstream};

const REPOSITORY: &str = "library/app";

/// An index of two platforms whose images share a layer.
fn two_platforms() -> (Content, Digest, [Digest; 2]) {
    let mut content = Content::default();
    let shared = bytes(1, 200_000);
    let amd64 = content.image(1, &[shared.clone(), bytes(2, 50_000)]);
    let arm64 = content.image(2, &[shared, bytes(3, 60_000)]);
    let index = content.index(&[(amd64, Some("linux/amd64")), (arm64, Some("linux/arm64"))]);
    content.tags.insert("1.0".to_owned(), index);
    (content, index, [amd64, arm64])
}

fn tagged(request: CopyRequest, tag: &str) -> CopyRequest {
    CopyRequest { tags: vec![tag.parse().unwrap()], ..request }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_arrives_as_it_was_and_is_not_asked_for_again() {
    let (content, index, _) = two_platforms();
    let (upstream, site) = (Upstream::new(content.clone()).await, Site::new());
    let request = tagged(upstream.request(REPOSITORY, index), "1.0");
    let outcome = site.engine.copy(&request).await.unwrap();
    site.assert_holds(REPOSITORY, &content).await;
    assert_eq!(site.tag(REPOSITORY, "1.0"), Some(index));
    assert_eq!(outcome.bytes_fetched, content.unique_bytes());
    assert_eq!((outcome.manifests_fetched, outcome.blobs_fetched, outcome.tags_moved), (3, 5, 1));
    // Three manifests and five blobs: the shared layer once.
    assert_eq!((outcome.requests, upstream.requests()), (8, 8));

    let again = site.engine.copy(&request).await.unwrap();
    assert!(again.was_whole && !again.changed(), "{again:?}");
    assert_eq!(again.requests, 0);
    let by_digest = upstream.request(REPOSITORY, index);
    assert_eq!(site.engine.copy(&by_digest).await.unwrap().requests, 0);
    assert_eq!(upstream.requests(), 8);
    // And after a restart.
    let site = site.restart().await;
    assert_eq!(site.engine.copy(&request).await.unwrap().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_repository_has_is_linked() {
    let (content, index, _) = two_platforms();
    let (upstream, site) = (Upstream::new(content.clone()).await, Site::new());
    site.engine.copy(&upstream.request(REPOSITORY, index)).await.unwrap();
    let before = upstream.requests();
    let outcome = site.engine.copy(&tagged(upstream.request("other/place", index), "2")).await.unwrap();
    assert_eq!((upstream.requests(), outcome.bytes_fetched), (before, 0));
    assert!(outcome.changed() && !outcome.was_whole);
    site.assert_holds("other/place", &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_brings_only_what_is_new() {
    let mut content = Content::default();
    let layers: Vec<_> = (0..7).map(|n| bytes(n, 30_000)).collect();
    let old = content.image(1, &layers);
    let upstream = Upstream::new(content).await;
    let site = Site::new();
    site.engine.copy(&tagged(upstream.request(REPOSITORY, old), "latest")).await.unwrap();

    let new_layer = bytes(100, 40_000);
    let mut new = old;
    upstream.change(|content| {
        let layers: Vec<_> = layers.iter().cloned().chain([new_layer.clone()]).collect();
        new = content.image(2, &layers);
    });
    let outcome = site.engine.copy(&tagged(upstream.request(REPOSITORY, new), "latest")).await.unwrap();
    assert_eq!((outcome.blobs_fetched, outcome.blobs_here), (2, 7));
    assert_eq!(outcome.requests, 3);
    assert_eq!(site.tag(REPOSITORY, "latest"), Some(new));
    assert!(site.has_manifest(REPOSITORY, &old), "the old version goes by the plan only");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tag_stays_until_the_new_graph_is_whole() {
    let mut content = Content::default();
    let old = content.image(1, &[bytes(1, 10_000)]);
    let good = bytes(2, 20_000);
    let broken = bytes(3, 30_000);
    let new = content.image(2, &[good.clone(), broken.clone()]);
    let broken_digest = Digest::sha256(&broken);
    let whole = content.clone();
    content.blobs.remove(&broken_digest);
    let (upstream, site) = (Upstream::new(content).await, Site::new());
    site.engine.copy(&tagged(upstream.request(REPOSITORY, old), "latest")).await.unwrap();

    let request = tagged(upstream.request(REPOSITORY, new), "latest");
    let error = site.engine.copy(&request).await.unwrap_err();
    assert!(error.is_not_found() && !error.is_retryable(), "{error}");
    assert_eq!(error.digest, Some(broken_digest));
    assert!(error.to_string().contains(REPOSITORY) && error.to_string().contains(&broken_digest.to_string()));
    assert_eq!(site.tag(REPOSITORY, "latest"), Some(old));
    assert!(!site.has_manifest(REPOSITORY, &new), "nothing half is visible");

    // The good part is here already.
    upstream.change(|content| *content = whole);
    let outcome = site.engine.copy(&request).await.unwrap();
    assert_eq!(outcome.blobs_fetched, 1);
    assert_eq!(upstream.asked(&Digest::sha256(&good)), [0]);
    assert_eq!(site.tag(REPOSITORY, "latest"), Some(new));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_platform_keeps_the_index() {
    let (mut content, _, [amd64, arm64]) = two_platforms();
    let attestation = content.image(9, &[bytes(9, 500)]);
    let index = content.index(&[
        (amd64, Some("linux/amd64")),
        (arm64, Some("linux/arm64")),
        (attestation, Some("unknown/unknown")),
    ]);
    let (upstream, site) = (Upstream::new(content).await, Site::new());
    let mut request = tagged(upstream.request(REPOSITORY, index), "1.0");
    request.platforms = "linux/arm64".parse().unwrap();
    let outcome = site.engine.copy(&request).await.unwrap();
    assert_eq!(outcome.children_skipped, 1);
    assert!(site.has_manifest(REPOSITORY, &arm64) && site.has_manifest(REPOSITORY, &attestation));
    assert!(!site.has_manifest(REPOSITORY, &amd64));
    assert_eq!(site.tag(REPOSITORY, "1.0"), Some(index));
    assert_eq!(
        site.engine.copy(&request).await.unwrap().requests,
        0,
        "a sparse index is whole by its filter"
    );

    // A wider filter brings the rest, and no more: the manifest, its config and its one layer that is new.
    request.platforms = oci::PlatformFilter::all();
    let outcome = site.engine.copy(&request).await.unwrap();
    assert_eq!((outcome.requests, outcome.manifests_fetched, outcome.blobs_fetched), (3, 1, 2));
    assert!(site.has_manifest(REPOSITORY, &amd64));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_layers_come_where_upstream_has_them() {
    for here in [true, false] {
        let mut content = Content::default();
        let config = content.blob(b"{\"os\":\"windows\"}".to_vec());
        let layer = content.blob(bytes(1, 5_000));
        let foreign = content.blob(bytes(2, 7_000));
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::DOCKER_MANIFEST,
            "config": content.descriptor(&config, media_type::DOCKER_CONFIG),
            "layers": [
                content.descriptor(&foreign, media_type::DOCKER_FOREIGN_LAYER),
                content.descriptor(&layer, media_type::DOCKER_LAYER_GZIP),
            ],
        });
        let image = content.manifest(media_type::DOCKER_MANIFEST, &document);
        if !here {
            content.blobs.remove(&foreign);
        }
        let (upstream, site) = (Upstream::new(content.clone()).await, Site::new());
        let outcome = site.engine.copy(&tagged(upstream.request(REPOSITORY, image), "w")).await.unwrap();
        assert_eq!(outcome.layers_skipped, u64::from(!here));
        assert_eq!(site.tag(REPOSITORY, "w"), Some(image));
        site.assert_holds(REPOSITORY, &content).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_upstream_lacks_is_named() {
    let (mut content, index, [_, arm64]) = two_platforms();
    content.manifests.remove(&arm64);
    let (upstream, site) = (Upstream::new(content).await, Site::new());
    let error = site.engine.copy(&tagged(upstream.request(REPOSITORY, index), "1.0")).await.unwrap_err();
    assert_eq!(error.digest, Some(arm64));
    assert!(error.is_not_found(), "{error}");
    assert_eq!(site.tag(REPOSITORY, "1.0"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_graphs() {
    let mut content = Content::default();
    // The same layer twice, an empty layer, no layer at all, nested indexes, an unknown kind of manifest.
    let layer = bytes(1, 1_000);
    let twice = content.image(1, &[layer.clone(), layer, Vec::new()]);
    let bare = content.image(2, &[]);
    let inner = content.index(&[(twice, Some("linux/amd64"))]);
    let unknown = content.manifest("application/vnd.example.thing+json", &json!({"anything": true}));
    let outer = content.index(&[(inner, None), (bare, None), (unknown, None)]);
    let (upstream, site) = (Upstream::new(content.clone()).await, Site::new());
    let request = tagged(upstream.request(REPOSITORY, outer), "odd");
    site.engine.copy(&request).await.unwrap();
    site.assert_holds(REPOSITORY, &content).await;
    assert_eq!(site.engine.copy(&request).await.unwrap().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn graphs_without_end_are_refused() {
    let mut content = Content::default();
    let mut top = content.image(0, &[]);
    for _ in 0..40 {
        top = content.index(&[(top, None)]);
    }
    let images: Vec<_> = (0..30).map(|n| (content.image(n, &[]), None)).collect();
    let wide = content.index(&images);
    let upstream = Upstream::new(content).await;
    let site = Site::with(|mut options| {
        options.max_manifests = 20;
        options
    });
    let error = site.engine.copy(&upstream.request(REPOSITORY, top)).await.unwrap_err();
    assert!(matches!(*error.cause, Cause::TooDeep(_)), "{error}");
    let error = site.engine.copy(&upstream.request(REPOSITORY, wide)).await.unwrap_err();
    assert!(matches!(*error.cause, Cause::TooLarge(20)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_lie_are_refused() {
    let mut content = Content::default();
    let image = content.image(1, &[]);
    let mut entry = content.entry(&image, None);
    entry["size"] = json!(5);
    let document = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [entry]});
    let index = content.manifest(media_type::OCI_INDEX, &document);
    let nonsense = content.manifest(media_type::OCI_MANIFEST, &json!(["no manifest"]));
    let (upstream, site) = (Upstream::new(content).await, Site::new());
    let error = site.engine.copy(&upstream.request(REPOSITORY, index)).await.unwrap_err();
    assert!(matches!(*error.cause, Cause::ManifestSize { expected: 5, .. }), "{error}");
    let error = site.engine.copy(&upstream.request(REPOSITORY, nonsense)).await.unwrap_err();
    assert!(matches!(*error.cause, Cause::Manifest(_)), "{error}");
}

struct Doorman;

#[async_trait]
impl Admission for Doorman {
    async fn admit(&self, request: &CopyRequest, outcome: &Outcome) -> Verdict {
        assert_eq!(outcome.manifests_fetched, 3);
        Verdict::Refuse(format!("{} is not signed", request.repository))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_admitted_gets_no_tag() {
    let (content, index, _) = two_platforms();
    let upstream = Upstream::new(content.clone()).await;
    let site = Site::with(|mut options| {
        options.admission = Arc::new(Doorman);
        options
    });
    let error = site.engine.copy(&tagged(upstream.request(REPOSITORY, index), "1.0")).await.unwrap_err();
    assert!(matches!(&*error.cause, Cause::Refused(why) if why.contains("not signed")), "{error}");
    assert_eq!(site.tag(REPOSITORY, "1.0"), None);
    site.assert_holds(REPOSITORY, &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_artifact_harms_only_itself_and_events_tell_the_story() {
    let mut content = Content::default();
    let good = content.image(1, &[bytes(1, 9_000_000)]);
    let bad_layer = bytes(2, 10_000);
    let bad = content.image(2, std::slice::from_ref(&bad_layer));
    let bad_digest = Digest::sha256(&bad_layer);
    let upstream =
        Upstream::with_fault(content, move |_, blob, _| (blob == bad_layer).then(|| Reply::status(403)))
            .await;
    let site = Site::new();
    let (a, b) = (tagged(upstream.request("a", good), "t"), tagged(upstream.request("b", bad), "t"));
    let (a, b) = tokio::join!(site.engine.copy(&a), site.engine.copy(&b));
    a.unwrap();
    assert!(b.unwrap_err().is_denied());
    assert_eq!((site.tag("a", "t"), site.tag("b", "t")), (Some(good), None));
    let events = site.events();
    let has = |what: &dyn Fn(&Event) -> bool| events.iter().any(what);
    assert!(has(&|e| matches!(e, Event::BlobProgress { position, size, .. } if position < size)));
    assert!(has(&|e| matches!(e, Event::BlobDone { fetched: 9_000_000, .. })));
    assert!(has(&|e| matches!(e, Event::ManifestStored { digest, .. } if *digest == good)));
    assert!(has(&|e| matches!(e, Event::TagMoved { digest, .. } if *digest == good)));
    assert!(has(&|e| matches!(e, Event::BlobFailed { digest, .. } if *digest == bad_digest)));
    assert!(has(&|e| matches!(e, Event::CopyFailed { digest, .. } if *digest == bad)));
}
