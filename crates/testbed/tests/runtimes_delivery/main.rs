//! Images without a pull: archives in the image folder, which containerd imports, and `satellite export`, which Docker and
//! Podman load. Nothing is fetched a second time for either.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

mod full;
mod imports;
mod scene;

use std::time::Duration;

use scene::{REPOSITORY, Scene, TAG, files_of, tars};
use testbed::containerd::{Containerd, Options};
use testbed::docker::Docker;
use testbed::image;
use testbed::podman::Podman;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn containerd_imports_what_is_delivered() {
    imports::whole(&Options::default()).await;
}

#[tokio::test]
async fn a_tag_that_moves_replaces_its_archive() {
    imports::moved(&Options::default()).await;
}

#[tokio::test]
async fn an_index_without_all_of_its_platforms_is_imported() {
    imports::sparse(&Options::default()).await;
}

#[tokio::test]
async fn this_machines_own_platform_is_imported_by_whoever_takes_all() {
    imports::own(&Options::default()).await;
}

#[tokio::test]
async fn a_kill_while_it_is_written_leaves_no_archive() {
    let mut scene = Scene::start(&[]).await;
    scene.delivered(1).await;
    let large = image::random(&scene.world.dir().join("large"), 9, &[96 << 20]).unwrap();
    scene.world.registry().push("team/large", "1", &large).await.unwrap();
    let (_, both) = scene.wanted(&[("team/large", "1", large.root.digest)]);
    scene.world.admin.sync_group("edge", &both).await.unwrap();
    let corner = scene.images().join(".harbor-satellite");
    let under_way = move || {
        let names = files_of(&corner);
        names.iter().any(|path| path.extension().is_some_and(|end| end == "partial"))
    };
    // A look a millisecond, on a thread of its own, which stops the satellite there and then: writing takes less than a
    // look of the others, and on a busy machine less than their turn to kill.
    let satellite = rustix::process::Pid::from_raw(scene.process_id().cast_signed()).unwrap();
    let seen = tokio::task::spawn_blocking(move || {
        let end = std::time::Instant::now() + 2 * LIMIT;
        while !under_way() {
            assert!(std::time::Instant::now() < end, "it was never under way");
            std::thread::sleep(Duration::from_millis(1));
        }
        rustix::process::kill_process(satellite, rustix::process::Signal::STOP).unwrap();
    });
    seen.await.unwrap();
    scene.kill();
    assert_eq!(tars(&scene.images()).len(), 1, "the first one alone");
    scene.restart().await;
    let archives = scene.delivered(2).await;
    assert!(
        !files_of(&scene.images().join(".harbor-satellite"))
            .iter()
            .any(|path| path.extension().is_some_and(|end| end == "partial"))
    );
    let containerd = Containerd::start().await.unwrap();
    for archive in archives {
        containerd.ctr(&["images", "import", archive.to_str().unwrap()]).await.unwrap();
    }
    assert_eq!(scene::imported(&containerd, "docker.io/team/large:1").await, large.root.digest.to_string());
}

#[tokio::test]
async fn what_is_exported_is_loaded_by_docker_and_podman() {
    let mut scene = Scene::start(&[]).await;
    let (with, without) = (scene.world.dir().join("with.tar"), scene.world.dir().join("without.tar"));
    let reference = format!("{REPOSITORY}:{TAG}");
    scene.site.export(&[&reference, "--format=docker", "-o", with.to_str().unwrap()]).await.unwrap();
    let layout = scene.world.dir().join("layout.tar");
    scene.site.export(&[&format!("docker.io/{reference}"), "-o", layout.to_str().unwrap()]).await.unwrap();
    scene.kill();
    scene.site.export(&[&reference, "--format=docker", "-o", without.to_str().unwrap()]).await.unwrap();
    assert_eq!(std::fs::read(&with).unwrap(), std::fs::read(&without).unwrap());

    let config = scene.own_config().to_string();
    let names = [format!("docker.io/{reference}"), format!("{}/{reference}", scene.central)];
    let docker = Docker::start().await.unwrap();
    docker.docker(&["load", "--input", with.to_str().unwrap()]).await.unwrap();
    let podman = Podman::start().await.unwrap();
    podman.podman(&["load", "--input", with.to_str().unwrap()]).await.unwrap();
    for name in &names {
        let id = docker.docker(&["image", "inspect", "--format", "{{.Id}}", name]).await.unwrap();
        assert_eq!(id.trim(), config, "{name}");
        assert_eq!(docker.run(name, &["echo", "loaded"]).await.unwrap(), "loaded\n");
        let id = podman.podman(&["image", "inspect", "--format", "{{.Id}}", name]).await.unwrap();
        assert_eq!(format!("sha256:{}", id.trim()), config, "{name}");
        assert_eq!(podman.run(name, &["echo", "loaded"]).await.unwrap(), "loaded\n");
    }
    let containerd = Containerd::start().await.unwrap();
    containerd.ctr(&["images", "import", layout.to_str().unwrap()]).await.unwrap();
    assert_eq!(scene::imported(&containerd, &names[0]).await, scene.image.root.digest.to_string());
}
