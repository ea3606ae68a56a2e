//! What the store costs: opening with 10,000 images, looking manifests up, putting.
//!
//! `cargo bench -p blob-store`; figures of a machine are only to be compared with figures of the same one.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on ends")]

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use blob_store::{Completeness, Options, PutManifest, Store};
use bytes::Bytes;
use divan::Bencher;
use oci::{Digest, Reference, RepositoryName, media_type};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const IMAGES: usize = 10_000;
const REPOSITORIES: usize = 100;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime starts"));
static FILLED: LazyLock<TempDir> = LazyLock::new(fill);

fn main() {
    divan::main();
}

fn name(n: usize) -> RepositoryName {
    format!("library/r{}", n % REPOSITORIES).parse().expect("a valid name")
}

fn manifest(config: &Digest, n: usize) -> Bytes {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[],"annotations":{{"n":"{n}"}}}}"#,
        media_type::OCI_MANIFEST,
        media_type::OCI_CONFIG,
    )
    .into()
}

async fn put(store: &Store, n: usize) {
    let bytes = manifest(&Digest::sha256(b"{}"), n);
    let put = PutManifest {
        repository: name(n),
        digest: Digest::sha256(&bytes),
        media_type: None,
        bytes,
        tags: vec![format!("t{n}").parse().expect("a valid tag")],
        completeness: Completeness::HeldAnywhere,
    };
    store.put_manifest(put).await.expect("the manifest is complete");
}

fn fill() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path(), Options::default()).expect("the store opens");
    RUNTIME.block_on(async {
        store.put_blob(&name(0), &Digest::sha256(b"{}"), Bytes::from_static(b"{}")).await.expect("put");
        let writers: Vec<_> = (0..64)
            .map(|w| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in (w..IMAGES).step_by(64) {
                        put(&store, n).await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("a writer ends");
        }
    });
    dir
}

/// The directory as a kill leaves it: with what the index had not synced.
fn copy_without_blobs(from: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a directory");
    for directory in ["journal", "blobs/sha256", "blobs/sha512", "uploads", "partials", "quarantine", "tmp"] {
        std::fs::create_dir_all(to.path().join(directory)).expect("a directory");
    }
    for file in ["index.redb", "journal/journal"] {
        std::fs::copy(from.join(file), to.path().join(file)).expect("a copy");
    }
    to
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn open_with_10000_images(bencher: Bencher) {
    let dir = FILLED.path();
    bencher.bench_local(|| Store::open(dir, Options::default()).expect("the store opens"));
}

#[divan::bench(sample_count = 20, sample_size = 1)]
fn open_with_10000_images_after_a_kill(bencher: Bencher) {
    let store = Store::open(FILLED.path(), Options::default()).expect("the store opens");
    RUNTIME.block_on(async {
        for n in 0..500 {
            store
                .set_tag(
                    &name(0),
                    &format!("k{n}").parse().expect("a valid tag"),
                    &Digest::sha256(&manifest(&Digest::sha256(b"{}"), 0)),
                )
                .await
                .expect("the tag is set");
        }
    });
    bencher.with_inputs(|| copy_without_blobs(FILLED.path())).bench_local_values(|dir| {
        (Store::open(dir.path(), Options::default()).expect("the store opens"), dir)
    });
}

#[divan::bench]
fn manifest_by_tag(bencher: Bencher) {
    let store = Store::open(FILLED.path(), Options::default()).expect("the store opens");
    let (name, tag) = (name(7), Reference::Tag("t7".parse().expect("a valid tag")));
    bencher.bench_local(|| store.manifest(&name, &tag).expect("the store reads").expect("it is there"));
}

#[divan::bench]
fn manifest_by_tag_of_all(bencher: Bencher) {
    let store = Store::open(FILLED.path(), Options::default()).expect("the store opens");
    let mut n = 0;
    bencher.bench_local(|| {
        n = (n + 7919) % IMAGES;
        let tag = Reference::Tag(format!("t{n}").parse().expect("a valid tag"));
        store.manifest(&name(n), &tag).expect("the store reads").expect("it is there")
    });
}

#[divan::bench(sample_count = 30, sample_size = 1)]
fn put_manifest_durably(bencher: Bencher) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path(), Options::default()).expect("the store opens");
    RUNTIME
        .block_on(store.put_blob(&name(0), &Digest::sha256(b"{}"), Bytes::from_static(b"{}")))
        .expect("the blob is put");
    let mut n = 0;
    bencher.bench_local(|| {
        n += 1;
        RUNTIME.block_on(put(&store, n));
    });
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn partial_of_256_mib(bencher: Bencher) {
    const SIZE: usize = 256 << 20;
    let chunk = Bytes::from(vec![7; 256 << 10]);
    let mut hasher = oci::Hasher::new(oci::Algorithm::Sha256);
    (0..SIZE / chunk.len()).for_each(|_| hasher.update(&chunk));
    let digest = hasher.finish();
    bencher
        .with_inputs(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let options = Options { grace: Duration::ZERO, ..Options::default() };
            (Store::open(dir.path(), options).expect("the store opens"), dir)
        })
        .bench_local_values(|(store, dir)| {
            RUNTIME.block_on(async {
                let mut partial = store.partial(digest, SIZE as u64).await.expect("it begins");
                for _ in 0..SIZE / chunk.len() {
                    partial.write(chunk.clone()).await.expect("it is written");
                }
                partial.finish(None).await.expect("it is published");
            });
            (store, dir)
        });
}
