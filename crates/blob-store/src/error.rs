//! What can go wrong, in terms that a server can turn into a status and a person into an action.

use std::io;
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, ManifestError, RepositoryName, Tag};

/// Descriptors that a manifest names and that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub Vec<Descriptor>);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, descriptor) in self.0.iter().take(8).enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", descriptor.digest)?;
        }
        if self.0.len() > 8 {
            write!(f, " and {} more", self.0.len() - 8)?;
        }
        Ok(())
    }
}

/// An operation of the store that was not done. Nothing of it is visible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store open.
    #[error(
        "the store at {path} is in use by another process: stop it, or give this one another data directory"
    )]
    Locked {
        /// Root of the store.
        path: PathBuf,
    },
    /// The disk is full, or so full that the store's reserve would be used up.
    #[error("no space left for {path}: free some, or let the store have a larger disk")]
    NoSpace {
        /// What was to be written.
        path: PathBuf,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The derived index failed. It is rebuilt at the next open.
    #[error("the index of the store failed: {reason}; it is rebuilt when the store is opened again")]
    Index {
        /// What the index said.
        reason: String,
    },
    /// The journal was written by a newer version of this program.
    #[error("{path} has format version {found}, and this program reads up to {known}: use a newer program")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// A failed write could not be undone: the store only reads from here on.
    #[error(
        "the store takes no more writes since one could not be undone: {reason}; look at the disk, then restart"
    )]
    ReadOnly {
        /// The first failure.
        reason: String,
    },
    /// The store is shutting down.
    #[error("the store is shutting down")]
    Stopped,
    /// The bytes do not hash to the digest that was asked for.
    #[error("the content has digest {actual} and {expected} was asked for")]
    DigestMismatch {
        /// What it should have been.
        expected: Box<Digest>,
        /// What the bytes are.
        actual: Box<Digest>,
    },
    /// The content is longer or shorter than its descriptor says.
    #[error("{digest} has {actual} bytes and its descriptor says {expected}")]
    SizeMismatch {
        /// The content.
        digest: Digest,
        /// Size by the descriptor, in bytes.
        expected: u64,
        /// Size of what came, in bytes.
        actual: u64,
    },
    /// The manifest does not parse.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest names blobs that are not there (OCI distribution-spec, `MANIFEST_BLOB_UNKNOWN`).
    #[error("the manifest names blobs that `{repository}` does not have: {missing}; push them first")]
    MissingBlobs {
        /// Where the manifest was put.
        repository: RepositoryName,
        /// What is not there.
        missing: Missing,
    },
    /// The repository has no such manifest.
    #[error("`{repository}` has no manifest {digest}")]
    UnknownManifest {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// The repository has no such tag.
    #[error("`{repository}` has no tag `{tag}`")]
    UnknownTag {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
    /// The repository has no such blob, or the store has none where a link was asked for.
    #[error("there is no blob {digest}")]
    UnknownBlob {
        /// The blob.
        digest: Digest,
    },
    /// The blob may not go: a manifest of the repository names it.
    #[error("a manifest of `{repository}` names {digest}: delete the manifest first")]
    BlobInUse {
        /// The repository.
        repository: RepositoryName,
        /// The blob.
        digest: Digest,
    },
    /// There is no such upload session: it ended, expired or never was.
    #[error("there is no such upload: it was finished or cancelled, or has expired; begin a new one")]
    UnknownUpload,
    /// There are as many upload sessions as the store keeps at once.
    #[error("too many uploads at once: finish or cancel some, or try again later")]
    TooManyUploads,
    /// Another request is writing to the same upload session.
    #[error("another request is writing to this upload: wait for its end")]
    UploadBusy,
    /// Bytes were sent for another place than the end of what is there.
    #[error("the upload continues at byte {offset}")]
    UploadOffset {
        /// Where the next byte belongs.
        offset: u64,
    },
    /// Somebody else in this process writes the same partial download.
    #[error("{digest} is already being downloaded")]
    PartialBusy {
        /// The blob.
        digest: Digest,
    },
}

impl StoreError {
    /// An I/O error with its place; a full disk becomes [`StoreError::NoSpace`].
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let full = [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT, rustix::io::Errno::FBIG];
        if full.iter().any(|e| source.raw_os_error() == Some(e.raw_os_error())) {
            return Self::NoSpace { path: path.to_owned() };
        }
        Self::Io { action, path: path.to_owned(), source }
    }

    /// The bytes are not those that were asked for.
    pub(crate) fn mismatch(expected: Digest, actual: Digest) -> Self {
        Self::DigestMismatch { expected: Box::new(expected), actual: Box::new(actual) }
    }

    /// The same failure for another one who waited for the same commit.
    pub(crate) fn duplicate(&self) -> Self {
        match self {
            Self::NoSpace { path } => Self::NoSpace { path: path.clone() },
            Self::Io { action, path, source } => {
                let source =
                    source.raw_os_error().map_or_else(|| source.kind().into(), io::Error::from_raw_os_error);
                Self::Io { action, path: path.clone(), source }
            }
            Self::ReadOnly { reason } => Self::ReadOnly { reason: reason.clone() },
            other => Self::Index { reason: other.to_string() },
        }
    }

    /// Whether the disk is full, so that trying again helps only after space was freed.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}

/// For `map_err`: keeps what was tried and on what.
pub(crate) fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::io(action, path, source)
}
