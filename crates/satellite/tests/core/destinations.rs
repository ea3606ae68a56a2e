//! Replication into a registry of the site's own.

use oci::media_type;
use satellite::config::Layer;
use serde_json::json;

use crate::fleet::{Edge, Registry, entry, repository};

fn into(site: &Registry, path: &str) -> Layer {
    Layer {
        byo_registry: Some(true),
        registry_url: Some(format!("{}{path}", site.url).parse().unwrap()),
        ..Layer::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_satellite_brought_is_removed() {
    let registry = Registry::start().await;
    let site = Registry::start().await;
    let theirs = site.image("library/app", Some("theirs"), "theirs").await;
    let old = registry.image("library/app", Some("1"), "old").await;
    registry.publish_group("g", json!([entry("library/app", &["1"], &old)])).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered_with(&registry, into(&site, "/")).await;
    edge.converged(1).await;
    assert_eq!(site.tag_of("library/app", "1"), Some(old.digest));
    assert!(!edge.has("library/app", &old.digest), "nothing of it is in the local store");

    let child = registry.image("library/app", None, "child").await;
    let new = registry.index("library/app", Some("1"), &[(&child, "amd64")]).await;
    let signature = registry.referrer("library/app", &new, media_type::OCI_INDEX, "signature").await;
    registry.publish_group("g", json!([entry("library/app", &["1"], &new)])).await;
    edge.replicate.notify_one();
    edge.until("the update", |_| site.tag_of("library/app", "1") == Some(new.digest)).await;
    edge.turn().await;
    edge.converged(1).await;
    let at_site =
        |digest| site.store.manifest(&repository("library/app"), &oci::Reference::Digest(digest)).unwrap();
    assert!(at_site(old.digest).is_none(), "the old version went when the new one was whole");
    assert!(at_site(child.digest).is_some() && at_site(signature.digest).is_some());
    assert!(at_site(theirs.digest).is_some());

    // The record survives a restart.
    registry.publish_satellite(&[], None).await;
    let edge = edge.restart(into(&site, "/")).await;
    edge.converged(0).await;
    for image in [&new, &child, &signature] {
        assert!(at_site(image.digest).is_none(), "{} was ours", image.digest);
    }
    assert_eq!(site.tag_of("library/app", "1"), None);
    assert_eq!(site.tag_of("library/app", "theirs"), Some(theirs.digest), "somebody else's stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_registry_is_filled_again_under_its_prefix() {
    let registry = Registry::start().await;
    let site = Registry::start().await;
    let image = registry.image("library/app", Some("1"), "app").await;
    registry.publish_group("g", json!([entry("library/app", &["1"], &image)])).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered_with(&registry, into(&site, "/mirror/central")).await;
    edge.converged(1).await;
    let place = repository("mirror/central/library/app");
    assert_eq!(site.tag_of(place.as_str(), "1"), Some(image.digest));

    assert!(site.store.delete_manifest(&place, &image.digest).await.unwrap());
    assert_eq!(site.tag_of(place.as_str(), "1"), None);
    edge.turn().await;
    edge.converged(1).await;
    assert_eq!(site.tag_of(place.as_str(), "1"), Some(image.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_removes_no_tags_loses_them_with_their_manifest() {
    let registry = Registry::start().await;
    let site = Registry::start().await;
    site.fault(|faults| faults.keeps_tags = true);
    let image = registry.image("library/app", Some("1"), "app").await;
    registry.publish_group("g", json!([entry("library/app", &["1", "latest"], &image)])).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered_with(&registry, into(&site, "")).await;
    edge.converged(1).await;

    // One tag of two goes: its manifest is needed, so this registry cannot do it, and that is said.
    registry.publish_group("g", json!([entry("library/app", &["1"], &image)])).await;
    edge.replicate.notify_one();
    let status = edge.until("the failure", |status| !status.failed.is_empty()).await;
    assert!(status.failed[0].reference.contains("library/app:latest"), "{:?}", status.failed);

    registry.publish_group("g", json!([])).await;
    edge.converged(0).await;
    assert_eq!(site.tag_of("library/app", "1"), None);
    assert_eq!(site.tag_of("library/app", "latest"), None);
}
