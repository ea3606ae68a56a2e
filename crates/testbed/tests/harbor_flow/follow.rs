//! Groups follow what is pushed.

use super::*;

/// A tag that moves is followed.
pub(super) async fn a_moved_tag_arrives(cloud: &Cloud, edge: &Edge) {
    let moved = cloud.push(&cloud.app("tool"), "stable", 11).await;
    edge.has(&cloud.app("tool"), "stable", &moved).await;
    step("a tag that was moved is followed");
}

/// The newest two of a range: one comes, the oldest goes.
pub(super) async fn a_rule_takes_what_is_new(cloud: &Cloud, edge: &Edge) {
    let web = cloud.app("web");
    let newest = cloud.push(&web, "1.2.0", 12).await;
    // Named by no rule: a pre-release, and another major version.
    cloud.push(&web, "1.3.0-rc.1", 13).await;
    cloud.push(&web, "2.0.0", 14).await;
    edge.has(&web, "1.2.0", &newest).await;
    edge.site.wait_for_absence(&web, "1.0.0", LIMIT).await.unwrap();
    let mut tags = edge.site.registry().tags(&web).await.unwrap();
    tags.sort();
    assert_eq!(tags, ["1.1.0", "1.2.0"]);
    step("a rule takes the newest, and leaves the oldest");
}

/// What a replication adapter posts is added to its group, and to no other.
pub(super) async fn an_adapter_adds(cloud: &Cloud, edge: &Edge) {
    let group = cloud.name("tags");
    let path = format!("/api/groups/{group}/replication-secret");
    let made = cloud.world.admin.call(Method::POST, &path, None).await.unwrap();
    let url = made["url"].as_str().unwrap();
    // The address that Harbor is told may be another one than ours.
    let route = url.find("/hooks/").map(|at| &url[at..]).unwrap();
    let url = format!("{}{route}", cloud.world.place.url());
    let image = cloud.push(&cloud.app("pushed"), "7", 21).await;
    let artifact = json!({"repository": cloud.app("pushed"), "tag": ["7"], "labels": [], "type": "image",
                          "digest": image.root.digest, "deleted": false});
    let http = testbed::registry::http_client();
    let post = async |group: &str| {
        let body = json!({"group": group, "registry": cloud.run.harbor().url(), "artifacts": [artifact]});
        http.post(&url).json(&body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post(&cloud.name("pinned")).await, 403);
    assert_eq!(post(&group).await, 200);
    edge.has(&cloud.app("pushed"), "7", &image).await;
    assert!(edge.site.registry().digest(&cloud.app("tool"), "stable").await.unwrap().is_some());
    step("what a replication adapter posts is added to its group");
}
