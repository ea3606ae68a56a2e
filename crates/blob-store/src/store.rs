//! The store's handle, its options and how it is opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use oci::{Descriptor, Digest, Reference, RepositoryName, Tag};

use crate::blob::BlobReader;
use crate::error::StoreError;
use crate::types::{ManifestEntry, Page, PutManifest, PutOutcome, StoredManifest, Usage};

/// How a store behaves. The default suits an edge device.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a blob stays that nothing names.
    pub grace: Duration,
    /// After how long without a byte an upload session ends.
    pub upload_idle: Duration,
    /// After how long without being asked for a partial download goes.
    pub partial_idle: Duration,
    /// Memory for pages of the index, in bytes.
    pub index_cache: usize,
    /// Memory for manifests that are asked for often, in bytes.
    pub manifest_cache: usize,
    /// Free bytes of the disk that the store leaves alone, so that metadata can still be written: content that would
    /// use them up is refused with [`StoreError::NoSpace`].
    pub reserve: u64,
    /// Identity of the running boot; `None` asks the kernel. Another boot than the one that wrote a partial download
    /// means that only what was synced of it is believed.
    pub boot_id: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(3600),
            upload_idle: Duration::from_secs(24 * 3600),
            partial_idle: Duration::from_secs(7 * 24 * 3600),
            index_cache: 4 << 20,
            manifest_cache: 4 << 20,
            reserve: 16 << 20,
            boot_id: None,
        }
    }
}

/// An open store. Cloning is cheap and names the same store; it closes when the last clone is dropped.
///
/// Reading methods that are not `async` are quick look-ups, fit for an asynchronous thread. Writing methods return
/// once what they did is on the disk.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
}

/// Keeps contents from being collected while it lives.
#[derive(Debug)]
pub struct Pin {}

impl Store {
    /// Opens the store in `dir`, making it where there is none. Blocking, but quick: what a crash left is set right in a
    /// time that does not depend on how much is stored, except where the index has to be rebuilt.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let _ = options;
        Ok(Self { inner: Arc::new(Inner { root: dir.as_ref().to_owned() }) })
    }

    /// The directory that the store is in.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// What the store holds.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        Err(StoreError::Stopped)
    }

    /// A manifest of a repository by tag or digest.
    pub fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let _ = (repository, reference);
        Err(StoreError::Stopped)
    }

    /// A manifest in whatever repository has it.
    pub fn manifest_anywhere(&self, digest: &Digest) -> Result<Option<StoredManifest>, StoreError> {
        let _ = digest;
        Err(StoreError::Stopped)
    }

    /// What a tag points at.
    pub fn resolve_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        let _ = (repository, tag);
        Err(StoreError::Stopped)
    }

    /// Keeps a manifest, with its tags, in one step.
    pub async fn put_manifest(&self, put: PutManifest) -> Result<PutOutcome, StoreError> {
        let _ = put;
        Err(StoreError::Stopped)
    }

    /// Removes a manifest and all tags that point at it; `false` where it was not there. The grace of the blobs that it
    /// alone named begins.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let _ = (repository, digest);
        Err(StoreError::Stopped)
    }

    /// Points a tag at a manifest of the repository ([`StoreError::UnknownManifest`] where it is not there).
    pub async fn set_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let _ = (repository, tag, digest);
        Err(StoreError::Stopped)
    }

    /// Removes a tag; the manifest stays. `false` where it was not there.
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool, StoreError> {
        let _ = (repository, tag);
        Err(StoreError::Stopped)
    }

    /// At most `n` tags after `last`, sorted by their bytes.
    pub fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        n: usize,
    ) -> Result<Page<Tag>, StoreError> {
        let _ = (repository, last, n);
        Err(StoreError::Stopped)
    }

    /// At most `n` manifests of a repository after `last`, sorted by digest.
    pub fn manifests(
        &self,
        repository: &RepositoryName,
        last: Option<&Digest>,
        n: usize,
    ) -> Result<Page<ManifestEntry>, StoreError> {
        let _ = (repository, last, n);
        Err(StoreError::Stopped)
    }

    /// Whether the repository has a manifest or a blob that was pushed into it.
    pub fn has_repository(&self, repository: &RepositoryName) -> Result<bool, StoreError> {
        let _ = repository;
        Err(StoreError::Stopped)
    }

    /// At most `n` repositories that have a manifest, after `last`, sorted by their bytes.
    pub fn repositories(&self, last: Option<&str>, n: usize) -> Result<Page<RepositoryName>, StoreError> {
        let _ = (last, n);
        Err(StoreError::Stopped)
    }

    /// Descriptors of the manifests of this repository whose subject is `digest`, whether or not that one is there
    /// (OCI distribution-spec, "Listing referrers").
    pub fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let _ = (repository, digest);
        Err(StoreError::Stopped)
    }

    /// A blob as far as the repository may see it: pushed or mounted there, or named by a manifest there.
    pub fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<BlobReader>, StoreError> {
        let _ = (repository, digest);
        Err(StoreError::Stopped)
    }

    /// A blob or the bytes of a manifest, whoever may see it. Not for what answers a client.
    pub fn blob_anywhere(&self, digest: &Digest) -> Result<Option<BlobReader>, StoreError> {
        let _ = digest;
        Err(StoreError::Stopped)
    }

    /// Whether the content is here and its file has the right size. Hold a [`Pin`] where it must stay so.
    pub fn has_blob_anywhere(&self, digest: &Digest) -> Result<bool, StoreError> {
        let _ = digest;
        Err(StoreError::Stopped)
    }

    /// Keeps these contents from being collected while the pin lives, whether or not they are here yet.
    pub fn pin(&self, digests: impl IntoIterator<Item = Digest>) -> Pin {
        let _ = digests.into_iter().count();
        Pin {}
    }

    /// Makes a blob that the store has visible in a repository (a mount); [`StoreError::UnknownBlob`] where it has not.
    pub async fn link_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let _ = (repository, digest);
        Err(StoreError::Stopped)
    }

    /// Ends a blob's visibility in a repository at once: [`StoreError::BlobInUse`] where a manifest there names it,
    /// `false` where it was not visible.
    pub async fn unlink_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let _ = (repository, digest);
        Err(StoreError::Stopped)
    }

    /// The repositories in which a blob is visible, at most `n`; for a mount that names no source.
    pub fn repositories_of_blob(&self, digest: &Digest, n: usize) -> Result<Vec<RepositoryName>, StoreError> {
        let _ = (digest, n);
        Err(StoreError::Stopped)
    }
}
