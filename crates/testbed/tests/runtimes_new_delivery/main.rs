//! What `runtimes_delivery` shows of containerd, with containerd 2.2.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

#[path = "../runtimes_delivery/imports.rs"]
mod imports;
#[path = "../runtimes_delivery/scene.rs"]
#[allow(dead_code, reason = "Docker and Podman are not here")]
mod scene;

use testbed::containerd::Options;
use testbed::go_programs::CONTAINERD;

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
