use std::path::Path;
use std::time::Duration;

use blob_store::export::{self, Export, Mark};
use blob_store::{Options, Store};
use oci::Digest;

use crate::support::*;

/// With the grace that holds what a copy is being made of.
fn open_patient(dir: &Path) -> Store {
    Store::open(dir, Options { grace: Duration::from_secs(3600), ..options() }).unwrap()
}

/// Makes a copy whole and opens it.
fn copy(from: &Path, to: &Path, mark: Mark) -> Store {
    let export = Export::begin(from, to, mark).unwrap();
    assert_eq!(export.left_out().unwrap(), []);
    export.journal().unwrap();
    drop(export);
    assert_eq!(export::check(to).unwrap(), []);
    open(to)
}

#[tokio::test]
async fn a_copy_has_what_was_there_at_the_mark_and_since() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_patient(dir.path());
    let deleted = push_image(&store, "a", 1, &["t", "u"]).await;
    let kept = push_image(&store, "b", 2, &["t"]).await;
    let mark = Mark::take(dir.path()).unwrap();
    store.delete_manifest(&repository("a"), &Digest::sha256(&deleted)).await.unwrap();
    store.collect_garbage().await.unwrap();
    let since = push_image(&store, "c", 3, &["t"]).await;
    let copy = copy(dir.path(), to.path(), mark);
    for (name, manifest) in [("a", &deleted), ("b", &kept), ("c", &since)] {
        let digest = Digest::sha256(manifest);
        assert_eq!(copy.resolve_tag(&repository(name), &tag("t")).unwrap(), Some(digest));
        assert!(copy.wholeness(&repository(name), &digest).await.unwrap().is_whole(), "{name}");
    }
    assert_eq!(store.resolve_tag(&repository("a"), &tag("t")).unwrap(), None, "the store goes on as it was");
    assert!(export::is_open(dir.path()).unwrap());
    drop(store);
    assert!(!export::is_open(dir.path()).unwrap());
}

#[tokio::test]
async fn beside_pushes_and_compactions_a_copy_has_all_that_was_acknowledged() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path(), Options { journal_slack: 0, ..options() }).unwrap();
    let mut before = Vec::new();
    for seed in 0..20 {
        before.push(push_image(&store, &format!("r{}", seed % 3), seed, &[&format!("t{seed}")]).await);
    }
    let mark = Mark::take(dir.path()).unwrap();
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for seed in 100..160 {
                push_image(&store, "more", seed, &["t"]).await;
            }
        }
    });
    let (from, staging) = (dir.path().to_owned(), to.path().to_owned());
    let copy = tokio::task::spawn_blocking(move || copy(&from, &staging, mark)).await.unwrap();
    writer.await.unwrap();
    for (seed, manifest) in before.iter().enumerate() {
        let (name, digest) = (repository(&format!("r{}", seed % 3)), Digest::sha256(manifest));
        assert_eq!(copy.resolve_tag(&name, &tag(&format!("t{seed}"))).unwrap(), Some(digest));
        assert!(copy.wholeness(&name, &digest).await.unwrap().is_whole());
    }
}

#[tokio::test]
async fn what_is_damaged_is_left_out_is_named_and_can_be_put_again() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_patient(dir.path());
    let manifest = push_image(&store, "a", 1, &["t"]).await;
    let (gone, wrong) = (content(1, 100), content(1_000_001, 5000));
    let (config, layer) = (Digest::sha256(&gone), Digest::sha256(&wrong));
    std::fs::remove_file(file_of(dir.path(), &config)).unwrap();
    let export = Export::begin(dir.path(), to.path(), Mark::take(dir.path()).unwrap()).unwrap();
    assert_eq!(export.left_out().unwrap(), [config]);
    let exported: Vec<Digest> = export.contents().unwrap().iter().map(|content| content.digest).collect();
    assert_eq!(exported.len(), 2);
    assert!(export.path(&layer).try_exists().unwrap());
    // Its bytes turned out to be others.
    export.leave_out(&layer).unwrap();
    export.journal().unwrap();
    drop(export);
    assert_eq!(export::check(to.path()).unwrap(), []);
    let copy = open(to.path());
    let (name, digest) = (repository("a"), Digest::sha256(&manifest));
    assert!(!copy.wholeness(&name, &digest).await.unwrap().is_whole());
    put_blob(&copy, "a", &gone).await;
    put_blob(&copy, "a", &wrong).await;
    assert!(copy.wholeness(&name, &digest).await.unwrap().is_whole());
}

#[tokio::test]
async fn nothing_is_copied_of_nothing() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = copy(&dir.path().join("none"), to.path(), Mark::take(&dir.path().join("none")).unwrap());
    assert_eq!(copy.usage().unwrap(), blob_store::Usage::default());
}
