//! Sessions of pushes (OCI distribution-spec, "Pushing blobs"): they survive a restart of the program.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use oci::{Algorithm, Digest, RepositoryName};
use uuid::Uuid;

use crate::error::StoreError;
use crate::store::Store;

/// Names a session; 122 random bits, so it cannot be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(Uuid);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = StoreError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(s).map(Self).map_err(|_| StoreError::UnknownUpload)
    }
}

impl Store {
    /// Begins a session. `algorithm` is what the final digest will use, where the client told; sha256 is assumed
    /// otherwise, and another one at the end costs reading the bytes again.
    pub async fn create_upload(
        &self,
        repository: &RepositoryName,
        algorithm: Option<Algorithm>,
    ) -> Result<Upload, StoreError> {
        let _ = (repository, algorithm);
        Err(StoreError::Stopped)
    }

    /// A session of that repository; [`StoreError::UnknownUpload`] where there is none.
    pub async fn upload(&self, repository: &RepositoryName, id: UploadId) -> Result<Upload, StoreError> {
        let _ = (repository, id);
        Err(StoreError::Stopped)
    }

    /// Publishes a blob of which all bytes are in memory. For small content; large content takes an upload or a partial.
    pub async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let _ = (repository, digest, bytes);
        Err(StoreError::Stopped)
    }
}

/// A handle of an upload session; cloning it names the same session.
#[derive(Clone, Debug)]
pub struct Upload {
    id: UploadId,
}

impl Upload {
    /// Its name.
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// Bytes received so far, which is where the next one belongs.
    pub fn offset(&self) -> u64 {
        0
    }

    /// Begins to append. `at` is the first byte's offset where the client told one: any other than
    /// [`Upload::offset`] is refused with [`StoreError::UploadOffset`]. While the writer lives, others get
    /// [`StoreError::UploadBusy`]; dropped, it keeps what was written.
    pub async fn append(&self, at: Option<u64>) -> Result<UploadWriter, StoreError> {
        let _ = at;
        Err(StoreError::Stopped)
    }

    /// Verifies the digest, publishes the blob and makes it visible in the session's repository. Returns its size.
    /// A mismatch is [`StoreError::DigestMismatch`]: nothing is visible, and the session is over.
    pub async fn finish(&self, digest: &Digest) -> Result<u64, StoreError> {
        let _ = digest;
        Err(StoreError::Stopped)
    }

    /// Ends the session and throws its bytes away.
    pub async fn cancel(&self) -> Result<(), StoreError> {
        Err(StoreError::Stopped)
    }
}

/// The one writer of a session.
#[derive(Debug)]
pub struct UploadWriter {}

impl UploadWriter {
    /// Appends. Returns when the bytes are accepted; back-pressure is by waiting.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let _ = bytes;
        Err(StoreError::Stopped)
    }

    /// Waits until everything is on the disk and returns the session's new offset.
    pub async fn close(self) -> Result<u64, StoreError> {
        Err(StoreError::Stopped)
    }
}
