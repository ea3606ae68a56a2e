//! Blobs: who may see them, and reading them.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use oci::{Digest, RepositoryName};

use crate::blob::BlobReader;
use crate::error::{StoreError, at};
use crate::index::{CONTENTS, LINKED, VISIBILITY, failed, read};
use crate::record::Record;
use crate::store::Store;

impl Store {
    /// A blob as far as the repository may see it: pushed or mounted there, or named by a manifest there.
    pub fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<BlobReader>, StoreError> {
        let content = self.inner.shared.index.read(|t| {
            let visibility = t.open_table(VISIBILITY).map_err(failed)?;
            if !read::visible(&visibility, repository.as_str(), digest)? {
                return Ok(None);
            }
            read::content(&t.open_table(CONTENTS).map_err(failed)?, digest)
        })?;
        content.map_or(Ok(None), |content| self.open_content(digest, content))
    }

    /// A blob or the bytes of a manifest, whoever may see it. Not for what answers a client.
    pub fn blob_anywhere(&self, digest: &Digest) -> Result<Option<BlobReader>, StoreError> {
        let content = self.content(digest)?;
        content.map_or(Ok(None), |content| self.open_content(digest, content))
    }

    pub(crate) fn content(&self, digest: &Digest) -> Result<Option<read::Content>, StoreError> {
        self.inner.shared.index.read(|t| read::content(&t.open_table(CONTENTS).map_err(failed)?, digest))
    }

    fn open_content(
        &self,
        digest: &Digest,
        content: read::Content,
    ) -> Result<Option<BlobReader>, StoreError> {
        if content.lost {
            return Ok(None);
        }
        let path = self.inner.shared.layout.blob(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.report_damage(digest, "its file is gone");
                return Ok(None);
            }
            Err(e) => return Err(at("open", &path)(e)),
        };
        if file.metadata().map_err(at("look at", &path))?.size() != content.size {
            self.report_damage(digest, "its file has another length");
            return Ok(None);
        }
        Ok(Some(BlobReader {
            file: Arc::new(file),
            path,
            digest: *digest,
            size: content.size,
            buffers: Arc::clone(&self.inner.buffers),
        }))
    }

    /// Whether the content is here and its file has the right size. Hold a [`crate::Pin`] where it must stay so.
    pub fn has_blob_anywhere(&self, digest: &Digest) -> Result<bool, StoreError> {
        // Before the index is asked: a collection that ends in between has taken it out there.
        if self.inner.shared.pins.is_doomed(digest) {
            return Ok(false);
        }
        let Some(content) = self.content(digest)?.filter(|c| !c.lost) else { return Ok(false) };
        let whole = self.inner.shared.file_length(digest) == Some(content.size);
        if !whole {
            self.report_damage(digest, "its file is gone or has another length");
        }
        Ok(whole)
    }

    /// Notes that a content is not what it should be; from then on it counts as missing and can be put again.
    pub(crate) fn report_damage(&self, digest: &Digest, reason: &'static str) {
        let digest = *digest;
        self.inner.committer.submit(move |t| {
            // Whoever saw it may have raced with a collection or with a new copy: look again.
            let Some(content) = read::content(&t.tables.contents, &digest)?.filter(|c| !c.lost) else {
                return Ok(());
            };
            if t.shared.file_length(&digest) == Some(content.size)
                && !is_small_and_wrong(t.shared, &digest, content.size)
            {
                return Ok(());
            }
            tracing::error!(%digest, reason, "content is damaged and counts as missing");
            t.push(Record::Lost { digest })
        });
    }

    /// Makes a blob that the store has visible in a repository (a mount); [`StoreError::UnknownBlob`] where it has not.
    pub async fn link_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let (repository, digest) = (repository.as_str().to_owned(), *digest);
        self.inner
            .committer
            .commit(move |t| {
                if !t.holds(&digest)? {
                    return Err(StoreError::UnknownBlob { digest });
                }
                t.push(Record::Link { repository, digest })
            })
            .await
    }

    /// Ends a blob's visibility in a repository at once: [`StoreError::BlobInUse`] where a manifest there names it,
    /// `false` where it was not visible.
    pub async fn unlink_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let (repository, digest) = (repository.clone(), *digest);
        self.inner
            .committer
            .commit(move |t| {
                let (flags, named) = read::visibility(&t.tables.visibility, repository.as_str(), &digest)?;
                if named > 0 {
                    return Err(StoreError::BlobInUse { repository, digest });
                }
                if flags & LINKED == 0 {
                    return Ok(false);
                }
                t.push(Record::Unlink { repository: repository.as_str().to_owned(), digest })?;
                Ok(true)
            })
            .await
    }

    /// The repositories in which a blob is visible, at most `n`; for a mount that names no source.
    pub fn repositories_of_blob(&self, digest: &Digest, n: usize) -> Result<Vec<RepositoryName>, StoreError> {
        self.inner.shared.index.read(|t| {
            let mut repositories = Vec::new();
            read::each_repository(
                &t.open_table(VISIBILITY).map_err(failed)?,
                digest,
                |name, flags, named| {
                    if flags & LINKED != 0 || named > 0 {
                        repositories.extend(name.parse::<RepositoryName>().ok());
                    }
                    repositories.len() < n
                },
            )?;
            Ok(repositories)
        })
    }
}

/// Whether a file of a manifest's size has other bytes; larger ones are the scrub's.
fn is_small_and_wrong(shared: &crate::shared::Shared, digest: &Digest, size: u64) -> bool {
    const SMALL: u64 = 8 << 20;
    size <= SMALL
        && std::fs::read(shared.layout.blob(digest))
            .is_ok_and(|bytes| Digest::of(digest.algorithm(), &bytes) != *digest)
}
