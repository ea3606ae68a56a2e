//! OCI image layouts: content in a folder (OCI image-spec, image-layout.md).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Kind, Manifest, media_type};
use serde_json::{Value, json};

use crate::{Error, Result, files};

/// The annotation that names an entry of `index.json`.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A folder with `oci-layout`, `index.json` and `blobs/`.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Creates an empty layout.
    pub fn create(dir: &Path) -> Result<Self> {
        files::write(&dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let layout = Self { dir: dir.to_owned() };
        layout.write_roots(&[])?;
        Ok(layout)
    }

    /// Opens a layout that is there.
    pub fn open(dir: &Path) -> Result<Self> {
        let layout = Self { dir: dir.to_owned() };
        layout.roots()?;
        Ok(layout)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the content of a digest is.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// Stores content and describes it.
    pub fn add(&self, media_type: &str, content: &[u8]) -> Result<Descriptor> {
        let digest = Digest::sha256(content);
        files::write(&self.path(&digest), content)?;
        Ok(Descriptor::new(media_type, digest, content.len() as u64))
    }

    /// Stores a JSON document and describes it.
    pub fn add_json(&self, media_type: &str, document: &Value) -> Result<Descriptor> {
        self.add(media_type, document.to_string().as_bytes())
    }

    /// Reads the content of a digest.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        files::read(&self.path(digest))
    }

    /// Opens the content of a digest.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        File::open(&path).map_err(Error::io(format!("cannot open {}", path.display())))
    }

    /// The entries of `index.json`.
    pub fn roots(&self) -> Result<Vec<Descriptor>> {
        let path = self.dir.join("index.json");
        let index = Manifest::parse(Some(media_type::OCI_INDEX), &files::read(&path)?)
            .map_err(|error| Error::Content(format!("{} is no OCI layout: {error}", self.dir.display())))?;
        Ok(index.manifests)
    }

    /// Adds an entry to `index.json`, under a name where one is given.
    pub fn add_root(&self, descriptor: &Descriptor, name: Option<&str>) -> Result<()> {
        let mut roots = self.roots()?;
        let mut root = descriptor.clone();
        if let Some(name) = name {
            let annotations = root.annotations.get_or_insert_with(BTreeMap::new);
            annotations.insert(REF_NAME.into(), name.into());
        }
        roots.push(root);
        self.write_roots(&roots)
    }

    fn write_roots(&self, roots: &[Descriptor]) -> Result<()> {
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": roots});
        files::write(&self.dir.join("index.json"), index.to_string())
    }

    /// Reads a manifest of the layout.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<(Vec<u8>, Manifest)> {
        let bytes = self.read(&descriptor.digest)?;
        let manifest = Manifest::parse(Some(&descriptor.media_type), &bytes)
            .map_err(|error| Error::Content(format!("{}: {error}", descriptor.digest)))?;
        Ok((bytes, manifest))
    }

    /// A manifest and all below it, children before parents, each once; and every blob that they name.
    pub fn graph(&self, root: &Descriptor) -> Result<Graph> {
        let mut graph = Graph::default();
        self.visit(root, &mut graph)?;
        Ok(graph)
    }

    fn visit(&self, descriptor: &Descriptor, graph: &mut Graph) -> Result<()> {
        if graph.manifests.iter().any(|(known, _)| known.digest == descriptor.digest) {
            return Ok(());
        }
        let (bytes, manifest) = self.manifest(descriptor)?;
        if manifest.kind == Kind::Index {
            for child in &manifest.manifests {
                self.visit(child, graph)?;
            }
        }
        for blob in manifest.blobs() {
            if !graph.blobs.iter().any(|known| known.digest == blob.digest) {
                graph.blobs.push(blob.clone());
            }
        }
        graph.manifests.push((descriptor.clone(), bytes));
        Ok(())
    }

    /// The entry of `index.json` that people mean (the first that refers to nothing), and the entries that refer to it.
    pub fn image(&self) -> Result<(Descriptor, Vec<Descriptor>)> {
        let mut image = None;
        let mut referring = Vec::new();
        for root in self.roots()? {
            let (_, manifest) = self.manifest(&root)?;
            match manifest.subject {
                None if image.is_none() => image = Some(root),
                None => {}
                Some(subject) => referring.push((subject.digest, root)),
            }
        }
        let image = image.ok_or_else(|| Error::Content(format!("{} holds no image", self.dir.display())))?;
        let referrers = referring
            .into_iter()
            .filter(|(subject, _)| *subject == image.digest)
            .map(|(_, root)| root)
            .collect();
        Ok((image, referrers))
    }
}

/// What a root names.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Manifests with their bytes, children before parents.
    pub manifests: Vec<(Descriptor, Vec<u8>)>,
    /// Blobs, each once.
    pub blobs: Vec<Descriptor>,
}

impl Graph {
    /// Bytes of all blobs.
    pub fn blob_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}
