//! How each record changes the index. Records apply to any state, with the same result when they are applied again, and
//! one that makes no sense changes nothing: a journal with a gap still gives an index that is right about what it has.

use oci::Digest;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::index::{LINKED, LOST, MANIFEST, Tables, failed, read};
use crate::key;
use crate::record::{ManifestRow, Record};

impl Tables<'_> {
    /// Applies one record of a batch that was committed `at` (0 in a snapshot).
    pub(crate) fn apply(&mut self, record: &Record, at: u64) -> Result<(), StoreError> {
        match record {
            Record::Content { digest, size, at } => self.content(digest, *size, *at),
            Record::Lost { digest } => self.lost(digest),
            Record::Forget { digest } => self.forget(digest),
            Record::Link { repository, digest } => {
                self.see(digest, repository, |flags, _| *flags |= LINKED)?;
                self.touch(digest, at)
            }
            Record::Unlink { repository, digest } => {
                self.see(digest, repository, |flags, _| *flags &= !LINKED)
            }
            Record::PutManifest { repository, digest, row } => self.put_manifest(repository, digest, row, at),
            Record::DeleteManifest { repository, digest } => {
                for tag in read::tags_of(&self.tagged, repository, digest)? {
                    self.delete_tag(repository, &tag)?;
                }
                self.remove_manifest(repository, digest, at)
            }
            Record::SetTag { repository, tag, digest } => self.set_tag(repository, tag, digest),
            Record::DeleteTag { repository, tag } => self.delete_tag(repository, tag),
        }
    }

    fn content(&mut self, digest: &Digest, size: u64, at: u64) -> Result<(), StoreError> {
        let old = read::content(&self.contents, digest)?;
        if let Some(old) = old.filter(|old| !old.lost) {
            self.uncount(old.size);
        }
        self.usage.bytes += size;
        self.usage.contents += 1;
        let since = old.map_or(0, |old| old.since);
        if since != 0 {
            self.unreferenced.remove(key::since(since, digest).as_slice()).map_err(failed)?;
        }
        let since = if read::in_use(&self.visibility, digest)? { 0 } else { since.max(at).max(1) };
        self.store_content(digest, size, since, 0)
    }

    fn store_content(&mut self, digest: &Digest, size: u64, since: u64, flags: u8) -> Result<(), StoreError> {
        self.contents.insert(key::digest(digest).as_slice(), (size, since, flags)).map_err(failed)?;
        if since != 0 {
            self.unreferenced.insert(key::since(since, digest).as_slice(), ()).map_err(failed)?;
        }
        Ok(())
    }

    fn uncount(&mut self, size: u64) {
        self.usage.bytes = self.usage.bytes.saturating_sub(size);
        self.usage.contents = self.usage.contents.saturating_sub(1);
    }

    fn lost(&mut self, digest: &Digest) -> Result<(), StoreError> {
        if let Some(old) = read::content(&self.contents, digest)?.filter(|old| !old.lost) {
            self.uncount(old.size);
            self.store_content(digest, old.size, old.since, LOST)?;
        }
        Ok(())
    }

    fn forget(&mut self, digest: &Digest) -> Result<(), StoreError> {
        let Some(old) = read::content(&self.contents, digest)? else { return Ok(()) };
        if !old.lost {
            self.uncount(old.size);
        }
        self.contents.remove(key::digest(digest).as_slice()).map_err(failed)?;
        self.unreferenced.remove(key::since(old.since, digest).as_slice()).map_err(failed)?;
        let mut repositories = Vec::new();
        read::each_repository(&self.visibility, digest, |name, _, _| {
            repositories.push(name.to_owned());
            true
        })?;
        for repository in repositories {
            self.see(digest, &repository, |flags, _| *flags &= !LINKED)?;
        }
        Ok(())
    }

    /// Begins the grace again, where it runs.
    fn touch(&mut self, digest: &Digest, at: u64) -> Result<(), StoreError> {
        match read::content(&self.contents, digest)? {
            Some(c) if c.since != 0 && at > c.since => self.move_grace(digest, c, at),
            _ => Ok(()),
        }
    }

    /// Ends the grace: a manifest needs the content.
    fn claim(&mut self, digest: &Digest) -> Result<(), StoreError> {
        match read::content(&self.contents, digest)? {
            Some(c) if c.since != 0 => self.move_grace(digest, c, 0),
            _ => Ok(()),
        }
    }

    /// Begins the grace, if it was the last manifest that needed the content.
    fn release(&mut self, digest: &Digest, at: u64) -> Result<(), StoreError> {
        match read::content(&self.contents, digest)? {
            Some(c) if c.since == 0 && !read::in_use(&self.visibility, digest)? => {
                self.move_grace(digest, c, at.max(1))
            }
            _ => Ok(()),
        }
    }

    fn move_grace(&mut self, digest: &Digest, content: read::Content, since: u64) -> Result<(), StoreError> {
        if content.since != 0 {
            self.unreferenced.remove(key::since(content.since, digest).as_slice()).map_err(failed)?;
        }
        self.store_content(digest, content.size, since, if content.lost { LOST } else { 0 })
    }

    /// Changes what a repository sees of a content, and keeps the repository's counts.
    fn see(
        &mut self,
        digest: &Digest,
        repository: &str,
        change: impl FnOnce(&mut u8, &mut u32),
    ) -> Result<(), StoreError> {
        let (old_flags, old_named) = read::visibility(&self.visibility, repository, digest)?;
        let (mut flags, mut named) = (old_flags, old_named);
        change(&mut flags, &mut named);
        if (flags, named) == (old_flags, old_named) {
            return Ok(());
        }
        let key = key::of_content(digest, repository);
        if flags == 0 && named == 0 {
            self.visibility.remove(key.as_slice()).map_err(failed)?;
        } else {
            self.visibility.insert(key.as_slice(), (flags, named)).map_err(failed)?;
        }
        let now = |bit: u8| i64::from(flags & bit != 0) - i64::from(old_flags & bit != 0);
        self.count(repository, now(MANIFEST), 0, now(LINKED))
    }

    fn count(&mut self, repository: &str, manifests: i64, tags: i64, links: i64) -> Result<(), StoreError> {
        if (manifests, tags, links) == (0, 0, 0) {
            return Ok(());
        }
        let old = self.repositories.get(repository).map_err(failed)?.map_or((0, 0, 0), |row| row.value());
        let new = (
            old.0.saturating_add_signed(manifests),
            old.1.saturating_add_signed(tags),
            old.2.saturating_add_signed(links),
        );
        if new == (0, 0, 0) {
            self.repositories.remove(repository).map_err(failed)?;
        } else {
            self.repositories.insert(repository, new).map_err(failed)?;
        }
        let usage = &mut self.usage;
        usage.manifests = usage.manifests.saturating_add_signed(manifests);
        usage.tags = usage.tags.saturating_add_signed(tags);
        usage.repositories =
            usage.repositories.saturating_add_signed(i64::from(new.0 > 0) - i64::from(old.0 > 0));
        Ok(())
    }

    fn put_manifest(
        &mut self,
        repository: &str,
        digest: &Digest,
        row: &ManifestRow,
        at: u64,
    ) -> Result<(), StoreError> {
        match read::manifest(&self.manifests, repository, digest)? {
            Some(old) if old == *row => return Ok(()),
            Some(_) => self.remove_manifest(repository, digest, at)?,
            None => {}
        }
        let encoded = row.encode();
        self.manifests
            .insert(key::in_repository(repository, digest).as_slice(), encoded.as_slice())
            .map_err(failed)?;
        if let Some(subject) = &row.subject {
            self.referrers.insert(key::pair(repository, subject, digest).as_slice(), ()).map_err(failed)?;
        }
        self.see(digest, repository, |flags, _| *flags |= MANIFEST)?;
        self.claim(digest)?;
        for blob in &row.blobs {
            self.see(&blob.digest, repository, |_, named| *named += 1)?;
            self.claim(&blob.digest)?;
        }
        Ok(())
    }

    fn remove_manifest(&mut self, repository: &str, digest: &Digest, at: u64) -> Result<(), StoreError> {
        let Some(row) = read::manifest(&self.manifests, repository, digest)? else { return Ok(()) };
        self.manifests.remove(key::in_repository(repository, digest).as_slice()).map_err(failed)?;
        if let Some(subject) = &row.subject {
            self.referrers.remove(key::pair(repository, subject, digest).as_slice()).map_err(failed)?;
        }
        self.see(digest, repository, |flags, _| *flags &= !MANIFEST)?;
        self.release(digest, at)?;
        for blob in &row.blobs {
            self.see(&blob.digest, repository, |_, named| *named = named.saturating_sub(1))?;
            self.release(&blob.digest, at)?;
        }
        Ok(())
    }

    fn set_tag(&mut self, repository: &str, tag: &str, digest: &Digest) -> Result<(), StoreError> {
        let (flags, _) = read::visibility(&self.visibility, repository, digest)?;
        if flags & MANIFEST == 0 {
            return Ok(());
        }
        match read::tag(&self.tags, repository, tag)? {
            Some(old) => {
                self.tagged.remove(key::tagged(repository, &old, tag).as_slice()).map_err(failed)?;
            }
            None => self.count(repository, 0, 1, 0)?,
        }
        self.tags
            .insert(key::tag(repository, tag).as_slice(), key::digest(digest).as_slice())
            .map_err(failed)?;
        self.tagged.insert(key::tagged(repository, digest, tag).as_slice(), ()).map_err(failed)?;
        Ok(())
    }

    fn delete_tag(&mut self, repository: &str, tag: &str) -> Result<(), StoreError> {
        if let Some(old) = read::tag(&self.tags, repository, tag)? {
            self.tags.remove(key::tag(repository, tag).as_slice()).map_err(failed)?;
            self.tagged.remove(key::tagged(repository, &old, tag).as_slice()).map_err(failed)?;
            self.count(repository, 0, -1, 0)?;
        }
        Ok(())
    }
}
