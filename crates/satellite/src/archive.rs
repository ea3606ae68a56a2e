//! Image archives: tar files from which a container runtime takes images without a registry.
//!
//! Two forms. An *OCI layout* (OCI image-spec, image-layout.md) holds an image as it is in the store, an index with all its
//! platforms, under any number of names; containerd imports it. A *docker-archive* holds one platform of each image;
//! Docker and Podman load it. In both, manifests, configs and layers are the bytes that came from the central registry, so
//! that digests and image ids stay what they are everywhere.
//!
//! An archive is planned first: what it consists of and how long it is are known before a byte is written, and the same
//! content always gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use blob_store::{Store, StoreError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use oci::{Descriptor, Digest, Manifest, Platform, PlatformFilter, Reference, RepositoryName, media_type};
use serde_json::json;
use sha2::{Digest as _, Sha256};

mod docker;

/// tar's unit.
const BLOCK: u64 = 512;
/// The longest name that fits into a header.
const NAME: usize = 100;
/// Readers and writers of tar use pieces of this size.
const BUFFER: usize = 256 * 1024;
/// Changes when the same content is written in another way.
const VERSION: u8 = 1;

/// How an archive is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OCI layout.
    Oci,
    /// docker-archive.
    Docker,
}

/// Which platforms of an index get into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// All that are here: the index as it is.
    Here,
    /// This one alone, in place of the index.
    One(Platform),
}

/// An image to put into an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Where the store has it.
    pub repository: RepositoryName,
    /// Its manifest or index.
    pub digest: Digest,
    /// Its names, whole (`docker.io/library/busybox:1.36`).
    pub names: Vec<String>,
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store does not have it.
    #[error("{0}@{1} is not in the local store")]
    Absent(RepositoryName, Digest),
    /// The store does not have all of it.
    #[error("{0} is not whole in the local store: {1} is missing")]
    NotWhole(RepositoryName, Digest),
    /// It is something else than a container image.
    #[error("{0}@{1} is no container image")]
    NoImage(RepositoryName, Digest),
    /// The platform is not among those that are here.
    #[error("{repository} has no {platform} here, only {here}")]
    NoPlatform {
        /// The image.
        repository: RepositoryName,
        /// What was asked for.
        platform: Box<Platform>,
        /// What there is.
        here: String,
    },
    /// A manifest or a config cannot be understood.
    #[error("{0}@{1} cannot be understood: {2}")]
    Unreadable(RepositoryName, Digest, String),
    /// The store failed.
    #[error("the local store: {0}")]
    Store(#[from] StoreError),
    /// The archive could not be written.
    #[error("{0}")]
    Write(#[from] io::Error),
}

/// A planned archive.
#[derive(Debug)]
pub struct Archive {
    members: Vec<(String, Content)>,
    contents: BTreeSet<Digest>,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Bytes),
    Blob(RepositoryName, Digest, u64),
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blob(_, _, size) => *size,
        }
    }
}

