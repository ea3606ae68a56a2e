//! Sorted lists, a page at a time.

use oci::{Descriptor, Digest, RepositoryName, Tag};

use crate::error::StoreError;
use crate::index::{MANIFESTS, REFERRERS, REPOSITORIES, TAGGED, TAGS, failed, read};
use crate::key;
use crate::record::ManifestRow;
use crate::store::Store;
use crate::types::{ManifestEntry, Page};

impl<T> Page<T> {
    /// Takes one more item if the page has room for it; else there is something after the page.
    fn take(&mut self, item: Option<T>, n: usize) -> bool {
        if self.items.len() >= n {
            self.more = true;
            return false;
        }
        self.items.extend(item);
        true
    }
}

impl Store {
    /// At most `n` tags after `last`, sorted by their bytes.
    pub fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        n: usize,
    ) -> Result<Page<Tag>, StoreError> {
        self.inner.shared.index.read(|t| {
            let mut page = Page::default();
            let (tags, prefix) = (t.open_table(TAGS).map_err(failed)?, key::repository(repository.as_str()));
            read::each_row(&tags, &prefix, last.map(str::as_bytes), |tag, _| {
                page.take(std::str::from_utf8(tag).ok().and_then(|t| t.parse().ok()), n)
            })?;
            Ok(page)
        })
    }

    /// At most `n` manifests of a repository after `last`, sorted by digest.
    pub fn manifests(
        &self,
        repository: &RepositoryName,
        last: Option<&Digest>,
        n: usize,
    ) -> Result<Page<ManifestEntry>, StoreError> {
        self.inner.shared.index.read(|t| {
            let mut page = Page::default();
            let (rows, prefix) =
                (t.open_table(MANIFESTS).map_err(failed)?, key::repository(repository.as_str()));
            let last = last.map(key::digest);
            read::each_row(&rows, &prefix, last.as_deref(), |found, row| {
                let entry = key::parse_digest(found).zip(ManifestRow::decode(row));
                page.take(entry.map(|(digest, row)| entry_of(digest, row)), n)
            })?;
            let tagged = t.open_table(TAGGED).map_err(failed)?;
            for entry in &mut page.items {
                let tags = read::tags_of(&tagged, repository.as_str(), &entry.digest)?;
                entry.tags = tags.iter().filter_map(|t| t.parse().ok()).collect();
            }
            Ok(page)
        })
    }

    /// Whether the repository has a manifest or a blob that was pushed into it.
    pub fn has_repository(&self, repository: &RepositoryName) -> Result<bool, StoreError> {
        self.inner.shared.index.read(|t| {
            let repositories = t.open_table(REPOSITORIES).map_err(failed)?;
            Ok(repositories.get(repository.as_str()).map_err(failed)?.is_some())
        })
    }

    /// At most `n` repositories that have a manifest, after `last`, sorted by their bytes.
    pub fn repositories(&self, last: Option<&str>, n: usize) -> Result<Page<RepositoryName>, StoreError> {
        self.inner.shared.index.read(|t| {
            let mut page = Page::default();
            let repositories = t.open_table(REPOSITORIES).map_err(failed)?;
            for row in repositories.range(last.unwrap_or_default()..).map_err(failed)? {
                let (found, counts) = row.map_err(failed)?;
                if counts.value().0 == 0 || last == Some(found.value()) {
                    continue;
                }
                if !page.take(found.value().parse().ok(), n) {
                    break;
                }
            }
            Ok(page)
        })
    }

    /// Descriptors of the manifests of this repository whose subject is `digest`, whether or not that one is there
    /// (OCI distribution-spec, "Listing referrers").
    pub fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let repository = repository.as_str();
        self.inner.shared.index.read(|t| {
            let mut digests = Vec::new();
            let prefix = key::in_repository(repository, digest);
            read::each_in_set(&t.open_table(REFERRERS).map_err(failed)?, &prefix, |referrer| {
                digests.extend(key::parse_digest(referrer));
                true
            })?;
            let rows = t.open_table(MANIFESTS).map_err(failed)?;
            let mut descriptors = Vec::new();
            for digest in digests {
                descriptors
                    .extend(read::manifest(&rows, repository, &digest)?.map(|row| row.descriptor(digest)));
            }
            Ok(descriptors)
        })
    }
}

fn entry_of(digest: Digest, row: ManifestRow) -> ManifestEntry {
    ManifestEntry {
        digest,
        media_type: row.media_type,
        size: row.size,
        subject: row.subject,
        tags: Vec::new(),
    }
}
