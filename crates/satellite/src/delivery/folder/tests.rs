use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use oci::{Digest, PlatformFilter, Tag};
use transfer::Progress;

use super::*;
use crate::archive::tests::{Stocked, files};
use crate::plan::{Fetch, Ours, Platforms};

fn naming() -> Naming {
    Naming::new(&["h.example".to_owned()], &BTreeMap::new())
}

fn artifact(repository: &str, digest: Digest) -> Artifact {
    Artifact { repository: repository.parse().unwrap(), digest }
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn folder(path: &Path, stocked: &Stocked) -> ImageFolder {
    ImageFolder::new("/images".to_owned(), path.to_owned(), stocked.store.clone(), Choice::Here)
}

fn pulling(folder: &ImageFolder, artifact: &Artifact, tags: &[&str]) -> Pulling {
    folder.pull(Pull {
        artifact: artifact.clone(),
        tags: tags.iter().map(|text| tag(text)).collect(),
        part: Fetch::Graph,
        platforms: PlatformFilter::all(),
        names: naming().of(&artifact.repository),
        source: None,
        progress: Arc::<Progress>::default(),
    })
}

async fn observed(folder: &mut ImageFolder, wanted: &[(&Artifact, &[&str])], naming: &Naming) -> Present {
    let mut asked = Asked::default();
    for (artifact, tags) in wanted {
        asked.artifacts.insert((*artifact).clone(), Platforms::default());
        let entry = asked.tags.entry(artifact.repository.clone()).or_default();
        entry.extend(tags.iter().map(|text| (tag(text), Platforms::default())));
    }
    let (ours, platforms) = (Ours::default(), PlatformFilter::all());
    let look = Look { asked: &asked, ours: &ours, platforms: &platforms, recheck: Duration::ZERO, naming };
    folder.observe(look).await.unwrap()
}

fn tars(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "tar")).collect();
    found.sort();
    found
}

