//! Files as operators have them — comments, odd orders, old versions, settings that exclude ours, broken syntax — and what
//! becomes of each: the golden text beside it, or the refusal. Whatever was edited comes back byte for byte.
//!
//! `UPDATE_CORPUS=1 cargo test --workspace --test corpus` writes the golden texts anew; read the difference.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use container_runtimes::containerd::Version;
use container_runtimes::containerd::config::{self, Legacy};
use container_runtimes::containerd::hosts::{self, MirrorHost};
use container_runtimes::rancher::MirrorEndpoint;
use container_runtimes::registries::MirrorEntry;
use container_runtimes::{Edit, Refusal, docker, rancher, registries};

const OURS: &str = "http://127.0.0.1:8585";
/// The least that the corpus holds.
const SIZE: usize = 40;

/// The engine's version, with which the name of a file begins.
fn engine(name: &str) -> Version {
    let mut numbers = name.split('-').next().unwrap().split('.').map(|number| number.parse().unwrap());
    let mut next = || numbers.next().unwrap();
    Version::new(next(), next(), next())
}

/// The edit, and what else there is to tell of it.
fn edit(kind: &str, name: &str, text: &str) -> Result<(Edit, String), Refusal> {
    let plain = |edit: Edit| (edit, String::new());
    let entry = |prefix: &str, location: &str| MirrorEntry {
        prefix: prefix.to_owned(),
        location: location.to_owned(),
        insecure: true,
    };
    let endpoint = |registry: &str| MirrorEndpoint { registry: registry.to_owned(), url: OURS.to_owned() };
    match kind {
        "containerd" => config::apply(Some(text), engine(name), Legacy::Move, None).map(|applied| {
            let mut told = format!("folder: {}\n", applied.folder);
            for folder in &applied.copy_from {
                told += &format!("read no more: {folder}\n");
            }
            for moved in &applied.moved {
                told += &format!("moved: {moved:?}\n");
            }
            (applied.edit, told)
        }),
        "hosts" => hosts::apply(Some(text), "quay.io", &[MirrorHost::new(OURS)]).map(plain),
        "docker" => docker::apply(Some(text), &[OURS.to_owned()]).map(plain),
        "registries" => {
            let wanted = [entry("docker.io", "127.0.0.1:8585"), entry("quay.io", "127.0.0.1:8585/quay.io")];
            registries::apply(Some(text), &wanted).map(plain)
        }
        "rancher" => rancher::apply(Some(text), &[endpoint("docker.io"), endpoint("quay.io")]).map(plain),
        other => panic!("{other}"),
    }
}

/// What becomes of a file.
fn result(kind: &str, name: &str, text: &str) -> String {
    match edit(kind, name, text) {
        Err(refusal) => format!("refused: {refusal}\n"),
        Ok((edit, told)) => {
            assert_eq!(edit.undo(), text, "{kind}/{name} does not come back");
            let (again, _) = edit_again(kind, name, &edit.text);
            assert!(!again.is_change(), "{kind}/{name} is edited twice:\n{}", again.text);
            let what = if edit.is_change() { "edited" } else { "unchanged" };
            format!("{what}\n{told}---\n{}", edit.text)
        }
    }
}

fn edit_again(kind: &str, name: &str, text: &str) -> (Edit, String) {
    edit(kind, name, text).unwrap_or_else(|refusal| panic!("{kind}/{name}, once edited: {refusal}"))
}

fn files() -> Vec<(String, PathBuf)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files = Vec::new();
    for kind in std::fs::read_dir(corpus).unwrap() {
        let kind = kind.unwrap();
        for file in std::fs::read_dir(kind.path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "golden") {
                files.push((kind.file_name().into_string().unwrap(), path));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn each_file_becomes_what_its_golden_text_says() {
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    let files = files();
    assert!(files.len() >= SIZE, "{}", files.len());
    for (kind, path) in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let result = result(&kind, name, &std::fs::read_to_string(&path).unwrap());
        let golden = path.with_file_name(format!("{name}.golden"));
        if update {
            std::fs::File::create(&golden).unwrap().write_all(result.as_bytes()).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(result, expected, "{kind}/{name}");
    }
}
