use std::path::Path;

use blob_store::{Completeness, Options, PutManifest};
use oci::Algorithm;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use super::*;

/// A store with images in it.
pub(crate) struct Stocked {
    pub(crate) store: Store,
    _folder: TempDir,
}

impl Stocked {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        Self { store, _folder: folder }
    }

    async fn blob(&self, repository: &str, bytes: &[u8], algorithm: Algorithm) -> Digest {
        let digest = Digest::of(algorithm, bytes);
        let repository = repository.parse().unwrap();
        self.store.put_blob(&repository, &digest, Bytes::copy_from_slice(bytes)).await.unwrap();
        digest
    }

    async fn manifest(&self, repository: &str, document: Value, tags: &[&str]) -> (Digest, u64) {
        let bytes = Bytes::from(document.to_string());
        let (digest, size) = (Digest::sha256(&bytes), bytes.len() as u64);
        let put = PutManifest {
            repository: repository.parse().unwrap(),
            digest,
            media_type: None,
            bytes,
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            completeness: Completeness::HeldAnywhere,
        };
        self.store.put_manifest(put).await.unwrap();
        (digest, size)
    }

    /// An image of one platform, whose layer is `layer`.
    pub(crate) async fn image(&self, repository: &str, layer: &[u8], tags: &[&str]) -> (Digest, u64) {
        self.image_with(repository, layer, tags, media_type::OCI_CONFIG, Algorithm::Sha256).await
    }

    pub(crate) async fn image_with(
        &self,
        repository: &str,
        layer: &[u8],
        tags: &[&str],
        config_type: &str,
        algorithm: Algorithm,
    ) -> (Digest, u64) {
        let config_bytes =
            format!(r#"{{"architecture":"amd64","os":"linux","of":"{}"}}"#, Digest::sha256(layer));
        let config = self.blob(repository, config_bytes.as_bytes(), Algorithm::Sha256).await;
        let layer_digest = self.blob(repository, layer, algorithm).await;
        let document = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": {"mediaType": config_type, "digest": config.to_string(), "size": config_bytes.len()},
            "layers": [{"mediaType": media_type::OCI_LAYER_GZIP, "digest": layer_digest.to_string(), "size": layer.len()}],
        });
        self.manifest(repository, document, tags).await
    }

    /// An index of images for `platforms`; of those after `kept` only the entry is here.
    pub(crate) async fn index(
        &self,
        repository: &str,
        platforms: &[&str],
        kept: usize,
        tags: &[&str],
    ) -> Digest {
        let mut children = Vec::new();
        for (count, platform) in platforms.iter().enumerate() {
            let (digest, size) = if count < kept {
                self.image(repository, format!("{repository} {platform}").as_bytes(), &[]).await
            } else {
                (Digest::sha256(platform.as_bytes()), 7)
            };
            let platform: Platform = platform.parse().unwrap();
            children.push(json!({
                "mediaType": media_type::OCI_MANIFEST, "digest": digest.to_string(), "size": size, "platform": platform,
            }));
        }
        let document = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children});
        self.manifest(repository, document, tags).await.0
    }
}

fn image(repository: &str, digest: Digest, names: &[&str]) -> Image {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    Image { repository: repository.parse().unwrap(), digest, names }
}

async fn written(stocked: &Stocked, archive: Archive) -> (Vec<u8>, Archive) {
    let store = stocked.store.clone();
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        archive.write(&store, &mut bytes, |_| Ok(())).unwrap();
        (bytes, archive)
    })
    .await
    .unwrap()
}

/// The files of an archive.
pub(crate) fn files(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(bytes);
    let read = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (entry.path().unwrap().to_str().unwrap().to_owned(), content)
    });
    read.collect()
}

fn document(files: &BTreeMap<String, Vec<u8>>, path: &str) -> Value {
    serde_json::from_slice(&files[path]).unwrap()
}