impl Archive {
    /// Plans an archive of these images. Blocks: it reads the manifests.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn plan(
        store: &Store,
        images: &[Image],
        choice: &Choice,
        format: Format,
    ) -> Result<Self, ArchiveError> {
        match format {
            Format::Oci => Self::oci(store, images, choice),
            Format::Docker => docker::plan(store, images, choice),
        }
    }

    fn oci(store: &Store, images: &[Image], choice: &Choice) -> Result<Self, ArchiveError> {
        let mut blobs = BTreeMap::new();
        let mut roots = Vec::new();
        for image in images {
            let root = Root::find(store, image, choice)?;
            gather(store, &image.repository, &root, &mut blobs)?;
            let descriptor = |annotations: serde_json::Value| {
                let mut descriptor = json!({
                    "mediaType": root.media_type, "digest": root.digest.to_string(), "size": root.bytes.len(),
                });
                if annotations.as_object().is_some_and(|annotations| !annotations.is_empty()) {
                    descriptor["annotations"] = annotations;
                }
                descriptor
            };
            if image.names.is_empty() {
                roots.push(descriptor(json!({})));
            }
            for name in &image.names {
                // The first is what containerd takes for the name, whole; the second is the specification's, and what
                // most write there is the tag.
                let mut annotations = json!({"io.containerd.image.name": name});
                if let Some(tag) = tag_of(name) {
                    annotations["org.opencontainers.image.ref.name"] = tag.into();
                }
                roots.push(descriptor(annotations));
            }
        }
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": roots});
        let text = |value: serde_json::Value| Content::Bytes(Bytes::from(value.to_string()));
        let mut members = vec![
            ("oci-layout".to_owned(), text(json!({"imageLayoutVersion": "1.0.0"}))),
            ("index.json".to_owned(), text(index)),
        ];
        let contents = blobs.keys().copied().collect();
        members.extend(blobs.into_iter().map(|(digest, content)| (layout_path(&digest), content)));
        Ok(Self { members, contents })
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let members = self.members.iter().map(|(path, content)| {
            // A longer name has a member of its own before its file, which ends in a zero byte.
            let long = if path.len() > NAME { BLOCK + padded(path.len() as u64 + 1) } else { 0 };
            long + BLOCK + padded(content.size())
        });
        members.sum::<u64>() + 2 * BLOCK
    }

    /// Stands for its bytes: two archives with the same fingerprint are the same.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update([VERSION]);
        for (path, content) in &self.members {
            hash.update(path);
            hash.update([0]);
            match content {
                Content::Bytes(bytes) => hash.update(Sha256::digest(bytes)),
                Content::Blob(_, digest, size) => hash.update(format!("{digest} {size}")),
            }
        }
        hex::encode(hash.finalize())
    }

    /// The contents that have to stay in the store while it is written.
    #[must_use]
    pub fn contents(&self) -> &BTreeSet<Digest> {
        &self.contents
    }

    /// Writes it. Blocks; to be called on a thread for that, inside a tokio runtime. `ahead` is asked before each piece,
    /// with the bytes that are written, and ends it with an error.
    ///
    /// # Errors
    /// [`ArchiveError`]; what was written then is no archive.
    pub fn write(
        &self,
        store: &Store,
        output: impl Write,
        mut ahead: impl FnMut(u64) -> io::Result<()>,
    ) -> Result<(), ArchiveError> {
        let pinned = store.pin(self.contents.iter().copied());
        let mut builder = tar::Builder::new(Counted { output, written: 0, ahead: &mut ahead });
        for (path, content) in &self.members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.size());
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            match content {
                Content::Bytes(bytes) => builder.append_data(&mut header, path, bytes.as_ref())?,
                Content::Blob(repository, digest, size) => {
                    let blob = store.blob(repository, digest)?.filter(|blob| blob.size() == *size);
                    let blob = blob.ok_or_else(|| ArchiveError::NotWhole(repository.clone(), *digest))?;
                    let stream = blob.stream(0..*size);
                    let reader = BlobBytes { stream, chunk: Bytes::new() };
                    builder.append_data(&mut header, path, io::BufReader::with_capacity(BUFFER, reader))?;
                }
            }
        }
        builder.into_inner()?.flush()?;
        drop(pinned);
        Ok(())
    }
}

/// The manifest that a name in an archive means.
struct Root {
    digest: Digest,
    media_type: String,
    bytes: Bytes,
    manifest: Manifest,
}

impl Root {
    fn find(store: &Store, image: &Image, choice: &Choice) -> Result<Self, ArchiveError> {
        let root = Self::read(store, &image.repository, &image.digest)?
            .ok_or_else(|| ArchiveError::Absent(image.repository.clone(), image.digest))?;
        if !root.is_image(store, &image.repository)? {
            return Err(ArchiveError::NoImage(image.repository.clone(), image.digest));
        }
        let Choice::One(platform) = choice else { return Ok(root) };
        if root.manifest.kind != oci::Kind::Index {
            return Ok(root);
        }
        let wanted = PlatformFilter::all().narrowed([platform.clone()]);
        let mut here = BTreeSet::new();
        for child in root.manifest.manifests.iter().filter(|child| runs(child)) {
            let Some(found) = Self::read(store, &image.repository, &child.digest)? else { continue };
            if wanted.selects(child) {
                return Ok(found);
            }
            here.extend(child.platform.as_ref().map(ToString::to_string));
        }
        let here = if here.is_empty() { "nothing".to_owned() } else { Vec::from_iter(here).join(", ") };
        Err(ArchiveError::NoPlatform {
            repository: image.repository.clone(),
            platform: Box::new(platform.clone()),
            here,
        })
    }

