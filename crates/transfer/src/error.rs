//! What can go wrong on the way from a source to a destination.

use std::time::Duration;

use blob_store::StoreError;
use oci::Digest;
use registry_client::{ErrorKind, Fault};

/// What a failure of a source means for the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// It is not there.
    NotFound,
    /// The source does not let us, or does not for the moment.
    Denied,
    /// It may work later: network, overload.
    Temporary,
    /// The source sends whole blobs only.
    NoRanges,
    /// The source sent what it must not have sent: other bytes, another length.
    Corrupt,
    /// It will not work until somebody changes something.
    Permanent,
}

/// A source that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct SourceError {
    /// What it means.
    pub kind: SourceErrorKind,
    /// What happened, for people.
    pub text: String,
    /// When the source wants to be asked again, if it said so.
    pub retry_after: Option<Duration>,
}

impl SourceError {
    /// An error of this kind.
    pub fn new(kind: SourceErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), retry_after: None }
    }

    /// Whether trying again later may help without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        self.kind == SourceErrorKind::Temporary
    }
}

impl From<registry_client::Error> for SourceError {
    fn from(error: registry_client::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound(_) => SourceErrorKind::NotFound,
            ErrorKind::RangeIgnored { .. } => SourceErrorKind::NoRanges,
            _ if error.is_retryable() => SourceErrorKind::Temporary,
            _ if error.fault() == Fault::Credentials => SourceErrorKind::Denied,
            ErrorKind::DigestMismatch { .. } | ErrorKind::Length { .. } | ErrorKind::RangeMismatch { .. } => {
                SourceErrorKind::Corrupt
            }
            _ => SourceErrorKind::Permanent,
        };
        Self { kind, text: error.to_string(), retry_after: error.retry_after() }
    }
}

/// A destination that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct DestinationError {
    /// What happened, for people.
    pub text: String,
    /// Whether trying again later may help without anybody doing anything.
    pub retryable: bool,
    /// Whether there is no space left.
    pub no_space: bool,
    /// The bytes that arrived were not those of the digest.
    pub mismatch: bool,
    /// When the destination wants to be asked again, if it said so.
    pub retry_after: Option<Duration>,
}

impl From<StoreError> for DestinationError {
    fn from(error: StoreError) -> Self {
        let mismatch = matches!(error, StoreError::DigestMismatch { .. });
        let no_space = error.is_no_space();
        // A full disk is emptied by the collector, and a blob whose bytes went missing is fetched again.
        let retryable = no_space
            || matches!(
                error,
                StoreError::PartialBusy { .. } | StoreError::MissingBlobs { .. } | StoreError::Io { .. }
            );
        Self { text: format!("the local store: {error}"), retryable, no_space, mismatch, retry_after: None }
    }
}

impl From<registry_client::Error> for DestinationError {
    fn from(error: registry_client::Error) -> Self {
        Self {
            text: error.to_string(),
            retryable: error.is_retryable(),
            no_space: false,
            mismatch: false,
            retry_after: error.retry_after(),
        }
    }
}

/// Why a copy failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The source failed.
    #[error(transparent)]
    Source(SourceError),
    /// The destination failed.
    #[error(transparent)]
    Destination(DestinationError),
    /// The bytes that the source sends are not those of the digest, more than once.
    #[error("the source sends other bytes than those of the digest: {0}")]
    Mismatch(String),
    /// A manifest cannot be read.
    #[error("the manifest cannot be read: {0}")]
    Manifest(String),
    /// A manifest has another size than its descriptor says.
    #[error("the manifest has {actual} bytes, its descriptor says {expected}")]
    ManifestSize {
        /// By the descriptor.
        expected: u64,
        /// By its bytes.
        actual: u64,
    },
    /// Indexes in indexes, or referrers of referrers, beyond the limit.
    #[error("the graph is deeper than {0} levels")]
    TooDeep(usize),
    /// More manifests than the limit.
    #[error("the graph has more than {0} manifests")]
    TooLarge(usize),
    /// [`crate::Admission`] said no.
    #[error("not admitted: {0}")]
    Refused(String),
    /// The engine is shutting down; what has arrived is kept.
    #[error("the transfer was stopped; it continues where it is at the next try")]
    Stopped,
}

/// A copy that failed: which artifact, which part of it, and why. Its tags have not moved.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{artifact}: {part}: {cause}")]
pub struct CopyError {
    /// The artifact: `library/nginx@sha256:…`.
    pub artifact: Box<str>,
    /// The part of it: `blob sha256:…`, `manifest sha256:…`, `tag 1.27`.
    pub part: Box<str>,
    /// The digest of the part, where it has one.
    pub digest: Option<Digest>,
    /// Why.
    pub cause: Box<Cause>,
}

impl CopyError {
    /// Whether trying again later may help without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        match &*self.cause {
            Cause::Source(error) => error.is_retryable(),
            Cause::Destination(error) => error.retryable,
            Cause::Stopped => true,
            _ => false,
        }
    }

    /// When the other side wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match &*self.cause {
            Cause::Source(error) => error.retry_after,
            Cause::Destination(error) => error.retry_after,
            _ => None,
        }
    }

    /// Whether the source does not have what is asked for.
    pub fn is_not_found(&self) -> bool {
        matches!(&*self.cause, Cause::Source(error) if error.kind == SourceErrorKind::NotFound)
    }

    /// Whether the source refused the credentials. One such answer is no proof that they are wrong.
    pub fn is_denied(&self) -> bool {
        matches!(&*self.cause, Cause::Source(error) if error.kind == SourceErrorKind::Denied)
    }

    /// Whether the destination has no space left.
    pub fn is_no_space(&self) -> bool {
        matches!(&*self.cause, Cause::Destination(error) if error.no_space)
    }
}
