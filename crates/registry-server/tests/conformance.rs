//! The conformance checks over the router on a real listener: writable, and read-only over replicated content.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

#[path = "common/registry.rs"]
mod common;

use blob_store::{Completeness, PutManifest};
use bytes::Bytes;
use common::Registry;
use oci::{Digest, RepositoryName, media_type};
use registry_server::{AnonymousRead, Options};
use serde_json::json;
use testbed::conformance::{self, KnownContent, Mode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_holds_with_full_access() {
    let registry = Registry::writable().await;
    let report = conformance::run(&registry.url(), &[], Mode::ReadWrite).await.unwrap();
    let checks = report.into_result().unwrap_or_else(|table| panic!("{table}"));
    assert!(checks > 150, "only {checks} checks were run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_holds_read_only() {
    let registry = Registry::start(AnonymousRead, Options::default()).await;
    let known = fill(&registry.store).await;
    let report = conformance::run(&registry.url(), &[], Mode::ReadOnly(known)).await.unwrap();
    let checks = report.into_result().unwrap_or_else(|table| panic!("{table}"));
    assert!(checks > 20, "only {checks} checks were run");
}

/// An index of which one of two children is here, and an artifact that refers to it, as a replication leaves them.
async fn fill(store: &blob_store::Store) -> KnownContent {
    let repository: RepositoryName = "library/deep/er/app".parse().unwrap();
    let mut blobs = Vec::new();
    for content in [&b"{}"[..], &[7; 70_000], b"layer two"] {
        let digest = Digest::sha256(content);
        store.put_blob(&repository, &digest, Bytes::copy_from_slice(content)).await.unwrap();
        blobs.push(json!({"mediaType": "application/octet-stream", "digest": digest, "size": content.len()}));
    }
    let image = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": blobs[0],
        "layers": [blobs[1], blobs[2]]});
    let image = put(store, &repository, media_type::OCI_MANIFEST, &image, &[]).await;
    let absent =
        json!({"mediaType": media_type::OCI_MANIFEST, "digest": Digest::sha256(b"absent"), "size": 6});
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [image, absent]});
    let index = put(store, &repository, media_type::OCI_INDEX, &index, &["v1", "latest"]).await;
    let signature = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/vnd.example.signature+json", "config": blobs[0], "layers": [blobs[2]],
        "subject": index, "annotations": {"by": "someone"}});
    let signature = put(store, &repository, media_type::OCI_MANIFEST, &signature, &[]).await;
    let digest = |descriptor: &serde_json::Value| descriptor["digest"].as_str().unwrap().parse().unwrap();
    KnownContent {
        repository: repository.to_string(),
        tag: "v1".to_owned(),
        digest: digest(&index),
        referrers: vec![digest(&signature)],
    }
}

/// Keeps a manifest and returns its descriptor.
async fn put(
    store: &blob_store::Store,
    repository: &RepositoryName,
    media_type: &str,
    document: &serde_json::Value,
    tags: &[&str],
) -> serde_json::Value {
    let bytes = Bytes::from(document.to_string());
    let digest = Digest::sha256(&bytes);
    let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
    store
        .put_manifest(PutManifest {
            repository: repository.clone(),
            digest,
            media_type: Some(media_type.to_owned()),
            bytes,
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            completeness: Completeness::HeldAnywhere,
        })
        .await
        .unwrap();
    descriptor
}