    fn read(
        store: &Store,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Self>, ArchiveError> {
        let Some(stored) = store.manifest(repository, &Reference::Digest(*digest))? else { return Ok(None) };
        let manifest = Manifest::parse(Some(&stored.media_type), &stored.bytes)
            .map_err(|error| ArchiveError::Unreadable(repository.clone(), *digest, error.to_string()))?;
        Ok(Some(Self {
            digest: *digest,
            media_type: manifest.media_type.clone(),
            bytes: stored.bytes,
            manifest,
        }))
    }

    /// Whether a runtime can run it, or one of an index's children that are here.
    fn is_image(&self, store: &Store, repository: &RepositoryName) -> Result<bool, ArchiveError> {
        if self.manifest.kind != oci::Kind::Index {
            return Ok(has_image_config(&self.manifest));
        }
        for child in self.manifest.manifests.iter().filter(|child| runs(child)) {
            if let Some(child) = Self::read(store, repository, &child.digest)?
                && has_image_config(&child.manifest)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether an artifact is a container image, as far as what is here of it tells. Blocks.
///
/// # Errors
/// [`ArchiveError`] where the store or the manifest cannot be read.
pub fn is_image(store: &Store, repository: &RepositoryName, digest: &Digest) -> Result<bool, ArchiveError> {
    match Root::read(store, repository, digest)? {
        Some(root) => root.is_image(store, repository),
        None => Ok(false),
    }
}

/// Charts, signatures and other artifacts have other configs.
fn has_image_config(manifest: &Manifest) -> bool {
    let config = manifest.config.as_ref().map(|config| config.media_type.as_str());
    manifest.artifact_type.is_none()
        && matches!(config, Some(media_type::OCI_CONFIG | media_type::DOCKER_CONFIG))
}

/// An attestation beside the images of an index runs nowhere.
fn runs(child: &Descriptor) -> bool {
    child.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}

/// All of a blob. Blocks; inside a tokio runtime.
pub(crate) fn read_blob(blob: blob_store::BlobReader) -> io::Result<Vec<u8>> {
    let size = blob.size();
    let mut bytes = Vec::new();
    BlobBytes { stream: blob.stream(0..size), chunk: Bytes::new() }.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A manifest with everything below it that is here. What is missing of an index was left out by the choice of platforms;
/// what is missing of an image is damage, but for layers that registries need not hold.
fn gather(
    store: &Store,
    repository: &RepositoryName,
    root: &Root,
    blobs: &mut BTreeMap<Digest, Content>,
) -> Result<(), ArchiveError> {
    blobs.insert(root.digest, Content::Bytes(root.bytes.clone()));
    for descriptor in root.manifest.blobs() {
        if store.has_blob_anywhere(&descriptor.digest)? {
            let content = Content::Blob(repository.clone(), descriptor.digest, descriptor.size);
            blobs.insert(descriptor.digest, content);
        } else if !descriptor.is_non_distributable() {
            return Err(ArchiveError::NotWhole(repository.clone(), descriptor.digest));
        }
    }
    for child in &root.manifest.manifests {
        if !blobs.contains_key(&child.digest)
            && let Some(child) = Root::read(store, repository, &child.digest)?
        {
            gather(store, repository, &child, blobs)?;
        }
    }
    Ok(())
}

/// Where a layout keeps a blob.
fn layout_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// The tag of a whole name.
fn tag_of(name: &str) -> Option<&str> {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':').filter(|(repository, _)| !repository.contains('@')).map(|(_, tag)| tag)
}

fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK) * BLOCK
}

/// A blob of the store as blocking reads.
struct BlobBytes {
    stream: blob_store::BlobStream,
    chunk: Bytes,
}

impl Read for BlobBytes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            let next = tokio::runtime::Handle::current().block_on(self.stream.next());
            self.chunk = next.transpose().map_err(io::Error::other)?.unwrap_or_default();
        }
        let count = buffer.len().min(self.chunk.len());
        buffer[..count].copy_from_slice(&self.chunk.split_to(count));
        Ok(count)
    }
}

/// Counts what is written, and asks before each piece.
struct Counted<'a, W> {
    output: W,
    written: u64,
    ahead: &'a mut dyn FnMut(u64) -> io::Result<()>,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.ahead)(self.written)?;
        let count = self.output.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
pub(crate) mod tests;
