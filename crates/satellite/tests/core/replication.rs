//! Replication into the local store, when nothing is wrong but time.

use oci::media_type;
use serde_json::json;

use crate::fleet::{Edge, Registry, entry};

#[tokio::test(flavor = "multi_thread")]
async fn what_two_groups_share_stays_until_both_let_it_go() {
    let registry = Registry::start().await;
    let shared = registry.image("library/nginx", Some("1"), "nginx").await;
    let own = registry.image("library/redis", Some("7"), "redis").await;
    registry
        .publish_group(
            "g1",
            json!([entry("library/nginx", &["1"], &shared), entry("library/redis", &["7"], &own)]),
        )
        .await;
    registry.publish_group("g2", json!([entry("library/nginx", &["1", "latest"], &shared)])).await;
    let state = registry.publish_satellite(&["g1", "g2"], None).await;
    let edge = Edge::registered(&registry).await;

    let status = edge.converged(2).await;
    assert_eq!(status.desired.state_digest, Some(state.to_string()));
    let nginx = status.images.iter().find(|image| image.repository == "library/nginx").unwrap();
    assert_eq!(nginx.groups, ["g1", "g2"]);
    assert_eq!(nginx.tags, ["1", "latest"]);
    assert!(nginx.size_bytes > 4096, "{nginx:?}");
    assert!(edge.is_whole("library/nginx", &shared.digest).await);
    assert_eq!(edge.tag_of("library/redis", "7"), Some(own.digest));

    registry.publish_satellite(&["g2"], None).await;
    let status = edge.converged(1).await;
    assert_eq!(status.images[0].groups, ["g2"]);
    assert!(!edge.has("library/redis", &own.digest), "what left the groups goes");
    assert_eq!(edge.tag_of("library/redis", "7"), None);
    assert!(edge.is_whole("library/nginx", &shared.digest).await);

    registry.publish_satellite(&[], None).await;
    edge.converged(0).await;
    assert!(!edge.has("library/nginx", &shared.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_version_is_served_until_the_new_one_is_whole() {
    let registry = Registry::start().await;
    let old = registry.image("library/app", Some("stable"), "old").await;
    registry.publish_group("g", json!([entry("library/app", &["stable"], &old)])).await;
    registry.publish_satellite(&["g"], None).await;
    let layer = satellite::config::Layer {
        state_replication_interval: Some("@every 1s".parse().unwrap()),
        ..satellite::config::Layer::default()
    };
    let edge = Edge::registered_with(&registry, layer).await;
    edge.converged(1).await;

    let new = registry.image("library/app", Some("stable"), "new").await;
    let beside = registry.image("library/beside", Some("1"), "beside").await;
    let last_layer = new.layers[1].to_string();
    registry.fault(|faults| faults.held.push(last_layer.clone()));
    registry
        .publish_group(
            "g",
            json!([entry("library/app", &["stable"], &new), entry("library/beside", &["1"], &beside)]),
        )
        .await;
    edge.replicate.notify_one();
    // The one that hangs holds up nobody, and its old version is served whole.
    edge.until("the other artifact", |_| edge.tag_of("library/beside", "1") == Some(beside.digest)).await;
    assert_eq!(edge.tag_of("library/app", "stable"), Some(old.digest));
    assert!(edge.is_whole("library/app", &old.digest).await);

    registry.fault(|faults| faults.held.clear());
    edge.converged(2).await;
    assert_eq!(edge.tag_of("library/app", "stable"), Some(new.digest));
    assert!(!edge.has("library/app", &old.digest), "the old version goes when its successor is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_arrives_with_children_and_referrers_and_goes_with_them() {
    let registry = Registry::start().await;
    let amd64 = registry.image("library/multi", None, "amd64").await;
    let arm64 = registry.image("library/multi", None, "arm64").await;
    let index = registry.index("library/multi", Some("1"), &[(&amd64, "amd64"), (&arm64, "arm64")]).await;
    let signature = registry.referrer("library/multi", &index, media_type::OCI_INDEX, "signature").await;
    let of_signature =
        registry.referrer("library/multi", &signature, media_type::OCI_MANIFEST, "of the signature").await;
    registry.publish_group("g", json!([entry("library/multi", &["1"], &index)])).await;
    registry.publish_group("other", json!([entry("library/multi", &[], &arm64)])).await;
    registry.publish_satellite(&["g", "other"], None).await;
    let edge = Edge::registered(&registry).await;
    edge.converged(2).await;
    for image in [&index, &amd64, &arm64, &signature, &of_signature] {
        assert!(edge.has("library/multi", &image.digest));
    }
    let kept = edge
        .store
        .manifest(&crate::fleet::repository("library/multi"), &index.digest.into())
        .unwrap()
        .unwrap();
    assert_eq!(kept.bytes, index.bytes, "bytes as they came");

    registry.publish_satellite(&["other"], None).await;
    edge.converged(1).await;
    for image in [&index, &amd64, &signature, &of_signature] {
        assert!(!edge.has("library/multi", &image.digest), "nobody wants {}", image.digest);
    }
    assert!(edge.is_whole("library/multi", &arm64.digest).await, "another group wants this child by digest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_without_a_digest_is_followed() {
    let registry = Registry::start().await;
    let first = registry.image("library/edge", Some("edge"), "first").await;
    let unpinned = json!([{"repository": "library/edge", "tag": "edge", "type": "image"}]);
    registry.publish_group("g", unpinned).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered(&registry).await;
    edge.converged(1).await;
    assert_eq!(edge.tag_of("library/edge", "edge"), Some(first.digest));

    let second = registry.image("library/edge", Some("edge"), "second").await;
    edge.turn().await;
    edge.converged(1).await;
    assert_eq!(edge.tag_of("library/edge", "edge"), Some(second.digest));
    assert!(!edge.has("library/edge", &first.digest));

    registry.fault(|faults| faults.missing.push("library/edge/manifests/edge".to_owned()));
    let status = edge.turn().await;
    assert_eq!(status.failed.len(), 1, "{:?}", status.failed);
    assert!(status.failed[0].reference.ends_with("library/edge:edge"), "{:?}", status.failed);
    assert_eq!(edge.tag_of("library/edge", "edge"), Some(second.digest), "it stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_that_has_not_changed() {
    let registry = Registry::start().await;
    let image = registry.image("library/nginx", Some("1"), "nginx").await;
    registry.publish_group("g", json!([entry("library/nginx", &["1"], &image)])).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered(&registry).await;
    edge.converged(1).await;
    edge.turn().await;
    registry.requests();
    edge.turn().await;
    let asked = registry.requests();
    assert!(!asked.is_empty());
    assert!(
        asked
            .iter()
            .all(|request| request.starts_with("HEAD ") && request.ends_with("/state/manifests/latest")),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_want_beats_deleted_and_deleted_alone_removes() {
    let registry = Registry::start().await;
    let image = registry.image("library/app", Some("1"), "app").await;
    let mut gone = entry("library/app", &["1"], &image);
    gone["deleted"] = json!(true);
    registry.publish_group("wants", json!([entry("library/app", &["1"], &image)])).await;
    registry.publish_group("deletes", json!([gone])).await;
    registry.publish_satellite(&["wants", "deletes"], None).await;
    let edge = Edge::registered(&registry).await;
    edge.converged(1).await;
    assert_eq!(edge.tag_of("library/app", "1"), Some(image.digest));

    registry.publish_group("wants", json!([])).await;
    edge.converged(0).await;
    assert!(!edge.has("library/app", &image.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_digests_for_one_tag_leave_it_where_it_is() {
    let registry = Registry::start().await;
    let one = registry.image("library/app", None, "one").await;
    let two = registry.image("library/app", None, "two").await;
    registry
        .publish_group("g1", json!([entry("library/app", &["1"], &one), entry("library/app", &["2"], &one)]))
        .await;
    registry.publish_group("g2", json!([entry("library/app", &["2"], &two)])).await;
    registry.publish_satellite(&["g1"], None).await;
    let edge = Edge::registered(&registry).await;
    edge.converged(1).await;

    registry
        .publish_group(
            "g1",
            json!([entry("library/app", &["1", "3"], &one), entry("library/app", &["2"], &one)]),
        )
        .await;
    registry.publish_group("g2", json!([entry("library/app", &["2", "3"], &two)])).await;
    registry.publish_satellite(&["g1", "g2"], None).await;
    let status = edge.converged(2).await;
    assert_eq!(edge.tag_of("library/app", "2"), Some(one.digest), "the present tag stays");
    assert_eq!(edge.tag_of("library/app", "3"), None, "and is not set where there was none");
    assert!(edge.is_whole("library/app", &two.digest).await, "both are kept by digest");
    let named: Vec<&str> = status.conflicts.iter().map(|conflict| conflict.reference.as_str()).collect();
    assert_eq!(named, ["library/app:2", "library/app:3"]);
    assert_eq!(status.conflicts[0].kept, Some(one.digest.to_string()));
    assert_eq!(status.conflicts[0].wanted[&two.digest.to_string()], ["g2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_comes_later_is_found() {
    let registry = Registry::start().await;
    let image = registry.image("library/app", Some("1"), "app").await;
    registry.publish_group("g", json!([entry("library/app", &["1"], &image)])).await;
    registry.publish_satellite(&["g"], None).await;
    let layer = satellite::config::Layer {
        referrer_interval: Some(std::time::Duration::from_millis(1)),
        ..satellite::config::Layer::default()
    };
    let edge = Edge::registered_with(&registry, layer).await;
    edge.converged(1).await;
    let signature = registry.referrer("library/app", &image, media_type::OCI_MANIFEST, "late").await;
    edge.turn().await;
    edge.converged(1).await;
    assert!(edge.has("library/app", &signature.digest));
}
