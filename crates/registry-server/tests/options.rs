//! What a program decides about its registry shows in the answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

#[path = "common/registry.rs"]
mod common;

use common::Registry;
use oci::media_type::OCI_INDEX;
use registry_server::{FullAccess, Options};
use reqwest::Client;
use serde_json::Value;

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

const INDEX: &str =
    r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

async fn put(registry: &Registry, reference: &str, document: &str) -> reqwest::Response {
    client()
        .put(format!("{}/v2/a/manifests/{reference}", registry.url()))
        .header("content-type", OCI_INDEX)
        .body(document.to_owned())
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_shortest_chunk_is_told() {
    let options = Options { chunk_min_length: Some(4096), ..Options::default() };
    let registry = Registry::start(FullAccess, options).await;
    let answer =
        client().post(format!("{}/v2/a/blobs/uploads/", registry.url())).body("").send().await.unwrap();
    assert_eq!(answer.headers()["oci-chunk-min-length"], "4096");
    let plain = Registry::writable().await;
    let answer = client().post(format!("{}/v2/a/blobs/uploads/", plain.url())).body("").send().await.unwrap();
    assert!(!answer.headers().contains_key("oci-chunk-min-length"));
}

#[tokio::test]
async fn the_largest_manifest_is_bounded() {
    let options = Options { manifest_limit: INDEX.len(), ..Options::default() };
    let registry = Registry::start(FullAccess, options).await;
    assert_eq!(put(&registry, "fits", INDEX).await.status(), 201);
    assert_eq!(put(&registry, "too-long", &format!("{INDEX} ")).await.status(), 413);
}

#[tokio::test]
async fn a_page_ends_where_the_server_says() {
    let options = Options { page_limit: 3, ..Options::default() };
    let registry = Registry::start(FullAccess, options).await;
    for number in 0..7 {
        assert_eq!(put(&registry, &format!("t{number}"), INDEX).await.status(), 201);
    }
    for query in ["", "?n=100"] {
        let mut next = Some(format!("/v2/a/tags/list{query}"));
        let mut seen = Vec::new();
        while let Some(path) = next {
            let answer = client().get(format!("{}{path}", registry.url())).send().await.unwrap();
            next = answer.headers().get("link").map(|link| {
                let link = link.to_str().unwrap();
                link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned()
            });
            let list: Value = answer.json().await.unwrap();
            let tags = list["tags"].as_array().unwrap();
            assert!(tags.len() <= 3);
            seen.extend(tags.iter().map(|tag| tag.as_str().unwrap().to_owned()));
        }
        assert_eq!(seen, ["t0", "t1", "t2", "t3", "t4", "t5", "t6"], "{query}");
    }
}

/// Referrers with annotations as large as they may be are still told in pages that a client takes as a manifest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_referrers_is_no_larger_than_a_manifest() {
    let registry = Registry::writable().await;
    let subject = oci::Digest::sha256(b"subject");
    for number in 0..4 {
        let document = serde_json::json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [],
            "subject": {"mediaType": OCI_INDEX, "digest": subject, "size": 7},
            "annotations": {"number": number.to_string(), "padding": "x".repeat(1_500_000)}});
        assert_eq!(put(&registry, &format!("r{number}"), &document.to_string()).await.status(), 201);
    }
    let mut next = Some(format!("/v2/a/referrers/{subject}"));
    let mut seen = 0;
    while let Some(path) = next {
        let answer = client().get(format!("{}{path}", registry.url())).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], OCI_INDEX);
        next = answer.headers().get("link").map(|link| {
            let link = link.to_str().unwrap();
            link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned()
        });
        let body = answer.bytes().await.unwrap();
        assert!(body.len() <= 4 << 20, "{} bytes", body.len());
        let index: Value = serde_json::from_slice(&body).unwrap();
        seen += index["manifests"].as_array().unwrap().len();
    }
    assert_eq!(seen, 4);
}