#[tokio::test]
async fn a_layout_holds_the_image_as_it_is_under_each_name() {
    let stocked = Stocked::new();
    let index = stocked.index("library/busybox", &["linux/amd64", "linux/arm64"], 2, &["1"]).await;
    let names = ["h.example/library/busybox:1", "docker.io/library/busybox:1"];
    let images = [image("library/busybox", index, &names)];
    let archive = Archive::plan(&stocked.store, &images, &Choice::Here, Format::Oci).unwrap();
    let (bytes, archive) = written(&stocked, archive).await;
    assert_eq!(bytes.len() as u64, archive.size());
    let files = files(&bytes);
    assert_eq!(document(&files, "oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
    let roots = document(&files, "index.json")["manifests"].clone();
    for (root, name) in roots.as_array().unwrap().iter().zip(names) {
        assert_eq!(root["digest"], index.to_string());
        assert_eq!(root["mediaType"], media_type::OCI_INDEX);
        assert_eq!(root["annotations"]["io.containerd.image.name"], name);
        assert_eq!(root["annotations"]["org.opencontainers.image.ref.name"], "1");
    }
    assert_eq!(roots.as_array().unwrap().len(), 2);
    let blobs = files.iter().filter_map(|(path, bytes)| Some((path.strip_prefix("blobs/sha256/")?, bytes)));
    let blobs: Vec<_> = blobs.collect();
    // The index, and a manifest, a config and a layer for each platform.
    assert_eq!(blobs.len(), 1 + 2 * 3);
    for (hex, bytes) in blobs {
        assert_eq!(Digest::sha256(bytes).hex(), hex);
    }
}

#[tokio::test]
async fn a_sparse_index_stays_as_it_is() {
    let stocked = Stocked::new();
    let index = stocked.index("a/b", &["linux/amd64", "linux/arm64", "linux/s390x"], 1, &["1"]).await;
    let images = [image("a/b", index, &["docker.io/a/b:1"])];
    let archive = Archive::plan(&stocked.store, &images, &Choice::Here, Format::Oci).unwrap();
    let (bytes, _) = written(&stocked, archive).await;
    let files = files(&bytes);
    assert_eq!(document(&files, "index.json")["manifests"][0]["digest"], index.to_string());
    assert_eq!(files.len(), 2 + 1 + 3);
}

#[tokio::test]
async fn one_platform_takes_the_place_of_the_index() {
    let stocked = Stocked::new();
    let index = stocked.index("a/b", &["linux/amd64", "linux/arm/v7", "linux/arm64"], 2, &["1"]).await;
    let images = [image("a/b", index, &["docker.io/a/b:1", "docker.io/a/b@sha256:0"])];
    let plan = |platform: &str, format| {
        Archive::plan(&stocked.store, &images, &Choice::One(platform.parse().unwrap()), format)
    };
    let (bytes, _) = written(&stocked, plan("linux/arm", Format::Oci).unwrap()).await;
    let layout = files(&bytes);
    assert_eq!(document(&layout, "index.json")["manifests"][0]["mediaType"], media_type::OCI_MANIFEST);
    assert_eq!(layout.len(), 2 + 3);

    let (bytes, archive) = written(&stocked, plan("linux/amd64", Format::Docker).unwrap()).await;
    assert_eq!(bytes.len() as u64, archive.size());
    let docker = files(&bytes);
    let list = document(&docker, "manifest.json");
    assert_eq!(list[0]["RepoTags"], json!(["docker.io/a/b:1"]), "Docker takes no digests for names");
    let config = list[0]["Config"].as_str().unwrap();
    assert_eq!(format!("blobs/sha256/{}", Digest::sha256(&docker[config]).hex()), config);
    assert!(docker.contains_key(list[0]["Layers"][0].as_str().unwrap()));

    let error = plan("linux/arm64", Format::Docker).unwrap_err();
    assert_eq!(error.to_string(), "a/b has no linux/arm64 here, only linux/amd64, linux/arm/v7");
}

#[tokio::test]
async fn what_cannot_be_an_archive_is_told() {
    let stocked = Stocked::new();
    let chart = "application/vnd.cncf.helm.config.v1+json";
    let (chart, _) = stocked.image_with("charts/web", b"chart", &["1"], chart, Algorithm::Sha256).await;
    let plan = |digest| {
        let images = [image("charts/web", digest, &[])];
        Archive::plan(&stocked.store, &images, &Choice::Here, Format::Oci).unwrap_err()
    };
    assert!(matches!(plan(chart), ArchiveError::NoImage(..)));
    assert!(!is_image(&stocked.store, &"charts/web".parse().unwrap(), &chart).unwrap());
    assert!(matches!(plan(Digest::sha256(b"x")), ArchiveError::Absent(..)));
    let (whole, _) = stocked.image("charts/web", b"layer", &["2"]).await;
    assert!(is_image(&stocked.store, &"charts/web".parse().unwrap(), &whole).unwrap());
}

#[tokio::test]
async fn a_layer_with_a_long_digest_has_a_long_name() {
    let stocked = Stocked::new();
    let (digest, _) =
        stocked.image_with("a/b", b"layer", &["1"], media_type::OCI_CONFIG, Algorithm::Sha512).await;
    let images = [image("a/b", digest, &["docker.io/a/b:1"])];
    let archive = Archive::plan(&stocked.store, &images, &Choice::Here, Format::Oci).unwrap();
    let (bytes, archive) = written(&stocked, archive).await;
    assert_eq!(bytes.len() as u64, archive.size());
    assert!(files(&bytes).keys().any(|path| path.starts_with("blobs/sha512/")));
}

#[tokio::test]
async fn a_fingerprint_stands_for_the_bytes() {
    let stocked = Stocked::new();
    let (digest, _) = stocked.image("a/b", b"layer", &["1"]).await;
    let plan = |names: &[&str]| {
        Archive::plan(&stocked.store, &[image("a/b", digest, names)], &Choice::Here, Format::Oci).unwrap()
    };
    let (one, first) = written(&stocked, plan(&["docker.io/a/b:1"])).await;
    let (same, second) = written(&stocked, plan(&["docker.io/a/b:1"])).await;
    let (other, third) = written(&stocked, plan(&["docker.io/a/b:1", "h/a/b:1"])).await;
    assert!(one == same && first.fingerprint() == second.fingerprint());
    assert!(one != other && first.fingerprint() != third.fingerprint());
}

#[tokio::test]
async fn it_can_be_stopped() {
    let stocked = Stocked::new();
    let (digest, _) = stocked.image("a/b", &vec![7; 3 << 20], &["1"]).await;
    let images = [image("a/b", digest, &["docker.io/a/b:1"])];
    let archive = Archive::plan(&stocked.store, &images, &Choice::Here, Format::Oci).unwrap();
    let store = stocked.store.clone();
    let ended = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let stop = |written| if written > 1 << 20 { Err(io::Error::other("stopped")) } else { Ok(()) };
        (archive.write(&store, &mut bytes, stop).unwrap_err().to_string(), bytes.len() as u64, archive.size())
    });
    let (error, length, size) = ended.await.unwrap();
    assert_eq!(error, "stopped");
    assert!(length < size);
}

#[test]
fn the_tag_of_a_name() {
    for (name, tag) in [
        ("docker.io/library/busybox:1.36", Some("1.36")),
        ("h:5000/a/b", None),
        ("h:5000/a/b:x", Some("x")),
        ("docker.io/a/b@sha256:00", None),
    ] {
        assert_eq!(tag_of(name), tag, "{name}");
    }
    assert!(Path::new(&layout_path(&Digest::sha256(b"x"))).starts_with("blobs/sha256"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// How long it will be is known before.
    #[test]
    fn its_length_is_known(layers in prop::collection::vec(0_usize..2_000, 1..4), docker: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stocked = Stocked::new();
            let mut images = Vec::new();
            for length in layers {
                let (digest, _) = stocked.image("a/b", &vec![1; length], &[]).await;
                images.push(image("a/b", digest, &["docker.io/a/b:1"]));
            }
            let format = if docker { Format::Docker } else { Format::Oci };
            let archive = Archive::plan(&stocked.store, &images, &Choice::Here, format).unwrap();
            let (bytes, archive) = written(&stocked, archive).await;
            assert_eq!(bytes.len() as u64, archive.size());
        });
    }
}
