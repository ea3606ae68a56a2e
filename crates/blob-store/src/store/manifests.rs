//! Manifests and tags.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use oci::{Descriptor, Digest, Manifest, Reference, RepositoryName, Tag};

use crate::committer::Transaction;
use crate::error::{Missing, StoreError, at};
use crate::index::{MANIFEST, MANIFESTS, TAGS, VISIBILITY, failed, read};
use crate::record::{ManifestRow, Record};
use crate::store::Store;
use crate::types::{Completeness, PutManifest, PutOutcome, StoredManifest};

impl Store {
    /// A manifest of a repository by tag or digest.
    pub fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<StoredManifest>, StoreError> {
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => match self.resolve_tag(repository, tag)? {
                Some(digest) => digest,
                None => return Ok(None),
            },
        };
        let cache = &self.inner.shared.cache;
        if let Some(manifest) = cache.manifest(repository.as_str(), &digest) {
            return Ok(Some(manifest));
        }
        let generation = cache.generation();
        let row = self.manifest_row(repository.as_str(), &digest)?;
        let Some(row) = row else { return Ok(None) };
        let manifest = self.load_manifest(&digest, row)?;
        if let Some(manifest) = &manifest {
            cache.insert_manifest(generation, repository.as_str(), manifest);
        }
        Ok(manifest)
    }

    pub(crate) fn manifest_row(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<ManifestRow>, StoreError> {
        self.inner
            .shared
            .index
            .read(|t| read::manifest(&t.open_table(MANIFESTS).map_err(failed)?, repository, digest))
    }

    /// The bytes of a manifest; what is damaged is not served and counts as missing from then on.
    fn load_manifest(&self, digest: &Digest, row: ManifestRow) -> Result<Option<StoredManifest>, StoreError> {
        let path = self.inner.shared.layout.blob(digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(digest.algorithm(), &bytes) == *digest => {
                let bytes = Bytes::from(bytes);
                Ok(Some(StoredManifest { digest: *digest, media_type: row.media_type, bytes }))
            }
            Ok(_) => {
                self.report_damage(digest, "its bytes do not match");
                Ok(None)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.report_damage(digest, "its file is gone");
                Ok(None)
            }
            Err(e) => Err(at("read", &path)(e)),
        }
    }

    /// A manifest in whatever repository has it.
    pub fn manifest_anywhere(&self, digest: &Digest) -> Result<Option<StoredManifest>, StoreError> {
        let row = self.inner.shared.index.read(|t| {
            let mut found = None;
            let visibility = t.open_table(VISIBILITY).map_err(failed)?;
            read::each_repository(&visibility, digest, |name, flags, _| {
                found = (flags & MANIFEST != 0).then(|| name.to_owned());
                found.is_none()
            })?;
            match found {
                Some(name) => read::manifest(&t.open_table(MANIFESTS).map_err(failed)?, &name, digest),
                None => Ok(None),
            }
        })?;
        row.map_or(Ok(None), |row| self.load_manifest(digest, row))
    }

    /// What a tag points at.
    pub fn resolve_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        let shared = &self.inner.shared;
        if let Some(digest) = shared.cache.tag(repository.as_str(), tag.as_str()) {
            return Ok(Some(digest));
        }
        let generation = shared.cache.generation();
        let digest = shared
            .index
            .read(|t| read::tag(&t.open_table(TAGS).map_err(failed)?, repository.as_str(), tag.as_str()))?;
        if let Some(digest) = digest {
            shared.cache.insert_tag(generation, repository.as_str(), tag.as_str(), digest);
        }
        Ok(digest)
    }

    /// Keeps a manifest, with its tags, in one step.
    pub async fn put_manifest(&self, put: PutManifest) -> Result<PutOutcome, StoreError> {
        let actual = Digest::of(put.digest.algorithm(), &put.bytes);
        if actual != put.digest {
            return Err(StoreError::mismatch(put.digest, actual));
        }
        let manifest = Manifest::parse(put.media_type.as_deref(), &put.bytes)?;
        let needed: Arc<[Descriptor]> =
            manifest.blobs().filter(|d| !d.is_non_distributable()).cloned().collect();
        let row = ManifestRow::of(&manifest, put.bytes.len() as u64);
        let decision = Decision {
            digest: put.digest,
            row: Arc::new(row),
            needed,
            repository: put.repository,
            tags: put.tags.into(),
            completeness: put.completeness,
        };
        let subject = decision.row.subject;
        // The bytes may be here already; whether they still are is decided in the commit.
        let mut temporary = None;
        if !self.has_blob_anywhere(&put.digest)? {
            temporary = Some(self.inner.write_temporary(put.bytes.clone()).await?);
        }
        loop {
            let path = temporary.as_ref().map(|t| t.path().to_owned());
            let (decision, size) = (decision.clone(), put.bytes.len() as u64);
            let decided = self.inner.committer.commit(move |t| {
                if !t.holds(&decision.digest)? {
                    let Some(path) = path else { return Ok(None) };
                    decision.check(t)?;
                    t.publish(&path, &decision.digest, size)?;
                } else {
                    decision.check(t)?;
                }
                decision.apply(t).map(Some)
            });
            match decided.await? {
                Some(created) => return Ok(PutOutcome { created, subject }),
                None => temporary = Some(self.inner.write_temporary(put.bytes.clone()).await?),
            }
        }
    }

    /// Removes a manifest and all tags that point at it; `false` where it was not there. The grace of the blobs that it
    /// alone named begins.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let (repository, digest) = (repository.as_str().to_owned(), *digest);
        self.inner
            .committer
            .commit(move |t| {
                if !has_manifest(t, &repository, &digest)? {
                    return Ok(false);
                }
                t.push(Record::DeleteManifest { repository, digest })?;
                Ok(true)
            })
            .await
    }

    /// Points a tag at a manifest of the repository ([`StoreError::UnknownManifest`] where it is not there).
    pub async fn set_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let (repository, tag, digest) = (repository.clone(), tag.clone(), *digest);
        self.inner
            .committer
            .commit(move |t| {
                if !has_manifest(t, repository.as_str(), &digest)? {
                    return Err(StoreError::UnknownManifest { repository, digest });
                }
                move_tag(t, &repository, &tag, &digest)
            })
            .await
    }

    /// Removes a tag; the manifest stays. `false` where it was not there.
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool, StoreError> {
        let (repository, tag) = (repository.as_str().to_owned(), tag.as_str().to_owned());
        self.inner
            .committer
            .commit(move |t| {
                if read::tag(&t.tables.tags, &repository, &tag)?.is_none() {
                    return Ok(false);
                }
                t.push(Record::DeleteTag { repository, tag })?;
                Ok(true)
            })
            .await
    }
}

