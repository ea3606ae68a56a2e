//! Finding damage: by reading again, or by a look at the files' sizes.

use oci::{Descriptor, Digest, RepositoryName};

use crate::error::StoreError;
use crate::store::Store;

/// What a verification found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes hash to the digest.
    Whole,
    /// The store has no such content, or its file is gone.
    Missing,
    /// The bytes were damaged; the file is in quarantine and the content counts as missing.
    Quarantined,
}

/// How to scrub.
#[derive(Clone, Copy, Debug)]
pub struct ScrubOptions {
    /// Bytes a second to read at most; 0 means no bound.
    pub bytes_per_second: u64,
}

/// What a scrub did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Contents read.
    pub checked: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Contents that are missing now and have to be fetched again (the first 1,000).
    pub damaged: Vec<Digest>,
}

/// What is missing of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wholeness {
    /// Whether the repository has the manifest and its file is right.
    pub manifest: bool,
    /// Configs and layers that are lost, of it and of the children that are here. Foreign layers are not looked at.
    pub missing: Vec<Descriptor>,
    /// Children that the repository does not have. Whether that is damage or a sparse index is the caller's to tell.
    pub absent_children: Vec<Descriptor>,
}

impl Wholeness {
    /// Whether nothing is missing; children left out do not count.
    pub fn is_whole(&self) -> bool {
        self.manifest && self.missing.is_empty()
    }
}

impl Store {
    /// Looks whether the manifest, its children that are here and all their blobs have their files with the right sizes.
    /// Nothing is read, so it is cheap enough for each reconcile. Damage found counts as missing from then on.
    pub async fn wholeness(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Wholeness, StoreError> {
        let _ = (repository, digest);
        Err(StoreError::Stopped)
    }

    /// Reads one blob or manifest again and compares it with its digest.
    pub async fn verify_blob(&self, digest: &Digest) -> Result<Verdict, StoreError> {
        let _ = digest;
        Err(StoreError::Stopped)
    }

    /// Verifies everything, at a bounded rate.
    pub async fn scrub(&self, options: ScrubOptions) -> Result<ScrubReport, StoreError> {
        let _ = options;
        Err(StoreError::Stopped)
    }
}
