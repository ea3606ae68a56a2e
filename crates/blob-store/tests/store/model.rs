//! Random operations against a model in memory, with crashes in between.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use blob_store::{Store, StoreError};
use bytes::Bytes;
use oci::{Digest, Reference};
use proptest::prelude::*;
use serde_json::json;

use crate::support::*;

const REPOSITORIES: [&str; 3] = ["a", "a/b", "c"];
const BLOBS: usize = 4;
const MANIFESTS: usize = 5;
const TAGS: [&str; 3] = ["x", "y", "latest"];

#[derive(Clone, Debug)]
enum Operation {
    PutBlob(usize, usize),
    Link(usize, usize),
    Unlink(usize, usize),
    Put(usize, usize, usize),
    Delete(usize, usize),
    SetTag(usize, usize, usize),
    DeleteTag(usize, usize),
    Collect,
    Reopen,
    Crash(Crash),
}

/// What a crash leaves: a copy of the files as they are, and then…
#[derive(Clone, Copy, Debug)]
enum Crash {
    Killed,
    TornTail,
    IndexLost,
    IndexDamaged,
}

fn operation() -> impl Strategy<Value = Operation> {
    let (r, b, m, t) = (0..REPOSITORIES.len(), 0..BLOBS, 0..MANIFESTS, 0..TAGS.len());
    prop_oneof![
        4 => (r.clone(), b.clone()).prop_map(|(r, b)| Operation::PutBlob(r, b)),
        2 => (r.clone(), b.clone()).prop_map(|(r, b)| Operation::Link(r, b)),
        2 => (r.clone(), b).prop_map(|(r, b)| Operation::Unlink(r, b)),
        6 => (r.clone(), m.clone(), t.clone()).prop_map(|(r, m, t)| Operation::Put(r, m, t)),
        2 => (r.clone(), m.clone()).prop_map(|(r, m)| Operation::Delete(r, m)),
        2 => (r.clone(), t.clone(), m).prop_map(|(r, t, m)| Operation::SetTag(r, t, m)),
        1 => (r, t).prop_map(|(r, t)| Operation::DeleteTag(r, t)),
        2 => Just(Operation::Collect),
        1 => Just(Operation::Reopen),
        2 => prop_oneof![
            Just(Crash::Killed), Just(Crash::TornTail), Just(Crash::IndexLost), Just(Crash::IndexDamaged)
        ].prop_map(Operation::Crash),
    ]
}

fn blob(b: usize) -> Bytes {
    content(b as u64, 50 + b)
}

/// The blobs that a manifest names, and the manifest that it refers to.
fn parts(m: usize) -> (Vec<usize>, Option<usize>) {
    match m {
        0 => (vec![0, 1], None),
        1 => (vec![0, 2], None),
        2 => (vec![3, 3], Some(0)),
        3 => (vec![1], Some(0)),
        _ => (vec![], None),
    }
}

fn manifest(m: usize) -> Bytes {
    let (blobs, subject) = parts(m);
    let Some((config, layers)) = blobs.split_first() else { return index(&[&manifest(0), &manifest(1)]) };
    let mut document = json!({
        "schemaVersion": 2, "mediaType": oci::media_type::OCI_MANIFEST,
        "config": descriptor("application/vnd.example", &blob(*config)),
        "layers": layers.iter().map(|l| descriptor("application/octet-stream", &blob(*l))).collect::<Vec<_>>(),
    });
    if let Some(subject) = subject {
        document["subject"] = descriptor(oci::media_type::OCI_MANIFEST, &manifest(subject));
    }
    to_bytes(&document)
}

fn digest_of(bytes: &Bytes) -> Digest {
    Digest::sha256(bytes)
}

#[derive(Debug, Default)]
struct Model {
    held: BTreeSet<usize>,
    links: BTreeSet<(usize, usize)>,
    manifests: BTreeSet<(usize, usize)>,
    /// Manifests whose bytes are still there.
    documents: BTreeSet<usize>,
    tags: BTreeMap<(usize, usize), usize>,
}

impl Model {
    fn named(&self, r: usize, b: usize) -> bool {
        self.manifests.iter().any(|(in_r, m)| *in_r == r && parts(*m).0.contains(&b))
    }

    fn visible(&self, r: usize, b: usize) -> bool {
        self.held.contains(&b) && (self.links.contains(&(r, b)) || self.named(r, b))
    }

    fn collect(&mut self) {
        let kept: BTreeSet<usize> = self
            .held
            .iter()
            .copied()
            .filter(|b| (0..REPOSITORIES.len()).any(|r| self.named(r, *b)))
            .collect();
        self.links.retain(|(_, b)| kept.contains(b));
        self.held = kept;
        self.documents = self.manifests.iter().map(|(_, m)| *m).collect();
    }
}