fn has_manifest(t: &Transaction<'_, '_>, repository: &str, digest: &Digest) -> Result<bool, StoreError> {
    let (flags, _) = read::visibility(&t.tables.visibility, repository, digest)?;
    Ok(flags & MANIFEST != 0)
}

fn move_tag(
    t: &mut Transaction<'_, '_>,
    repository: &RepositoryName,
    tag: &Tag,
    digest: &Digest,
) -> Result<(), StoreError> {
    if read::tag(&t.tables.tags, repository.as_str(), tag.as_str())? == Some(*digest) {
        return Ok(());
    }
    let (repository, tag) = (repository.as_str().to_owned(), tag.as_str().to_owned());
    t.push(Record::SetTag { repository, tag, digest: *digest })
}

/// A manifest on its way in.
#[derive(Clone)]
struct Decision {
    digest: Digest,
    row: Arc<ManifestRow>,
    needed: Arc<[Descriptor]>,
    repository: RepositoryName,
    tags: Arc<[Tag]>,
    completeness: Completeness,
}

impl Decision {
    /// Whether everything that has to be there is there, at this moment of the commit.
    fn check(&self, t: &Transaction<'_, '_>) -> Result<(), StoreError> {
        let mut missing = Vec::new();
        for descriptor in self.needed.iter() {
            let visible = match self.completeness {
                Completeness::HeldAnywhere => true,
                Completeness::VisibleHere => {
                    read::visible(&t.tables.visibility, self.repository.as_str(), &descriptor.digest)?
                }
            };
            if !visible || !t.holds(&descriptor.digest)? {
                missing.push(descriptor.clone());
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(StoreError::MissingBlobs { repository: self.repository.clone(), missing: Missing(missing) })
    }

    /// Makes manifest and tags visible; whether the manifest was not before.
    fn apply(&self, t: &mut Transaction<'_, '_>) -> Result<bool, StoreError> {
        let repository = self.repository.as_str();
        let old = read::manifest(&t.tables.manifests, repository, &self.digest)?;
        if old.as_ref() != Some(&*self.row) {
            t.push(Record::PutManifest {
                repository: repository.to_owned(),
                digest: self.digest,
                row: (*self.row).clone(),
            })?;
        }
        for tag in self.tags.iter() {
            move_tag(t, &self.repository, tag, &self.digest)?;
        }
        Ok(old.is_none())
    }
}
