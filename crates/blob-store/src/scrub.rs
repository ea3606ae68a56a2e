//! Finding damage: by reading again, or by a look at the files' sizes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use oci::{Descriptor, Digest, Manifest, Reference, RepositoryName};

use crate::error::{StoreError, at};
use crate::index::{CONTENTS, failed, read};
use crate::key;
use crate::record::{ManifestRow, Record};
use crate::store::{Store, blocking};

/// Contents whose names are held in memory at a time.
const PAGE: usize = 256;
/// Damaged contents that a report names at most.
const MAX_NAMED: usize = 1000;
/// Bytes hashed between two looks at the clock.
const SLICE: u64 = 4 << 20;

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
#[derive(Clone, Copy, Debug, Default)]
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
    /// What is lost and has to be fetched again: configs and layers of it and of the children that are here, and
    /// children whose own files are lost. Foreign layers are not looked at.
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

impl crate::shared::Shared {
    pub(crate) fn quarantine_name(&self, digest: &Digest) -> std::path::PathBuf {
        let at = crate::shared::now();
        self.layout.quarantine().join(format!("{}-{at}", crate::layout::flat(digest)))
    }
}

impl Store {
    /// Looks whether the manifest, its children that are here and all their blobs have their files with the right sizes.
    /// Only sizes are looked at where all is well, so it is cheap enough for each reconcile. Damage found counts as
    /// missing from then on.
    pub async fn wholeness(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Wholeness, StoreError> {
        let (store, repository, digest) = (self.clone(), repository.clone(), *digest);
        blocking(move || {
            let mut found = Wholeness::default();
            // An index may hold indexes; a manifest that names itself by a detour cannot exist, a deep one can.
            let mut waiting = vec![digest];
            let mut seen = std::collections::BTreeSet::new();
            while let Some(next) = waiting.pop() {
                if !seen.insert(next) {
                    continue;
                }
                let Some(row) = store.manifest_row(repository.as_str(), &next)? else { continue };
                let present = store.has_blob_anywhere(&next)?;
                if next == digest {
                    found.manifest = present;
                }
                if present && !store.look_at(&repository, &next, &row, &mut found, &mut waiting)? {
                    // A child that cannot be read any more: only its parent has a descriptor of it, of the same digest.
                    if next == digest {
                        found.manifest = false;
                    } else {
                        found.missing.push(Descriptor::new(row.media_type, next, row.size));
                    }
                }
            }
            Ok(found)
        })
        .await
    }

    /// Whether the document could be read, where that was needed.
    fn look_at(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        row: &ManifestRow,
        found: &mut Wholeness,
        waiting: &mut Vec<Digest>,
    ) -> Result<bool, StoreError> {
        let (mut missing, mut absent) = (Vec::new(), Vec::new());
        for blob in row.blobs.iter().filter(|b| !b.optional) {
            if !self.has_blob_anywhere(&blob.digest)? {
                missing.push(blob.digest);
            }
        }
        for child in &row.children {
            if self.manifest_row(repository.as_str(), &child.digest)?.is_none() {
                absent.push(child.digest);
            } else if self.has_blob_anywhere(&child.digest)? {
                waiting.push(child.digest);
            } else {
                missing.push(child.digest);
            }
        }
        if missing.is_empty() && absent.is_empty() {
            return Ok(true);
        }
        // The rare case reads the document, for descriptors as they stand in it.
        let manifest = self.manifest(repository, &Reference::Digest(*digest))?;
        let parsed = manifest.and_then(|m| Manifest::parse(Some(&m.media_type), &m.bytes).ok());
        let Some(parsed) = parsed else { return Ok(false) };
        for descriptor in parsed.blobs().chain(&parsed.manifests) {
            if missing.contains(&descriptor.digest) && !found.missing.contains(descriptor) {
                found.missing.push(descriptor.clone());
            }
            if absent.contains(&descriptor.digest) && !found.absent_children.contains(descriptor) {
                found.absent_children.push(descriptor.clone());
            }
        }
        Ok(true)
    }

    /// Reads one blob or manifest again and compares it with its digest.
    pub async fn verify_blob(&self, digest: &Digest) -> Result<Verdict, StoreError> {
        self.verify(*digest, 0).await.map(|(verdict, _)| verdict)
    }

    /// Verifies everything, at a bounded rate.
    pub async fn scrub(&self, options: ScrubOptions) -> Result<ScrubReport, StoreError> {
        let mut report = ScrubReport::default();
        let mut last: Option<Digest> = None;
        loop {
            let page = self.contents_after(last.as_ref())?;
            let Some(end) = page.last() else { return Ok(report) };
            last = Some(*end);
            for digest in page {
                let (verdict, bytes) = self.verify(digest, options.bytes_per_second).await?;
                report.checked += 1;
                report.bytes += bytes;
                let collected = self.content(&digest)?.is_none();
                if verdict != Verdict::Whole && !collected && report.damaged.len() < MAX_NAMED {
                    report.damaged.push(digest);
                }
            }
        }
    }

    fn contents_after(&self, last: Option<&Digest>) -> Result<Vec<Digest>, StoreError> {
        let from = last.map(key::digest).unwrap_or_default();
        self.inner.shared.index.read(|t| {
            let mut page = Vec::new();
            let contents = t.open_table(CONTENTS).map_err(failed)?;
            for row in contents.range(from.as_slice()..).map_err(failed)? {
                let (found, _) = row.map_err(failed)?;
                let digest = key::parse_digest(found.value());
                page.extend(digest.filter(|digest| Some(digest) != last));
                if page.len() >= PAGE {
                    break;
                }
            }
            Ok(page)
        })
    }

    /// Hashes a content's file, slowly enough, and acts on what that shows. Returns the bytes read too.
    async fn verify(&self, digest: Digest, rate: u64) -> Result<(Verdict, u64), StoreError> {
        let Some(content) = self.content(&digest)? else { return Ok((Verdict::Missing, 0)) };
        let path = self.inner.shared.layout.blob(&digest);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.report_damage(&digest, "its file is gone");
                return Ok((Verdict::Missing, 0));
            }
            Err(e) => return Err(at("open", &path)(e)),
        };
        let metadata = file.metadata().map_err(at("look at", &path))?;
        let (inode, size) = (metadata.ino(), metadata.size());
        let mut hasher = oci::Hasher::new(digest.algorithm());
        let (begun, mut offset) = (Instant::now(), 0);
        let file = std::sync::Arc::new(file);
        // Another length needs no reading.
        while offset < size && size == content.size {
            let n = SLICE.min(size - offset);
            let (slice, place) = (std::sync::Arc::clone(&file), path.clone());
            hasher = blocking(move || {
                crate::sink::hash_range(&slice, hasher, offset, n).map_err(at("read", &place))
            })
            .await?;
            offset += n;
            if rate > 0 {
                let due = Duration::from_secs_f64(offset as f64 / rate as f64);
                tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
            }
        }
        if size == content.size && hasher.finish() == digest {
            return Ok((Verdict::Whole, offset));
        }
        let verdict = self.quarantine(digest, inode).await?;
        Ok((verdict, offset))
    }

    /// Sets the damaged file aside, unless another copy was put in its place meanwhile.
    async fn quarantine(&self, digest: Digest, inode: u64) -> Result<Verdict, StoreError> {
        self.inner
            .committer
            .commit(move |t| {
                let path = t.shared.layout.blob(&digest);
                match fs::metadata(&path) {
                    Ok(m) if m.ino() == inode => {}
                    Ok(_) => return Ok(Verdict::Whole),
                    Err(_) => return Ok(Verdict::Missing),
                }
                tracing::error!(%digest, "content is damaged: in quarantine, it counts as missing");
                let aside = t.shared.quarantine_name(&digest);
                fs::rename(&path, &aside).map_err(at("set aside", &path))?;
                if read::content(&t.tables.contents, &digest)?.is_some_and(|c| !c.lost) {
                    t.push(Record::Lost { digest })?;
                }
                Ok(Verdict::Quarantined)
            })
            .await
    }
}
