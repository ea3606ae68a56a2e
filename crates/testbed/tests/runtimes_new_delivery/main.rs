//! What `runtimes_delivery` shows, with containerd 2.2 and Docker Engine 29.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

#[path = "../runtimes_delivery/imports.rs"]
mod imports;
#[path = "../runtimes_delivery/scene.rs"]
#[allow(dead_code, reason = "not all of it is shown again")]
mod scene;

use std::process::Command;

use scene::{REPOSITORY, Scene, TAG};
use testbed::containerd::Options;
use testbed::docker::{self, Docker};
use testbed::go_programs::{CONTAINERD, DOCKERD, RUNC};
use testbed::{command, files};

fn options() -> Options {
    Options { programs: Some(CONTAINERD.folder().unwrap()), ..Options::default() }
}

#[tokio::test]
async fn containerd_imports_what_is_delivered() {
    imports::whole(&options()).await;
}

#[tokio::test]
async fn a_tag_that_moves_replaces_its_archive() {
    imports::moved(&options()).await;
}

#[tokio::test]
async fn an_index_without_all_of_its_platforms_is_imported() {
    imports::sparse(&options()).await;
}

#[tokio::test]
async fn this_machines_own_platform_is_imported_by_whoever_takes_all() {
    imports::own(&options()).await;
}

/// Its programs are looked for in one folder.
fn together() -> tempfile::TempDir {
    let folder = files::scratch("programs").unwrap();
    for program in [CONTAINERD, DOCKERD, RUNC] {
        for entry in std::fs::read_dir(program.folder().unwrap()).unwrap().map(Result::unwrap) {
            // Each folder has the lock of its build.
            if entry.file_name() != "lock" {
                std::os::unix::fs::symlink(entry.path(), folder.path().join(entry.file_name())).unwrap();
            }
        }
    }
    folder
}

/// Loads what is exported for Docker into an engine that keeps its images like this. Nothing is run: the runc that Go builds
/// has no seccomp.
async fn loaded(containerd_store: bool) {
    let scene = Scene::start(&[]).await;
    let programs = together();
    let options = docker::Options {
        programs: Some(programs.path().to_owned()),
        containerd_store,
        ..docker::Options::default()
    };
    let docker = Docker::start_with(options).await.unwrap();
    let version = docker.docker(&["version", "--format", "{{.Server.Version}}"]).await.unwrap();
    assert!(version.starts_with("29."), "{version}");
    let reference = format!("{REPOSITORY}:{TAG}");
    let archive = scene.world.dir().join("exported.tar");
    let archive = archive.to_str().unwrap();
    scene.site.export(&[&reference, "--format=docker", "-o", archive]).await.unwrap();
    docker.docker(&["load", "--input", archive]).await.unwrap();
    let config = scene.own_config();
    for name in [format!("docker.io/{reference}"), format!("{}/{reference}", scene.central)] {
        if containerd_store {
            // Its id is the manifest's there, which it has made itself.
            let saved = scene.world.dir().join("saved.tar");
            docker.docker(&["save", "--output", saved.to_str().unwrap(), &name]).await.unwrap();
            let mut tar = Command::new("tar");
            tar.arg("-xOf").arg(&saved).arg("manifest.json");
            let manifest = command::run(tar).await.unwrap();
            assert!(manifest.contains(&config.hex()), "{name}: {manifest}");
        } else {
            let id = docker.docker(&["image", "inspect", "--format", "{{.Id}}", &name]).await.unwrap();
            assert_eq!(id.trim(), config.to_string(), "{name}");
        }
    }
}

#[tokio::test]
async fn docker_loads_what_is_exported() {
    loaded(false).await;
}

#[tokio::test]
async fn docker_with_the_store_of_containerd_loads_what_is_exported() {
    loaded(true).await;
}
