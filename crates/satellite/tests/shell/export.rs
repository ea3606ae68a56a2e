//! `satellite export`: from the running one, from the store of one that does not run, and when it cannot be.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use blob_store::{Completeness, PutManifest, Store};
use bytes::Bytes;
use oci::{Digest, media_type};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Site, spawn};

const IMAGE: &str = "library/app:1";

/// An image whose layer has this length; the digest of its config.
fn stocked(site: &Site, layer: usize) -> Digest {
    let repository: oci::RepositoryName = "library/app".parse().unwrap();
    let config = Bytes::from_static(
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
    );
    let (config_digest, layer) = (Digest::sha256(&config), Bytes::from(vec![0x5a; layer]));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": media_type::OCI_CONFIG, "digest": config_digest.to_string(), "size": config.len()},
        "layers": [{"mediaType": media_type::OCI_LAYER, "digest": Digest::sha256(&layer).to_string(), "size": layer.len()}],
    });
    let manifest = Bytes::from(manifest.to_string());
    site.fill(async |store: &Store| {
        for blob in [config.clone(), layer.clone()] {
            store.put_blob(&repository, &Digest::sha256(&blob), blob).await.unwrap();
        }
        let put = PutManifest {
            repository: repository.clone(),
            digest: Digest::sha256(&manifest),
            media_type: None,
            bytes: manifest.clone(),
            tags: vec!["1".parse().unwrap()],
            completeness: Completeness::VisibleHere,
        };
        store.put_manifest(put).await.unwrap();
    });
    config_digest
}

fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(std::fs::File::open(path).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), bytes)
    });
    entries.collect()
}

fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().ends_with(".partial")).collect()
}

fn export(site: &Site, arguments: &[&str]) -> (Option<i32>, String) {
    let ended = site.run(&[&["export"], arguments].concat());
    (ended.code, ended.stderr)
}

#[test]
fn with_and_without_a_satellite_it_is_the_same_file() {
    let site = Site::new();
    let config = stocked(&site, 300_000);
    let out = |name: &str| site.folder().join(name);
    let (without, with) = (out("without.tar"), out("with.tar"));
    for (format, path) in [("docker", "manifest.json"), ("oci", "index.json")] {
        let arguments = |file: &Path| {
            let file = file.to_str().unwrap().to_owned();
            move |site: &Site| {
                export(site, &[IMAGE, "--format", format, "--platform=linux/amd64", "-o", &file])
            }
        };
        assert_eq!(arguments(&without)(&site), (Some(0), String::new()));
        {
            let mut running = site.start();
            assert_eq!(arguments(&with)(&site), (Some(0), String::new()));
            // To the standard output, and a name of one's own.
            let ended =
                site.run(&["export", IMAGE, "--format", format, "--name=other:2", "--output=/dev/null"]);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert_eq!(running.stop(), Some(0));
        }
        assert_eq!(std::fs::read(&without).unwrap(), std::fs::read(&with).unwrap());
        let files = files(&with);
        let list: Value = serde_json::from_slice(&files[path]).unwrap();
        if format == "docker" {
            assert_eq!(list[0]["RepoTags"], json!(["docker.io/library/app:1"]));
            assert_eq!(list[0]["Config"], format!("blobs/sha256/{}", config.hex()));
        }
        assert!(files.contains_key(&format!("blobs/sha256/{}", config.hex())));
    }
    assert!(unfinished(site.folder()).is_empty());
}

#[test]
fn what_cannot_be_exported_leaves_no_file() {
    let site = Site::new();
    let out = site.folder().join("out.tar");
    let file = out.to_str().unwrap();
    let (code, text) = export(&site, &[IMAGE, "-o", file]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("no satellite runs"), "{text}");
    stocked(&site, 1000);
    for (arguments, expected, why) in [
        (vec!["library/app:2", "-o", file], 1, "not here"),
        (vec!["Nonsense", "-o", file], 2, "names no image"),
        (vec![IMAGE, "-o", file, "--platform=linux/arm64"], 1, "linux/arm64"),
        (vec![IMAGE, "library/b", "--name=x", "-o", file], 2, "one image only"),
        (vec![IMAGE, "-o", "/nowhere/out.tar"], 1, "cannot be written"),
        (vec![IMAGE], 2, "--output"),
        (vec![IMAGE, "-o", file, "--format=zip"], 2, "format"),
    ] {
        let without = export(&site, &arguments);
        let running = site.start();
        let with = export(&site, &arguments);
        drop(running);
        for (code, text) in [without, with] {
            assert!(text.contains(why), "{arguments:?}: {text}");
            assert_eq!(code, Some(expected), "{arguments:?}: {text}");
        }
    }
    assert!(!out.try_exists().unwrap());
    assert!(unfinished(site.folder()).is_empty());
}

#[test]
fn an_interruption_leaves_no_file() {
    let site = Site::new();
    stocked(&site, 48 << 20);
    let out = site.folder().join("out.tar");
    let running = site.start();
    let mut command = site.command(&["export", IMAGE, "-o", out.to_str().unwrap()]);
    let mut exporting = spawn(command.stderr(Stdio::null()));
    let end = Instant::now() + PATIENCE;
    while unfinished(site.folder()).is_empty() {
        assert!(Instant::now() < end && exporting.try_wait().unwrap().is_none(), "it was never under way");
        std::thread::sleep(Duration::from_millis(1));
    }
    // The satellite stands still, so that the export cannot come to its end.
    let signal = |pid: u32, signal| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    };
    signal(running.pid(), rustix::process::Signal::STOP);
    assert!(!out.try_exists().unwrap());
    signal(exporting.id(), rustix::process::Signal::INT);
    let code = exporting.wait().unwrap().code();
    signal(running.pid(), rustix::process::Signal::CONT);
    assert_eq!(code, Some(130));
    assert!(unfinished(site.folder()).is_empty() && !out.try_exists().unwrap());
}
