//! Conformance to OCI Distribution 1.1, of the built programs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::time::Duration;

use base64::Engine as _;
use testbed::admin::Wanted;
use testbed::conformance::{self, KnownContent, Mode};
use testbed::image;
use testbed::world::World;

#[tokio::test]
async fn ground_control_conforms() {
    let world = World::start().await.unwrap();
    let credentials = world.ground_control.as_ref().unwrap().credentials();
    let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials));
    let headers = [("authorization", basic.as_str())];
    let report = conformance::run(&world.place.url(), &headers, Mode::ReadWrite).await.unwrap();
    println!("{report}");
    report.into_result().unwrap();
}

#[tokio::test]
async fn the_satellite_conforms_and_refuses_every_write() {
    let world = World::start().await.unwrap();
    let (repository, tag) = ("some/deep/repository", "1");
    let mut image = image::random(&world.dir().join("image"), 11, &[50_000, 7]).unwrap();
    let manifest = image.root.clone();
    let other = image::manifest(
        &image.layout,
        "arm64",
        &[image::random_layer(5, 999).unwrap()],
        &serde_json::json!({}),
    );
    image.root = image::index(&image.layout, &[manifest, other.unwrap()]).unwrap();
    let kinds = ["application/vnd.example.one", "application/vnd.example.two"];
    image.referrers = kinds
        .map(|kind| image::referrer(&image.layout, &image.root, kind, kind.as_bytes()).unwrap())
        .to_vec();
    world.registry().push(repository, tag, &image).await.unwrap();
    world.admin.sync_group("edge", &[Wanted::new(repository, tag, image.root.digest)]).await.unwrap();
    let site = world.site("edge-01", &["edge"], None).await.unwrap();
    let _satellite = site.start().await.unwrap();
    site.wait_for_tag(repository, tag, image.root.digest, Duration::from_secs(60)).await.unwrap();
    let registry = site.registry();
    testbed::process::wait_for("both referrers", Duration::from_secs(30), async || {
        let referrers = registry.referrers(repository, &image.root.digest).await.ok()?;
        (referrers.len() == 2).then_some(())
    })
    .await
    .unwrap();

    let known = KnownContent {
        repository: repository.to_owned(),
        tag: tag.to_owned(),
        digest: image.root.digest,
        referrers: image.referrers.iter().map(|referrer| referrer.digest).collect(),
    };
    let before = registry.verify(repository, tag).await.unwrap();
    let report = conformance::run(&site.url(), &[], Mode::ReadOnly(known)).await.unwrap();
    println!("{report}");
    report.into_result().unwrap();
    assert_eq!(registry.verify(repository, tag).await.unwrap(), before);
    assert_eq!(registry.tags(repository).await.unwrap(), [tag]);
}