async fn step(store: &Store, model: &mut Model, operation: &Operation) {
    let name = |r: usize| repository(REPOSITORIES[r]);
    match *operation {
        Operation::PutBlob(r, b) => {
            put_blob(store, REPOSITORIES[r], &blob(b)).await;
            model.held.insert(b);
            model.links.insert((r, b));
        }
        Operation::Link(r, b) => {
            let linked = store.link_blob(&name(r), &digest_of(&blob(b))).await;
            assert_eq!(linked.is_ok(), model.held.contains(&b));
            if linked.is_ok() {
                model.links.insert((r, b));
            }
        }
        Operation::Unlink(r, b) => match store.unlink_blob(&name(r), &digest_of(&blob(b))).await {
            Ok(was) => {
                assert!(!model.named(r, b));
                assert_eq!(was, model.links.remove(&(r, b)));
            }
            Err(StoreError::BlobInUse { .. }) => assert!(model.named(r, b)),
            Err(e) => panic!("{e}"),
        },
        Operation::Put(r, m, t) => {
            let complete = parts(m).0.iter().all(|b| model.visible(r, *b));
            match try_put(store, REPOSITORIES[r], &manifest(m), &[TAGS[t]]).await {
                Ok(outcome) => {
                    assert!(complete);
                    assert_eq!(outcome.created, model.manifests.insert((r, m)));
                    model.documents.insert(m);
                    model.tags.insert((r, t), m);
                }
                Err(StoreError::MissingBlobs { .. }) => assert!(!complete),
                Err(e) => panic!("{e}"),
            }
        }
        Operation::Delete(r, m) => {
            let was = store.delete_manifest(&name(r), &digest_of(&manifest(m))).await.unwrap();
            assert_eq!(was, model.manifests.remove(&(r, m)));
            model.tags.retain(|(in_r, _), to| (*in_r, *to) != (r, m));
        }
        Operation::SetTag(r, t, m) => {
            let set = store.set_tag(&name(r), &tag(TAGS[t]), &digest_of(&manifest(m))).await;
            assert_eq!(set.is_ok(), model.manifests.contains(&(r, m)));
            if set.is_ok() {
                model.tags.insert((r, t), m);
            }
        }
        Operation::DeleteTag(r, t) => {
            let was = store.delete_tag(&name(r), &tag(TAGS[t])).await.unwrap();
            assert_eq!(was, model.tags.remove(&(r, t)).is_some());
        }
        Operation::Collect => {
            store.collect_garbage().await.unwrap();
            model.collect();
        }
        Operation::Reopen | Operation::Crash(_) => {}
    }
}

async fn compare(store: &Store, model: &Model) {
    let mut repositories = Vec::new();
    for (r, raw) in REPOSITORIES.iter().enumerate() {
        let name = repository(raw);
        for b in 0..BLOBS {
            let found = read_blob(store, raw, &digest_of(&blob(b))).await;
            assert_eq!(found, model.visible(r, b).then(|| blob(b)), "blob {b} in {raw}");
        }
        for m in 0..MANIFESTS {
            let digest = digest_of(&manifest(m));
            let found = store.manifest(&name, &Reference::Digest(digest)).unwrap();
            assert_eq!(found.is_some(), model.manifests.contains(&(r, m)), "manifest {m} in {raw}");
        }
        let mut tags = BTreeMap::new();
        for t in store.tags(&name, None, 99).unwrap().items {
            tags.insert(t.to_string(), store.resolve_tag(&name, &t).unwrap().unwrap());
        }
        let expected: BTreeMap<String, Digest> = model
            .tags
            .iter()
            .filter(|((in_r, _), _)| *in_r == r)
            .map(|((_, t), m)| (TAGS[*t].to_owned(), digest_of(&manifest(*m))))
            .collect();
        assert_eq!(tags, expected, "tags of {raw}");
        let referrers: BTreeSet<Digest> =
            store.referrers(&name, &digest_of(&manifest(0))).unwrap().iter().map(|d| d.digest).collect();
        let expected: BTreeSet<Digest> = [2, 3]
            .iter()
            .filter(|m| model.manifests.contains(&(r, **m)))
            .map(|m| digest_of(&manifest(*m)))
            .collect();
        assert_eq!(referrers, expected, "referrers in {raw}");
        if model.manifests.iter().any(|(in_r, _)| *in_r == r) {
            repositories.push(name);
        }
    }
    assert_eq!(store.repositories(None, 99).unwrap().items, repositories);
    let usage = store.usage().unwrap();
    assert_eq!(usage.contents as usize, model.held.len() + model.documents.len());
    assert_eq!((usage.manifests as usize, usage.tags as usize), (model.manifests.len(), model.tags.len()));
}

/// Makes of a copy of the files what the crash leaves of them.
fn crash(from: &Path, to: &Path, crash: Crash) {
    copy_tree(from, to);
    let (index, journal) = (to.join("index.redb"), to.join("journal/journal"));
    match crash {
        Crash::Killed => {}
        Crash::TornTail => {
            // A batch that was being written, and never acknowledged.
            let mut file = std::fs::File::options().append(true).open(journal).unwrap();
            std::io::Write::write_all(&mut file, b"\xf7Frm\x10\0\0\0\x01\x02\x03").unwrap();
        }
        Crash::IndexLost => std::fs::remove_file(index).unwrap(),
        Crash::IndexDamaged => {
            std::fs::File::options().write(true).open(index).unwrap().set_len(5000).unwrap()
        }
    }
}

async fn run(operations: Vec<Operation>) {
    let mut dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut model = Model::default();
    for operation in &operations {
        step(&store, &mut model, operation).await;
        match operation {
            Operation::Reopen => {
                drop(store);
                store = open(dir.path());
            }
            Operation::Crash(kind) => {
                let copy = tempfile::tempdir().unwrap();
                crash(dir.path(), copy.path(), *kind);
                drop(store);
                store = open(copy.path());
                dir = copy;
            }
            _ => continue,
        }
        compare(&store, &model).await;
    }
    compare(&store, &model).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(operations in proptest::collection::vec(operation(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(operations));
    }
}
