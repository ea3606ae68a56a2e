//! Disks that are full: who asked is told, nothing half is visible, nothing is left lying about, and with space it goes on.

use std::path::Path;
use std::time::Duration;

use testbed::admin::Wanted;
use testbed::process::wait_for;
use testbed::world::World;
use testbed::{files, image, machine};

use crate::scene::{REPOSITORY, Scene, TAG, files_of, tars};

const LIMIT: Duration = Duration::from_secs(120);
const LARGE: usize = 40 << 20;

/// All files below a folder that have something in them.
fn contents(folder: &Path) -> Vec<std::path::PathBuf> {
    let below = files_of(folder)
        .into_iter()
        .flat_map(|path| if path.is_dir() { contents(&path) } else { vec![path] });
    below.collect()
}

/// 16 MiB of a store's disk stay free, and 4 MiB more are held for deletions.
#[test]
fn a_store_without_space_takes_no_push_and_no_replication() {
    let name = "full::a_store_without_space_takes_no_push_and_no_replication";
    let result = machine::alone(name, async |machine| {
        let world = World::start().await.unwrap();
        let small = image::random(&world.dir().join("small"), 1, &[100_000]).unwrap();
        let large = image::random(&world.dir().join("large"), 2, &[LARGE]).unwrap();
        for (repository, image) in [("shop/small", &small), ("shop/large", &large)] {
            world.registry().push(repository, "1", image).await.unwrap();
        }
        let wanted = |repository: &str, image: &image::Image| Wanted::new(repository, "1", image.root.digest);
        let small_alone = [wanted("shop/small", &small)];
        world.admin.sync_group("edge", &small_alone).await.unwrap();
        let site = world.site_with("edge-01", &["edge"], None, &[("LOCAL_NAMESPACES", "dev")]).await.unwrap();
        let disk = machine.disk(&site.data_dir(), 48).await.unwrap();
        let _satellite = site.start().await.unwrap();
        site.wait_for_tag("shop/small", "1", small.root.digest, LIMIT).await.unwrap();

        // A push: the client is told by status and words, and what came of it is gone at once.
        let registry = site.registry();
        let error = registry.push("dev/large", "1", &large).await.unwrap_err().to_string();
        assert!(error.contains("507") && error.contains("disk is full"), "{error}");
        assert_eq!(registry.digest("dev/large", "1").await.unwrap(), None);
        assert_eq!(contents(&site.data_dir().join("uploads")), Vec::<std::path::PathBuf>::new());
        registry.push("dev/small", "1", &small).await.unwrap();

        // A replication: it is told why, and what is here is served.
        let both = [wanted("shop/small", &small), wanted("shop/large", &large)];
        world.admin.sync_group("edge", &both).await.unwrap();
        wait_for("the failure", LIMIT, async || {
            let status = site.status().await.ok()?;
            let failed = status["satellite"]["failed"].as_array()?.iter();
            let told = |failed: &serde_json::Value, key: &str, what: &str| {
                failed[key].as_str().is_some_and(|text| text.contains(what))
            };
            let mut ours = failed.filter(|failed| told(failed, "reference", "/shop/large:1"));
            ours.any(|failed| told(failed, "reason", "no space left")).then_some(())
        })
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", files::tail(&site.log(), 30)));
        assert_eq!(registry.digest("shop/large", "1").await.unwrap(), None);
        for repository in ["shop/small", "dev/small"] {
            assert!(registry.verify(repository, "1").await.unwrap().is_some(), "{repository}");
        }

        disk.resize(256).await.unwrap();
        site.wait_for_tag("shop/large", "1", large.root.digest, LIMIT).await.unwrap();
        registry.push("dev/large", "1", &large).await.unwrap();
        for repository in ["shop/large", "dev/large"] {
            assert!(registry.verify(repository, "1").await.unwrap().is_some(), "{repository}");
        }
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// 64 MiB of an image folder's disk stay free.
#[test]
fn a_full_image_folder_and_a_full_place_for_an_export() {
    let name = "full::a_full_image_folder_and_a_full_place_for_an_export";
    let result = machine::alone(name, async |machine| {
        let mut folder = None;
        let prepare = async |images: &Path| folder = Some(machine.disk(images, 64).await.unwrap());
        let mut scene = Scene::start_prepared(&[], prepare).await;
        let waits = wait_for("the failure", LIMIT, async || {
            let status = scene.site.status().await.ok()?;
            let delivery = &status["satellite"]["deliveries"]["/var/lib/rancher/k3s/agent/images"];
            let why = delivery["failed"][0]["reason"].as_str()?.to_owned();
            (delivery["state"] == "waiting").then_some(why)
        });
        let why = waits.await.unwrap();
        assert!(why.contains("make room on its disk"), "{why}");
        assert!(why.contains("/var/lib/rancher/k3s/agent/images"), "{why}");
        assert_eq!(tars(&scene.images()).len(), 0);
        let left: Vec<_> = files_of(&scene.images().join(".harbor-satellite"));
        assert!(!left.iter().any(|path| path.extension().is_some_and(|end| end == "partial")), "{left:?}");

        // An export, from the running satellite and without it.
        let place = machine.folder().join("exported");
        let small = machine.disk(&place, 1).await.unwrap();
        let file = place.join("image.tar");
        let reference = format!("{REPOSITORY}:{TAG}");
        let words = [reference.as_str(), "-o", file.to_str().unwrap()];
        let fails = async |scene: &Scene| {
            let error = scene.site.export(&words).await.unwrap_err().to_string();
            assert!(error.contains("exit status: 1"), "{error}");
            assert!(error.contains(file.to_str().unwrap()) && error.contains("No space left"), "{error}");
            assert_eq!(files_of(&place), Vec::<std::path::PathBuf>::new());
        };
        fails(&scene).await;
        scene.kill();
        fails(&scene).await;

        small.resize(64).await.unwrap();
        scene.site.export(&words).await.unwrap();
        assert_eq!(files_of(&place), std::slice::from_ref(&file));
        folder.unwrap().resize(160).await.unwrap();
        scene.restart().await;
        let archives = scene.delivered(1).await;
        assert_eq!(std::fs::read(&archives[0]).unwrap(), std::fs::read(&file).unwrap());
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