fn names_in(path: &Path) -> BTreeSet<String> {
    let bytes = fs::read(path).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&files(&bytes)["index.json"]).unwrap();
    let roots = index["manifests"].as_array().unwrap().iter();
    roots.map(|root| root["annotations"]["io.containerd.image.name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_archive_comes_stays_moves_and_goes() {
    let (stocked, dir) = (Stocked::new(), tempfile::tempdir().unwrap());
    // Not there yet: k3s was never started.
    let path = dir.path().join("agent/images");
    let mut images = folder(&path, &stocked);
    let (one, _) = stocked.image("library/busybox", b"one", &["1"]).await;
    let one = artifact("library/busybox", one);
    let wanted: &[(&Artifact, &[&str])] = &[(&one, &["1", "latest"])];
    assert_eq!(observed(&mut images, wanted, &naming()).await, Present::default());
    pulling(&images, &one, &["1", "latest"]).await.unwrap();
    let present = observed(&mut images, wanted, &naming()).await;
    let held = &present.repositories[&one.repository];
    assert!(held.manifests[&one.digest].whole);
    assert_eq!(held.tags, BTreeMap::from([(tag("1"), one.digest), (tag("latest"), one.digest)]));
    let before = tars(&path);
    assert_eq!(before.len(), 2);
    let both = |tag: &str| {
        BTreeSet::from([
            format!("h.example/library/busybox:{tag}"),
            format!("docker.io/library/busybox:{tag}"),
        ])
    };
    assert_eq!(
        before.iter().map(|path| names_in(path)).collect::<BTreeSet<_>>(),
        BTreeSet::from([both("1"), both("latest")])
    );

    // The tag moves to an image whose archive is exactly as long.
    let (two, _) = stocked.image("library/busybox", b"two", &["latest"]).await;
    let two = artifact("library/busybox", two);
    let lengths =
        |paths: &[PathBuf]| paths.iter().map(|path| fs::metadata(path).unwrap().len()).collect::<Vec<_>>();
    let old = lengths(&before);
    pulling(&images, &two, &["latest"]).await.unwrap();
    assert_eq!(tars(&path), before, "in the same file");
    let new = lengths(&before);
    assert_eq!(old.iter().zip(&new).filter(|(old, new)| old != new).count(), 1, "k3s sees it by its length");
    let wanted: &[(&Artifact, &[&str])] = &[(&one, &["1"]), (&two, &["latest"])];
    let present = observed(&mut images, wanted, &naming()).await;
    let held = &present.repositories[&one.repository];
    assert_eq!(held.tags, BTreeMap::from([(tag("1"), one.digest), (tag("latest"), two.digest)]));

    // A removal that comes late does not hit the new archive.
    let late = Removal::Tag { repository: one.repository.clone(), tag: tag("latest"), digest: one.digest };
    assert!(!images.remove(&late).await.unwrap());
    let due = Removal::Tag { repository: one.repository.clone(), tag: tag("latest"), digest: two.digest };
    assert!(images.remove(&due).await.unwrap());
    assert_eq!(tars(&path).len(), 1);
    assert!(!images.remove(&Removal::Manifest(two.clone())).await.unwrap());

    drop(images);
    assert_eq!(ImageFolder::clear(&path).unwrap(), 1);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    assert_eq!(ImageFolder::clear(&path.join("gone")).unwrap(), 0);
}

#[tokio::test]
async fn what_is_not_as_it_was_written_is_written_again() {
    let (stocked, dir) = (Stocked::new(), tempfile::tempdir().unwrap());
    let mut images = folder(dir.path(), &stocked);
    let (digest, _) = stocked.image("a/b", b"layer", &["1"]).await;
    let one = artifact("a/b", digest);
    let wanted: &[(&Artifact, &[&str])] = &[(&one, &["1"])];
    pulling(&images, &one, &["1"]).await.unwrap();
    let file = tars(dir.path()).remove(0);
    let there = async |images: &mut ImageFolder, naming: &Naming| {
        let present = observed(images, wanted, naming).await;
        present.repositories[&one.repository].tags.contains_key(&tag("1"))
    };
    assert!(there(&mut images, &naming()).await);
    // The central registry has another name now.
    let other = Naming::new(&["other.example".to_owned()], &BTreeMap::new());
    assert!(!there(&mut images, &other).await);
    // Somebody cut it.
    let bytes = fs::read(&file).unwrap();
    durable::write_file(&file, &bytes[..bytes.len() - 1], 0o600).unwrap();
    assert!(!there(&mut images, &naming()).await);
    pulling(&images, &one, &["1"]).await.unwrap();
    assert!(there(&mut images, &naming()).await);
    // Another process of ours, later, knows it, too.
    let mut again = folder(dir.path(), &stocked);
    assert!(there(&mut again, &naming()).await);
    durable::remove_file(&file).unwrap();
    assert!(!there(&mut again, &naming()).await);
}

#[tokio::test]
async fn by_digest_alone_it_bears_the_digest() {
    let (stocked, dir) = (Stocked::new(), tempfile::tempdir().unwrap());
    let mut images = folder(dir.path(), &stocked);
    let (digest, _) = stocked.image("quay.io/a/b", b"layer", &[]).await;
    let one = artifact("quay.io/a/b", digest);
    pulling(&images, &one, &[]).await.unwrap();
    let names = names_in(&tars(dir.path())[0]);
    let expected = [format!("h.example/quay.io/a/b@{digest}"), format!("quay.io/a/b@{digest}")];
    assert_eq!(names, BTreeSet::from(expected));
    let present = observed(&mut images, &[(&one, &[])], &naming()).await;
    assert!(present.repositories[&one.repository].manifests[&digest].whole);
    assert!(images.remove(&Removal::Manifest(one)).await.unwrap());
}

#[tokio::test]
async fn a_failure_leaves_nothing_and_says_why() {
    let (stocked, dir) = (Stocked::new(), tempfile::tempdir().unwrap());
    let images = folder(dir.path(), &stocked);
    let gone = artifact("a/b", Digest::sha256(b"gone"));
    let error = pulling(&images, &gone, &["1"]).await.unwrap_err();
    assert!(error.reason.contains("not in the local store"), "{error}");
    // The folder is a file.
    let file = dir.path().join("file");
    durable::write_file(&file, b"", 0o600).unwrap();
    let (digest, _) = stocked.image("a/b", b"layer", &["1"]).await;
    let error = pulling(&folder(&file, &stocked), &artifact("a/b", digest), &["1"]).await.unwrap_err();
    assert!(error.reason.contains("/images") && error.temporary, "{error}");
    assert!(tars(dir.path()).is_empty());
}

#[tokio::test]
async fn a_pull_that_is_dropped_leaves_nothing_with_an_archives_suffix() {
    let (stocked, dir) = (Stocked::new(), tempfile::tempdir().unwrap());
    let images = folder(dir.path(), &stocked);
    let (digest, _) = stocked.image("a/b", &vec![7; 64 << 20], &["1"]).await;
    let pull = tokio::spawn(pulling(&images, &artifact("a/b", digest), &["1"]));
    let corner = dir.path().join(".harbor-satellite");
    // Until it is under way.
    while fs::read_dir(&corner).map_or(0, Iterator::count) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(tars(dir.path()).is_empty());
    pull.abort();
    drop(pull.await);
    // The thread that writes sees it at its next piece.
    while fs::read_dir(&corner)
        .unwrap()
        .any(|entry| entry.unwrap().path().extension().is_some_and(|end| end == "partial"))
    {
        tokio::task::yield_now().await;
    }
    assert!(tars(dir.path()).is_empty());
}
