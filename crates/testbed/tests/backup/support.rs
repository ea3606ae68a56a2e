//! The program's commands, and what a place holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use oci::Digest;
use reqwest::Method;
use serde_json::Value;
use testbed::admin::{Admin, Wanted};
use testbed::ground_control::Place;
use testbed::image::{self, Image};
use testbed::registry::Registry;
use testbed::{command, files};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Runs the program of a place with these arguments.
pub(crate) async fn run(place: &Place, arguments: &[&str]) -> Output {
    let mut program = place.command().unwrap();
    program.args(arguments);
    command::output(program).await.unwrap()
}

/// The same, which must go well; what it logged.
pub(crate) async fn done(place: &Place, arguments: &[&str]) -> String {
    let output = run(place, arguments).await;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {log}");
    log
}

/// The same, which must be refused; what it said.
pub(crate) async fn refused(place: &Place, arguments: &[&str]) -> String {
    let output = run(place, arguments).await;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {log}");
    log
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file with a passphrase.
pub(crate) fn passphrase(dir: &Path) -> PathBuf {
    let path = dir.join("passphrase");
    files::write_private(&path, "correct horse battery staple\n").unwrap();
    path
}

/// Makes an image of random layers and pushes it.
pub(crate) async fn push(registry: &Registry, dir: &Path, repository: &str, tag: &str, seed: u64) -> Image {
    let image = image::random(&dir.join(format!("image-{seed}")), seed, &[20_000, 5_000]).unwrap();
    registry.push(repository, tag, &image).await.unwrap();
    image
}

/// Pushes an image and has a group list it.
pub(crate) async fn wanted(admin: &Admin, registry: &Registry, dir: &Path, group: &str, seed: u64) -> Digest {
    let repository = format!("shop/{group}");
    let image = push(registry, dir, &repository, "live", seed).await;
    admin.sync_group(group, &[Wanted::new(&repository, "live", image.root.digest)]).await.unwrap();
    image.root.digest
}

/// What each group lists: digests by the group's name.
pub(crate) async fn groups(admin: &Admin) -> BTreeMap<String, Vec<(String, Digest)>> {
    let mut groups = BTreeMap::new();
    for number in 1.. {
        let page = admin.call(Method::GET, &format!("/api/groups?page_size=100&page={number}"), None).await;
        let page = page.unwrap();
        let page: &Vec<Value> = page.as_array().unwrap();
        for group in page {
            let name = group["group_name"].as_str().unwrap().to_owned();
            let group = admin.call(Method::GET, &format!("/api/groups/{name}"), None).await.unwrap();
            let artifacts = group["artifacts"].as_array().unwrap().iter().map(|artifact| {
                let digest = artifact["digest"].as_str().unwrap().parse().unwrap();
                (artifact["repository"].as_str().unwrap().to_owned(), digest)
            });
            groups.insert(name, artifacts.collect());
        }
        if page.len() < 100 {
            break;
        }
    }
    groups
}

/// Every file below a folder, with its content, but for those that come and go with a look at it.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Digest> {
    files::walk(dir)
        .into_iter()
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            !name.ends_with("-shm") && !name.ends_with("-wal") && name != "lock"
        })
        .map(|path| {
            let content = std::fs::read(&path).unwrap();
            (path.strip_prefix(dir).unwrap().to_owned(), Digest::sha256(&content))
        })
        .collect()
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    for path in files::walk(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        files::create_dir(target.parent().unwrap()).unwrap();
        std::fs::copy(&path, &target).unwrap();
    }
}
