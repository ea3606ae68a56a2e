//! What the tests share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use blob_store::{Completeness, Options, PutManifest, PutOutcome, Store, StoreError};
use bytes::Bytes;
use oci::{Digest, RepositoryName, Tag, media_type};
use serde_json::{Value, json};

/// No grace and no reserve: what nothing names goes at the next collection, and a full test disk does not matter.
pub(crate) fn options() -> Options {
    Options { grace: Duration::ZERO, reserve: 0, ..Options::default() }
}

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir, options()).unwrap()
}

pub(crate) fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

pub(crate) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

/// Bytes that depend on `seed` alone.
pub(crate) fn content(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len()})
}

/// A manifest of a config and layers.
pub(crate) fn image(config: &[u8], layers: &[&[u8]]) -> Bytes {
    let layers: Vec<Value> = layers.iter().map(|l| descriptor(media_type::OCI_LAYER, l)).collect();
    to_bytes(&json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, config),
        "layers": layers,
    }))
}

/// An index of manifests.
pub(crate) fn index(children: &[&[u8]]) -> Bytes {
    let manifests: Vec<Value> = children.iter().map(|c| descriptor(media_type::OCI_MANIFEST, c)).collect();
    to_bytes(&json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests}))
}

pub(crate) fn to_bytes(value: &Value) -> Bytes {
    serde_json::to_vec(value).unwrap().into()
}

pub(crate) async fn put_blob(store: &Store, name: &str, bytes: &Bytes) -> Digest {
    let digest = Digest::sha256(bytes);
    store.put_blob(&repository(name), &digest, bytes.clone()).await.unwrap();
    digest
}

pub(crate) async fn try_put(
    store: &Store,
    name: &str,
    bytes: &Bytes,
    tags: &[&str],
) -> Result<PutOutcome, StoreError> {
    let put = PutManifest {
        repository: repository(name),
        digest: Digest::sha256(bytes),
        media_type: None,
        bytes: bytes.clone(),
        tags: tags.iter().map(|t| tag(t)).collect(),
        completeness: Completeness::VisibleHere,
    };
    store.put_manifest(put).await
}

pub(crate) async fn put(store: &Store, name: &str, bytes: &Bytes, tags: &[&str]) -> Digest {
    try_put(store, name, bytes, tags).await.unwrap();
    Digest::sha256(bytes)
}

/// Pushes an image of a config and one layer, made from `seed`; its manifest.
pub(crate) async fn push_image(store: &Store, name: &str, seed: u64, tags: &[&str]) -> Bytes {
    let (config, layer) = (content(seed, 100), content(seed + 1_000_000, 5000));
    put_blob(store, name, &config).await;
    put_blob(store, name, &layer).await;
    let manifest = image(&config, &[&layer]);
    put(store, name, &manifest, tags).await;
    manifest
}

/// Where the store keeps a content.
pub(crate) fn file_of(dir: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    dir.join("blobs").join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
}

/// Everything of a blob, as a repository sees it.
pub(crate) async fn read_blob(store: &Store, name: &str, digest: &Digest) -> Option<Bytes> {
    match store.blob(&repository(name), digest).unwrap() {
        Some(reader) => Some(reader.read_all(u64::MAX).await.unwrap()),
        None => None,
    }
}

/// A copy of a whole directory, as a power cut at this moment would leave it at best.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            // A file may go while the tree is being copied from a store at work.
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}
