//! The whole way, with the built programs: what groups say is what sites hold, whatever happens in between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::time::Duration;

use oci::Digest;
use reqwest::Method;
use testbed::admin::Wanted;
use testbed::docker_registry::DockerRegistry;
use testbed::image::{self, Image};
use testbed::postgres::Postgres;
use testbed::process::wait_for;
use testbed::satellite::Site;
use testbed::world::World;
use testbed::{files, ground_control};

const LIMIT: Duration = Duration::from_secs(60);

/// Makes an image of random layers and pushes it.
async fn push(world: &World, repository: &str, tag: &str, seed: u64, layers: &[usize]) -> Image {
    let folder = world.dir().join(format!("image-{seed}"));
    let image = image::random(&folder, seed, layers).unwrap();
    world.registry().push(repository, tag, &image).await.unwrap();
    image
}

async fn arrives(site: &Site, repository: &str, tag: &str, digest: Digest) {
    site.wait_for_tag(repository, tag, digest, LIMIT).await.unwrap();
    let verified = site.registry().verify(repository, tag).await.unwrap();
    assert!(verified.is_some(), "{repository}:{tag} went away");
}

async fn goes(site: &Site, repository: &str, tag: &str, digest: Digest) {
    site.wait_for_absence(repository, tag, LIMIT).await.unwrap();
    let registry = site.registry();
    wait_for("the manifest to go with its tag", LIMIT, async || {
        registry.manifest(repository, &digest.to_string()).await.ok()?.is_none().then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_site_holds_what_its_groups_say() {
    let world = World::start().await.unwrap();
    let app = push(&world, "shop/app", "1", 1, &[200_000, 50_000]).await;
    let both = push(&world, "shop/both", "1", 2, &[30_000]).await;
    let only = push(&world, "shop/only", "1", 3, &[20_000]).await;
    let marker = push(&world, "shop/marker", "1", 4, &[1_000]).await;
    // Nobody has pushed this one: it cannot be had, and harms nobody.
    let nowhere = image::random(&world.dir().join("nowhere"), 5, &[10]).unwrap().root.digest;
    let (app_1, both_1, only_1) = (
        Wanted::new("shop/app", "1", app.root.digest),
        Wanted::new("shop/both", "1", both.root.digest),
        Wanted::new("shop/only", "1", only.root.digest),
    );
    let bad = Wanted::new("shop/nowhere", "1", nowhere);
    world.admin.sync_group("one", &[app_1.clone(), both_1.clone()]).await.unwrap();
    world.admin.sync_group("two", &[bad.clone(), both_1.clone(), only_1.clone()]).await.unwrap();
    let site = world.site("edge-01", &["one", "two"], None).await.unwrap();
    let satellite = site.start().await.unwrap();
    for (wanted, image) in [(&app_1, &app), (&both_1, &both), (&only_1, &only)] {
        arrives(&site, &wanted.repository, "1", image.root.digest).await;
    }
    assert_eq!(site.registry().digest("shop/nowhere", "1").await.unwrap(), None);

    // The bad one is named, with its reason, at the edge and in the cloud.
    wait_for("the failure in the status", LIMIT, async || {
        let status = site.status().await.ok()?.to_string();
        (status.contains("shop/nowhere") && status.contains(&nowhere.to_string())).then_some(())
    })
    .await
    .unwrap();
    let heartbeat = wait_for("the failure in the heartbeat", LIMIT, async || {
        let heartbeat = world.admin.status("edge-01").await.ok()??;
        let text = heartbeat.to_string();
        (text.contains("shop/nowhere") && heartbeat["image_count"] == 3).then_some(text)
    })
    .await
    .unwrap();
    assert!(heartbeat.contains("shop/only"), "{heartbeat}");
    wait_for("the satellite online", LIMIT, async || {
        (world.admin.satellite("edge-01").await.ok()?["state"] == "online").then_some(())
    })
    .await
    .unwrap();

    // What one group drops and another still wants stays. The marker tells that the new plan was carried out.
    let marker_1 = Wanted::new("shop/marker", "1", marker.root.digest);
    world.admin.sync_group("one", &[app_1.clone(), marker_1.clone()]).await.unwrap();
    arrives(&site, "shop/marker", "1", marker.root.digest).await;
    arrives(&site, "shop/both", "1", both.root.digest).await;

    // What leaves the last group goes; so does what is said to be deleted.
    let deleted = Wanted { deleted: true, ..marker_1.clone() };
    world.admin.sync_group("one", &[app_1.clone(), deleted]).await.unwrap();
    goes(&site, "shop/marker", "1", marker.root.digest).await;
    world.admin.sync_group("two", &[bad, both_1.clone()]).await.unwrap();
    goes(&site, "shop/only", "1", only.root.digest).await;
    world.admin.remove_from_group("edge-01", "two").await.unwrap();
    goes(&site, "shop/both", "1", both.root.digest).await;
    arrives(&site, "shop/app", "1", app.root.digest).await;

    // A wiped disk is filled again, by a satellite that knows who it is.
    satellite.stop().await.unwrap();
    std::fs::remove_dir_all(site.data_dir()).unwrap();
    let satellite = site.start().await.unwrap();
    arrives(&site, "shop/app", "1", app.root.digest).await;
    satellite.stop().await.unwrap();
}

#[tokio::test]
async fn the_old_version_is_served_until_the_new_one_is_whole() {
    let world = World::start().await.unwrap();
    let proxy = world.proxy().await.unwrap();
    let old = push(&world, "shop/app", "live", 1, &[100_000]).await;
    let new = push(&world, "shop/app", "live", 2, &[600_000, 300_000]).await;
    world.admin.sync_group("one", &[Wanted::new("shop/app", "live", old.root.digest)]).await.unwrap();
    let site = world.site("edge-01", &["one"], Some(&proxy)).await.unwrap();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "shop/app", "live", old.root.digest).await;

    proxy.forget();
    proxy.limit(Some(500_000));
    world.admin.sync_group("one", &[Wanted::new("shop/app", "live", new.root.digest)]).await.unwrap();
    let layer = new.layout.graph(&new.root).unwrap().blobs[1].digest.to_string();
    let (registry, mut meanwhile) = (site.registry(), 0);
    wait_for("the new version", LIMIT, async || {
        let fetching = proxy.exchanges().iter().any(|e| e.blob() == Some(layer.as_str()) && e.sent > 0);
        let served = registry.digest("shop/app", "live").await.unwrap();
        let verified = registry.verify("shop/app", "live").await.unwrap();
        assert!(verified.is_some(), "neither version is served");
        if served == Some(new.root.digest) {
            return Some(());
        }
        assert_eq!(served, Some(old.root.digest), "a third version");
        meanwhile += u32::from(fetching);
        None
    })
    .await
    .unwrap();
    assert!(meanwhile > 0, "the old version was never seen while the new one was fetched");
    wait_for("the old version to go", LIMIT, async || {
        registry.manifest("shop/app", &old.root.digest.to_string()).await.ok()?.is_none().then_some(())
    })
    .await
    .unwrap();
}

/// Ten images in five repositories over one large layer: stored once, as the disk counts, and fetched once, as the wire
/// counts.
#[tokio::test]
async fn one_layer_of_ten_images_is_fetched_and_stored_once() {
    const SHARED: usize = 8_000_000;
    let world = World::start().await.unwrap();
    let proxy = world.proxy().await.unwrap();
    let shared = image::random_layer(42, SHARED).unwrap();
    let (mut wanted, mut unique, mut images) = (Vec::new(), 0, Vec::new());
    for number in 0..10_u64 {
        let own = image::random_layer(1000 + number, 5_000).unwrap();
        let folder = world.dir().join(format!("image-{number}"));
        let image = image::of_layers(&folder, number, &[shared.clone(), own]).unwrap();
        let (repository, tag) = (format!("team/app-{}", number % 5), format!("v{number}"));
        world.registry().push(&repository, &tag, &image).await.unwrap();
        wanted.push(Wanted::new(&repository, &tag, image.root.digest));
        unique += image.layout.graph(&image.root).unwrap().blob_bytes() - shared.bytes.len() as u64;
        images.push((repository, tag, image));
    }
    unique += shared.bytes.len() as u64;
    world.admin.sync_group("one", &wanted).await.unwrap();
    let site = world.site("edge-01", &["one"], Some(&proxy)).await.unwrap();
    let _satellite = site.start().await.unwrap();
    for (repository, tag, image) in &images {
        arrives(&site, repository, tag, image.root.digest).await;
    }

    let ours = |read: &testbed::proxy::Exchange| read.path.starts_with("/v2/team/");
    let reads: Vec<_> = proxy.blob_reads().into_iter().filter(ours).collect();
    let shared = Digest::sha256(&shared.bytes).to_string();
    assert_eq!(reads.iter().filter(|read| read.blob() == Some(shared.as_str())).count(), 1, "{reads:#?}");
    assert_eq!(reads.iter().map(|read| read.sent).sum::<u64>(), unique, "{reads:#?}");
    // The central registry stores it once too. Beside the blobs there are indexes and journals of bounded size.
    for data in [site.data_dir(), world.place.data_dir().join("registry")] {
        let used = files::disk_usage(&data);
        assert!(used < unique + 6_000_000, "{} takes {used} bytes for {unique}", data.display());
    }
    let files = files::walk(&site.data_dir());
    let large = files.iter().filter(|path| path.metadata().is_ok_and(|m| m.len() >= SHARED as u64));
    assert_eq!(large.count(), 1);
}

#[tokio::test]
async fn a_bad_link_costs_nothing_twice() {
    let world = World::start().await.unwrap();
    let proxy = world.proxy().await.unwrap();
    let image = push(&world, "shop/app", "1", 1, &[500_000]).await;
    let layer = image.layout.graph(&image.root).unwrap().blobs[1].clone();
    let path = format!("/blobs/{}", layer.digest);
    for after in [100_000, 50_000, 200_000] {
        proxy.cut(&path, after, 1);
    }
    proxy.fail(&path, 503, 1);
    world.admin.sync_group("one", &[Wanted::new("shop/app", "1", image.root.digest)]).await.unwrap();
    let site = world.site("edge-01", &["one"], Some(&proxy)).await.unwrap();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "shop/app", "1", image.root.digest).await;
    let digest = layer.digest.to_string();
    let reads = proxy.blob_reads();
    let mut next = 0;
    for read in reads.iter().filter(|read| read.blob() == Some(digest.as_str())) {
        assert!(read.offset() <= next, "a hole: {reads:#?}");
        // What the proxy handed to a connection that it then broke may not have arrived: 64 KiB of buffers.
        assert!(next - read.offset() <= 64 * 1024, "asked twice: {reads:#?}");
        next = read.offset() + read.sent;
    }
    assert_eq!(next, layer.size);
}

#[tokio::test]
async fn a_site_starts_and_serves_without_the_cloud() {
    let mut world = World::start().await.unwrap();
    let image = push(&world, "shop/app", "1", 1, &[100_000]).await;
    world.admin.sync_group("one", &[Wanted::new("shop/app", "1", image.root.digest)]).await.unwrap();
    let site = world.site("edge-01", &["one"], None).await.unwrap();
    let satellite = site.start().await.unwrap();
    arrives(&site, "shop/app", "1", image.root.digest).await;
    satellite.kill().unwrap();
    world.kill_ground_control().unwrap();

    let satellite = site.start().await.unwrap();
    let served = site.registry().digest("shop/app", "1").await.unwrap();
    assert_eq!(served, Some(image.root.digest), "the first answer already has the image");
    arrives(&site, "shop/app", "1", image.root.digest).await;

    // With the cloud back, the site follows it again, without a restart and without a new token.
    world.restart_ground_control().await.unwrap();
    let admin = world.ground_control.as_ref().unwrap().admin().await.unwrap();
    let next = push(&world, "shop/app", "2", 2, &[50_000]).await;
    admin.sync_group("one", &[Wanted::new("shop/app", "2", next.root.digest)]).await.unwrap();
    arrives(&site, "shop/app", "2", next.root.digest).await;
    satellite.stop().await.unwrap();
}

/// Somebody deletes one file and cuts another short: both come back, and nothing false is served meanwhile.
#[tokio::test]
async fn a_damaged_disk_is_filled_again() {
    let world = World::start().await.unwrap();
    let image = push(&world, "shop/app", "1", 1, &[100_000, 80_000, 10]).await;
    world.admin.sync_group("one", &[Wanted::new("shop/app", "1", image.root.digest)]).await.unwrap();
    let site = world.site("edge-01", &["one"], None).await.unwrap();
    let satellite = site.start().await.unwrap();
    arrives(&site, "shop/app", "1", image.root.digest).await;
    satellite.stop().await.unwrap();

    let blobs = image.layout.graph(&image.root).unwrap().blobs;
    let file = |sizes: std::ops::Range<u64>| {
        let blob = blobs.iter().find(|blob| sizes.contains(&blob.size)).unwrap();
        let hex = blob.digest.hex();
        let path = files::walk(&site.data_dir()).into_iter().find(|path| path.ends_with(&hex)).unwrap();
        (blob.digest, path)
    };
    let ((deleted, gone), (cut, short)) = (file(90_000..110_000), file(70_000..90_000));
    std::fs::remove_file(&gone).unwrap();
    std::fs::File::options().write(true).open(&short).and_then(|file| file.set_len(1000)).unwrap();

    let _satellite = site.start().await.unwrap();
    let registry = site.registry();
    wait_for("the image whole again", LIMIT, async || {
        for digest in [&deleted, &cut] {
            let read = registry.check_blob("shop/app", digest).await;
            assert!(!matches!(&read, Err(testbed::Error::Content(_))), "false bytes were served: {read:?}");
        }
        registry.verify("shop/app", "1").await.ok().flatten().map(drop)
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", files::tail(&site.log(), 40)));
}

#[tokio::test]
async fn a_platform_filter_keeps_the_index_and_leaves_children_out() {
    let world = World::start().await.unwrap();
    let layout = testbed::layout::Layout::create(&world.dir().join("image")).unwrap();
    let child = |architecture: &str, seed| {
        let layers = [image::random_layer(seed, 10_000).unwrap()];
        image::manifest(&layout, architecture, &layers, &serde_json::json!({})).unwrap()
    };
    let (amd64, arm64) = (child("amd64", 1), child("arm64", 2));
    let root = image::index(&layout, &[amd64.clone(), arm64.clone()]).unwrap();
    let image = Image { layout, root, referrers: Vec::new() };
    world.registry().push("shop/app", "1", &image).await.unwrap();
    world.admin.sync_group("one", &[Wanted::new("shop/app", "1", image.root.digest)]).await.unwrap();
    let site = world.site_with("edge-01", &["one"], None, &[("PLATFORMS", "linux/arm64")]).await.unwrap();
    let _satellite = site.start().await.unwrap();
    site.wait_for_tag("shop/app", "1", image.root.digest, LIMIT).await.unwrap();
    let registry = site.registry();
    assert!(registry.verify("shop/app", &arm64.digest.to_string()).await.unwrap().is_some());
    assert!(registry.verify("shop/app", &amd64.digest.to_string()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_registry_of_the_sites_own_is_filled() {
    let world = World::start().await.unwrap();
    let image = push(&world, "shop/app", "1", 1, &[100_000, 1]).await;
    let foreign = DockerRegistry::start().await.unwrap();
    world.admin.sync_group("one", &[Wanted::new("shop/app", "1", image.root.digest)]).await.unwrap();
    let url = foreign.url();
    let environment = [("BYO_REGISTRY", "true"), ("REGISTRY_URL", url.as_str())];
    let site = world.site_with("edge-01", &["one"], None, &environment).await.unwrap();
    let _satellite = site.spawn().unwrap();
    let registry = foreign.registry();
    wait_for("the image in the other registry", LIMIT, async || {
        (registry.digest("shop/app", "1").await.ok()? == Some(image.root.digest)).then_some(())
    })
    .await
    .unwrap_or_else(|error| panic!("{error}\n{}", files::tail(&site.log(), 40)));
    assert!(registry.verify("shop/app", "1").await.unwrap().is_some());
}

#[tokio::test]
async fn the_same_on_postgresql() {
    let cluster = Postgres::start().await.unwrap();
    let url = cluster.create_database("ground_control").await.unwrap();
    let options = ground_control::Options { database_url: Some(url), ..Default::default() };
    let mut world = World::start_with(options).await.unwrap();
    let image = push(&world, "shop/app", "1", 1, &[100_000]).await;
    world.admin.sync_group("one", &[Wanted::new("shop/app", "1", image.root.digest)]).await.unwrap();
    let site = world.site("edge-01", &["one"], None).await.unwrap();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "shop/app", "1", image.root.digest).await;
    let satellites = cluster.query("ground_control", "SELECT name FROM satellites").await.unwrap();
    assert_eq!(satellites, "edge-01");
    world.kill_ground_control().unwrap();
    world.restart_ground_control().await.unwrap();
    assert_eq!(world.admin.satellite("edge-01").await.unwrap()["name"], "edge-01");
}

/// A fleet member reads its own things and nothing else; a token works once.
#[tokio::test]
async fn robots_and_tokens_open_only_their_own_doors() {
    let world = World::start().await.unwrap();
    let mine = push(&world, "shop/mine", "1", 1, &[100]).await;
    push(&world, "shop/other", "1", 2, &[100]).await;
    world.admin.sync_group("one", &[Wanted::new("shop/mine", "1", mine.root.digest)]).await.unwrap();
    let token = world.admin.create_satellite("edge-01", &["one"]).await.unwrap();
    world.admin.create_satellite("edge-02", &[]).await.unwrap();
    let claim = |nonce: &str| serde_json::json!({"token": token, "nonce": nonce});
    let anonymous = testbed::registry::Registry::anonymous(&world.place.url());
    let post = async |body: serde_json::Value| {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        anonymous.send(Method::POST, "/satellites/ztr", headers, body.to_string().into()).await.unwrap()
    };
    let first = post(claim(&"a".repeat(32))).await;
    assert_eq!(first.status(), 200);
    let answer: serde_json::Value = serde_json::from_slice(&first.bytes().await.unwrap()).unwrap();
    assert_eq!(post(claim(&"b".repeat(32))).await.status(), 401, "another device took the same token");

    let (user, password) = (answer["auth"]["username"].as_str(), answer["auth"]["password"].as_str());
    assert_eq!(user, Some("robot$edge-01"));
    let robot = testbed::registry::Registry::basic(&world.place.url(), user.unwrap(), password.unwrap());
    assert!(robot.verify("shop/mine", "1").await.unwrap().is_some());
    wait_for("its own state", LIMIT, async || {
        robot.manifest("satellite/satellite-state/edge-01/state", "latest").await.unwrap().map(drop)
    })
    .await
    .unwrap();
    for repository in ["shop/other", "satellite/satellite-state/edge-02/state"] {
        let refused = robot.manifest(repository, "1").await;
        assert!(!matches!(refused, Ok(Some(_))), "{repository} is open");
    }
    let push = robot.push_manifest("shop/mine", "2", "application/vnd.example", b"{}".to_vec()).await;
    assert!(push.is_err(), "a robot pushed");
    assert!(anonymous.manifest("shop/mine", "1").await.is_err(), "anybody pulls");
}

#[tokio::test]
async fn republish_makes_the_registry_match_the_database_again() {
    let mut world = World::start().await.unwrap();
    let image = push(&world, "shop/app", "1", 1, &[100]).await;
    world.admin.sync_group("one", &[Wanted::new("shop/app", "1", image.root.digest)]).await.unwrap();
    let state = "satellite/group-state/one/state";
    let registry = world.registry();
    let published =
        wait_for("the group's state", LIMIT, async || registry.digest(state, "latest").await.ok()?).await;
    let published = published.unwrap();
    world.ground_control.take().unwrap().stop().await.unwrap();
    std::fs::remove_dir_all(world.place.data_dir().join("registry")).unwrap();

    let mut republish = world.place.command().unwrap();
    republish.arg("republish");
    testbed::command::run(republish).await.unwrap();
    world.restart_ground_control().await.unwrap();
    assert_eq!(
        registry.digest(state, "latest").await.unwrap(),
        Some(published),
        "same document, same digest"
    );
}
