//! Replication when something is wrong.

use satellite::config::Layer;
use serde_json::json;

use crate::fleet::{Edge, Registry, entry, repository};

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_artifact_harms_only_itself() {
    let registry = Registry::start().await;
    let good = registry.image("library/good", Some("1"), "good").await;
    let bad = registry.image("library/bad", Some("1"), "bad").await;
    let lost = bad.layers[1].to_string();
    registry.fault(|faults| faults.missing.push(lost.clone()));
    let nonsense = json!({"repository": "library/nonsense", "tag": ["1"], "digest": "sha256:short"});
    let list = json!([entry("library/bad", &["1"], &bad), nonsense, entry("library/good", &["1"], &good)]);
    registry.publish_group("g", list).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered(&registry).await;
    let status =
        edge.until("good and bad", |status| status.images.len() == 1 && status.failed.len() == 2).await;
    assert_eq!(edge.tag_of("library/good", "1"), Some(good.digest));
    assert_eq!(edge.tag_of("library/bad", "1"), None, "nothing half is visible");
    let failure = status.failed.iter().find(|failure| failure.reference.ends_with("library/bad:1")).unwrap();
    assert!(failure.reason.contains(&lost), "{failure:?}");
    assert!(failure.since.is_some() && failure.next_try.is_some() && failure.attempts >= 1, "{failure:?}");
    let failure = status.failed.iter().find(|failure| failure.reference == "library/nonsense:1").unwrap();
    assert!(failure.reason.contains("group g"), "{failure:?}");

    // What was wrong is put right: the failed one comes at once, since its group has another document.
    registry.fault(|faults| faults.missing.clear());
    let list = json!([entry("library/bad", &["1"], &bad), entry("library/good", &["1"], &good)]);
    registry.publish_group("g", list).await;
    edge.converged(2).await;
    assert_eq!(edge.tag_of("library/bad", "1"), Some(bad.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_arrived_of_a_failing_index_stays_and_is_not_asked_for_again() {
    let registry = Registry::start().await;
    let good = registry.image("library/multi", None, "good").await;
    let bad = registry.image("library/multi", None, "bad").await;
    let index = registry.index("library/multi", Some("1"), &[(&good, "amd64"), (&bad, "arm64")]).await;
    let old = registry.image("library/multi", Some("0"), "old").await;
    let lost = bad.layers[1].to_string();
    registry.fault(|faults| faults.missing.push(lost.clone()));
    let both = json!([entry("library/multi", &["1"], &index), entry("library/multi", &["0"], &old)]);
    registry.publish_group("g", both).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered(&registry).await;
    edge.until("half of it", |status| status.failed.len() == 1 && status.images.len() == 1).await;
    registry.publish_group("g", json!([entry("library/multi", &["1"], &index)])).await;
    let status = edge.turn().await;
    assert_eq!(status.failed.len(), 1);
    assert!(!edge.has("library/multi", &old.digest), "what nobody wants goes beside it");
    assert!(edge.has("library/multi", &good.digest), "half of the index stays for its other half");

    registry.fault(|faults| faults.missing.clear());
    registry.requests();
    let list = json!([entry("library/multi", &["1"], &index), entry("library/multi", &["2"], &index)]);
    registry.publish_group("g", list).await;
    edge.converged(1).await;
    assert_eq!(edge.tag_of("library/multi", "1"), Some(index.digest));
    let asked = registry.requests();
    let again = |digest: &oci::Digest| {
        let content = |request: &str| request.starts_with("GET ") && !request.contains("/referrers/");
        let wanted = |request: &&String| content(request) && request.ends_with(&digest.to_string());
        asked.iter().filter(wanted).count()
    };
    assert_eq!((again(&good.digest), again(&good.layers[1]), again(&bad.layers[1])), (0, 0, 1), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_or_damaged_store_is_filled_again() {
    let registry = Registry::start().await;
    let image = registry.image("library/app", Some("1"), "app").await;
    let child = registry.image("library/multi", None, "child").await;
    let index = registry.index("library/multi", Some("1"), &[(&child, "amd64")]).await;
    let list = json!([entry("library/app", &["1"], &image), entry("library/multi", &["1"], &index)]);
    registry.publish_group("g", list).await;
    registry.publish_satellite(&["g"], None).await;
    let mut edge = Edge::registered(&registry).await;
    edge.converged(2).await;

    // A layer's file disappears under the running store.
    let hex = image.layers[1].hex();
    let root = edge.store.root().to_owned();
    let file = walk(&root).into_iter().find(|file| file.ends_with(&hex)).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(!edge.is_whole("library/app", &image.digest).await);
    edge.turn().await;
    edge.converged(2).await;
    assert!(edge.is_whole("library/app", &image.digest).await);

    // The whole directory is gone after a restart; what is known of the desired state is not.
    let dir = edge.stop().await;
    std::fs::remove_dir_all(dir.path().join("registry")).unwrap();
    let edge = Edge::open(dir, Layer::default()).start();
    edge.converged(2).await;
    assert!(edge.is_whole("library/app", &image.digest).await);
    assert!(edge.is_whole("library/multi", &index.digest).await);
    assert_eq!(edge.tag_of("library/multi", "1"), Some(index.digest));
}

fn walk(root: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut queue = vec![root.to_owned()];
    while let Some(directory) = queue.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { queue.push(path) } else { files.push(path) }
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_registry_gone_what_is_held_stays_and_is_known_after_a_restart() {
    let registry = Registry::start().await;
    let image = registry.image("library/app", Some("1"), "app").await;
    registry.publish_group("g", json!([entry("library/app", &["1"], &image)])).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered(&registry).await;
    let before = edge.converged(1).await;

    let state_url = registry.state_url();
    drop(registry);
    let edge = edge.restart(Layer::default()).await;
    let status = edge
        .until("a failed read", |status| status.desired.error.is_some() && !status.images.is_empty())
        .await;
    assert!(!status.desired.whole);
    assert_eq!(status.images, before.images);
    assert_eq!(status.desired.state_digest, before.desired.state_digest);
    assert_eq!(status.desired.groups[0].name, "g");
    assert!(status.desired.error.unwrap().contains(&state_url));
    assert!(edge.is_whole("library/app", &image.digest).await);
    assert_eq!(edge.tag_of("library/app", "1"), Some(image.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_passes_by_itself() {
    let registry = Registry::start().await;
    let image = registry.image("library/app", Some("1"), "app").await;
    registry.publish_group("g", json!([entry("library/app", &["1"], &image)])).await;
    registry.publish_satellite(&["g"], None).await;
    registry.fault(|faults| faults.down = true);
    let edge = Edge::registered(&registry).await;
    let status = edge.until("a failed run", |status| {
        status
            .schedulers
            .get("replication")
            .is_some_and(|entry| entry.last_error.is_some() && entry.next_run.is_some())
    });
    let status = status.await;
    assert!(status.schedulers["replication"].failures_in_a_row >= 1);
    registry.fault(|faults| faults.down = false);
    edge.converged(1).await;
    assert_eq!(edge.board.snapshot().schedulers["replication"].last_error, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_group_document_harms_no_other_and_removes_nothing() {
    let registry = Registry::start().await;
    let first = registry.image("library/first", Some("1"), "first").await;
    let second = registry.image("library/second", Some("1"), "second").await;
    let third = registry.image("library/third", Some("1"), "third").await;
    registry.publish_group("g1", json!([entry("library/first", &["1"], &first)])).await;
    registry.publish_group("g2", json!([entry("library/second", &["1"], &second)])).await;
    registry.publish_satellite(&["g1", "g2"], None).await;
    let edge = Edge::registered(&registry).await;
    edge.converged(2).await;

    registry
        .publish("satellite/group-state/g1/state", &json!({"group": "g1", "artifacts": "all of them"}))
        .await;
    registry.publish_group("g2", json!([entry("library/third", &["1"], &third)])).await;
    edge.replicate.notify_one();
    let status = edge.until("the third image", |status| {
        status.images.iter().any(|image| image.repository == "library/third") && status.activity == "idle"
    });
    let status = status.await;
    assert!(!status.desired.whole);
    let broken = status.desired.groups.iter().find(|group| group.name == "g1").unwrap();
    assert!(broken.error.as_ref().unwrap().contains("artifacts"), "{broken:?}");
    assert!(broken.since.is_some());
    let status = edge.turn().await;
    assert!(status.desired.removals_held_back > 0);
    assert!(edge.is_whole("library/first", &first.digest).await, "its last good content stays in force");
    assert!(edge.is_whole("library/second", &second.digest).await, "nothing goes while not all is known");

    registry.publish_group("g1", json!([entry("library/first", &["1"], &first)])).await;
    edge.converged(2).await;
    assert!(!edge.has("library/second", &second.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_gone_keeps_its_content() {
    let registry = Registry::start().await;
    let image = registry.image("library/app", Some("1"), "app").await;
    registry.publish_group("g", json!([entry("library/app", &["1"], &image)])).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered(&registry).await;
    edge.converged(1).await;
    let group = repository("satellite/group-state/g/state");
    registry.store.delete_tag(&group, &"latest".parse().unwrap()).await.unwrap();
    let status = edge.turn().await;
    assert!(status.desired.groups[0].error.as_ref().unwrap().contains("does not exist"));
    assert_eq!(status.images.len(), 1);
    assert!(edge.is_whole("library/app", &image.digest).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_remote_config_is_taken_and_a_bad_one_refused() {
    let registry = Registry::start().await;
    let config =
        |interval: &str| json!({"app_config": {"heartbeat_interval": interval, "log_level": "debug"}});
    let place = "satellite/config-state/default/state";
    let good = registry.publish(place, &config("@every 00h01m00s")).await;
    registry.publish_satellite(&[], Some("default")).await;
    let edge = Edge::registered(&registry).await;
    let status = edge.until("the config", |status| status.config.digest.is_some()).await;
    assert_eq!(status.config.digest, Some(good.to_string()));
    assert_eq!(edge.config.current().heartbeat_interval.as_str(), "@every 00h01m00s");

    let bad = registry.publish(place, &config("whenever")).await;
    edge.replicate.notify_one();
    let status = edge.until("the refusal", |status| status.config.refused.is_some()).await;
    let refused = status.config.refused.unwrap();
    assert_eq!(refused.digest, Some(bad.to_string()));
    assert!(
        refused.reason.contains("whenever") || refused.reason.contains("heartbeat_interval"),
        "{refused:?}"
    );
    assert_eq!(status.config.digest, Some(good.to_string()), "the last good one stays");
    assert_eq!(edge.config.current().heartbeat_interval.as_str(), "@every 00h01m00s");

    // Known after a restart without asking anybody, and then the refusal is told again.
    let edge = edge.restart(Layer::default()).await;
    assert_eq!(edge.config.current().heartbeat_interval.as_str(), "@every 00h01m00s");
    edge.until("the refusal", |status| status.config.refused.is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_sites_own_is_neither_overwritten_nor_removed() {
    let registry = Registry::start().await;
    let ours = registry.image("library/app", Some("1"), "ours").await;
    let theirs = registry.image("site-own/app", Some("1"), "theirs").await;
    let list = json!([entry("site-own/app", &["1"], &theirs), entry("library/app", &["1"], &ours)]);
    registry.publish_group("g", list).await;
    registry.publish_satellite(&["g"], None).await;
    let edge = Edge::registered(&registry).await;
    // What a person of the site pushed, and what was pushed without a tag.
    let pushed = |manifests: &str| {
        let index = json!({"schemaVersion": 2, "mediaType": oci::media_type::OCI_INDEX, "manifests": [], "annotations": {"x": manifests}});
        serde_json::to_vec(&index).unwrap()
    };
    let mut digests = Vec::new();
    for (bytes, tags) in [(pushed("a"), vec![crate::fleet::tag("1")]), (pushed("b"), Vec::new())] {
        let digest = oci::Digest::sha256(&bytes);
        let put = blob_store::PutManifest {
            repository: repository("site-own/app"),
            digest,
            media_type: None,
            bytes: bytes.into(),
            tags,
            completeness: blob_store::Completeness::VisibleHere,
        };
        edge.store.put_manifest(put).await.unwrap();
        digests.push(digest);
    }
    let status =
        edge.until("one of two", |status| status.images.len() == 1 && status.failed.len() == 1).await;
    let failure = &status.failed[0];
    assert_eq!(failure.reference, "site-own/app:1");
    assert!(failure.reason.contains("LOCAL_NAMESPACES") && failure.reason.contains("group g"), "{failure:?}");

    registry.publish_satellite(&[], None).await;
    edge.converged(0).await;
    edge.turn().await;
    edge.store.collect_garbage().await.unwrap();
    assert_eq!(edge.tag_of("site-own/app", "1"), Some(digests[0]));
    assert!(digests.iter().all(|digest| edge.has("site-own/app", digest)));
    assert!(!edge.has("library/app", &ours.digest) && !edge.has("site-own/app", &theirs.digest));
}
