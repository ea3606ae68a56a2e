//! What that registry holds, as groups follow it.

use ground_control::domain::resolution::{Finding, Selector};
use ground_control::follow::{ArtifactIndex as _, Looked, look_at};
use ground_control::publish::OciRegistry;
use oci::{Digest, RepositoryName};
use reqwest::Method;
use serde_json::json;
use testbed::docker_registry::PASSWORDS;
use testbed::image::{self, Image};
use testbed::registry::Registry;

use crate::Elsewhere;
use crate::documents::client;

fn repository() -> RepositoryName {
    "library/nginx".parse().unwrap()
}

async fn look(index: &OciRegistry, selectors: &[&str]) -> Looked {
    let selectors: Vec<Selector> = selectors.iter().map(|text| text.parse().unwrap()).collect();
    look_at(index, &repository(), &selectors).await
}

fn found(looked: &Looked, n: usize) -> Vec<(String, Digest)> {
    match &looked.findings[n].1 {
        Finding::Found(all) => all
            .iter()
            .map(|one| (one.tag.as_ref().map(ToString::to_string).unwrap_or_default(), one.digest))
            .collect(),
        Finding::Nothing(reason) => panic!("{reason}"),
    }
}

fn reason(looked: &Looked, n: usize) -> &str {
    match &looked.findings[n].1 {
        Finding::Nothing(reason) => reason,
        Finding::Found(all) => panic!("{all:?}"),
    }
}

fn referrers(looked: &Looked) -> Digest {
    let Finding::Found(all) = &looked.findings[0].1 else { panic!("{looked:?}") };
    all[0].referrers.unwrap()
}

/// This registry has no referrers API: clients keep the list under a tag.
async fn sign(registry: &Registry, image: &Image, content: &[u8]) {
    let signature = image::referrer(&image.layout, &image.root, image::SIGNATURE_TYPE, content).unwrap();
    registry.push_graph("library/nginx", None, &image.layout, &signature).await.unwrap();
    let list = image::index(&image.layout, &[signature]).unwrap();
    let tag = format!("sha256-{}", image.root.digest.hex());
    registry.push_graph("library/nginx", Some(&tag), &image.layout, &list).await.unwrap();
}

#[tokio::test]
async fn tags_digests_and_rules_are_looked_up() {
    let elsewhere = Elsewhere::start(true).await;
    let (index, dir) = (client(&elsewhere), tempfile::tempdir().unwrap());
    let push = elsewhere.registry.registry_as("push", PASSWORDS[0]);
    let images: Vec<Image> =
        (0..4).map(|n| image::random(&dir.path().join(n.to_string()), n, &[64]).unwrap()).collect();
    let nothing = look(&index, &["tag:1.0.0", "glob:1:*"]).await;
    assert_eq!(nothing.failure, None, "an empty registry is an answer");
    assert!(reason(&nothing, 0).contains("no tag 1.0.0") && reason(&nothing, 1).contains("0 tags"));

    for (tag, image) in [("1.0.0", &images[0]), ("1.1.0", &images[1]), ("main-a", &images[2])] {
        push.push("library/nginx", tag, image).await.unwrap();
    }
    let by_digest = format!("digest:{}", images[0].root.digest);
    let looked = look(&index, &["tag:1.0.0", &by_digest, "semver:1:^1", "glob:2:main-*"]).await;
    assert_eq!(looked.failure, None);
    assert_eq!(found(&looked, 0), [("1.0.0".to_owned(), images[0].root.digest)]);
    assert_eq!(found(&looked, 1), [(String::new(), images[0].root.digest)]);
    assert_eq!(found(&looked, 2), [("1.1.0".to_owned(), images[1].root.digest)]);
    assert_eq!(found(&looked, 3), [("main-a".to_owned(), images[2].root.digest)]);
    // Of what is no version the image tells the age; here all are as old, so that the text decides.
    push.push("library/nginx", "main-b", &images[3]).await.unwrap();
    let newest = look(&index, &["glob:1:main-*"]).await;
    assert_eq!(found(&newest, 0), [("main-b".to_owned(), images[3].root.digest)]);

    let unsigned = referrers(&looked);
    sign(&push, &images[0], b"signed").await;
    let signed = look(&index, &["tag:1.0.0"]).await;
    assert_ne!(referrers(&signed), unsigned);

    // A manifest that goes takes its tags along; the rule finds what is left.
    let path = format!("/v2/library/nginx/manifests/{}", images[1].root.digest);
    push.send(Method::DELETE, &path, Default::default(), Default::default()).await.unwrap();
    let after = look(&index, &["tag:1.1.0", "semver:1:^1"]).await;
    assert!(reason(&after, 0).contains("no tag 1.1.0") && after.failure.is_none());
    assert_eq!(found(&after, 1), [("1.0.0".to_owned(), images[0].root.digest)]);
}

#[tokio::test]
async fn a_registry_that_refuses_us_is_no_empty_one() {
    let elsewhere = Elsewhere::start(true).await;
    let index = client(&elsewhere);
    elsewhere.write("push", PASSWORDS[2].text);
    let looked = look(&index, &["tag:1.0.0", "glob:1:*"]).await;
    let failure = looked.failure.clone().unwrap();
    assert!(failure.contains("401") && !failure.contains(PASSWORDS[2].text), "{failure}");
    assert!(reason(&looked, 0).contains("401") && reason(&looked, 1).contains("401"));
    assert!(index.tags(&repository()).await.is_err());
}

/// The whole way: a server that follows it, a tag that moves there, and the word of a webhook.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_follows_it() {
    let elsewhere = Elsewhere::start(true).await;
    let (fleet, dir) = (crate::accounts::fleet(&elsewhere).await, tempfile::tempdir().unwrap());
    let server = &fleet.server;
    let push = elsewhere.registry.registry_as("push", PASSWORDS[0]);
    let images: Vec<Image> =
        (0..2).map(|n| image::random(&dir.path().join(n.to_string()), n, &[64]).unwrap()).collect();
    push.push("library/nginx", "stable", &images[0]).await.unwrap();
    let body = json!({"group": "east", "artifacts": [{"repository": "library/nginx", "tag": "stable"}]});
    server.admin("POST", "/api/groups/sync", Some(body)).await.expect(200);
    let until = async |digest: &Digest| {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let group = server.admin("GET", "/api/groups/east", None).await.expect(200).body;
            if group["resolutions"][0]["resolved"][0]["digest"] == json!(digest.to_string()) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{group:#}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    until(&images[0].root.digest).await;
    push.push("library/nginx", "stable", &images[1]).await.unwrap();
    let told = json!({"event_data": {"repository": {"repo_full_name": "library/nginx"}}});
    let secret = secrecy::ExposeSecret::expose_secret(&server.running.state.hooks.secret).to_owned();
    let request = server.client.post(server.url("/hooks/harbor")).header("Authorization", secret);
    assert_eq!(request.json(&told).send().await.unwrap().status(), 200);
    until(&images[1].root.digest).await;
    server.published().await;
    let known = push.digest("satellite/group-state/east/state", "latest").await.unwrap();
    assert!(known.is_some());
}
