//! Questions to the index; the same for a reader and inside the committer's transaction.

use oci::Digest;
use redb::ReadableTable;

use crate::error::StoreError;
use crate::index::{LINKED, LOST, MANIFEST, failed};
use crate::key;
use crate::record::ManifestRow;

pub(crate) trait Contents: ReadableTable<&'static [u8], (u64, u64, u8)> {}
impl<T: ReadableTable<&'static [u8], (u64, u64, u8)>> Contents for T {}
pub(crate) trait Visibility: ReadableTable<&'static [u8], (u8, u32)> {}
impl<T: ReadableTable<&'static [u8], (u8, u32)>> Visibility for T {}
pub(crate) trait Rows: ReadableTable<&'static [u8], &'static [u8]> {}
impl<T: ReadableTable<&'static [u8], &'static [u8]>> Rows for T {}
pub(crate) trait Set: ReadableTable<&'static [u8], ()> {}
impl<T: ReadableTable<&'static [u8], ()>> Set for T {}

/// What is known of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) since: u64,
    pub(crate) lost: bool,
}

pub(crate) fn content(table: &impl Contents, digest: &Digest) -> Result<Option<Content>, StoreError> {
    let row = table.get(key::digest(digest).as_slice()).map_err(failed)?;
    Ok(row.map(|row| {
        let (size, since, flags) = row.value();
        Content { size, since, lost: flags & LOST != 0 }
    }))
}

/// Flags of the content in the repository, and how many of its manifests name it.
pub(crate) fn visibility(
    table: &impl Visibility,
    repository: &str,
    digest: &Digest,
) -> Result<(u8, u32), StoreError> {
    let row = table.get(key::of_content(digest, repository).as_slice()).map_err(failed)?;
    Ok(row.map_or((0, 0), |row| row.value()))
}

pub(crate) fn visible(
    table: &impl Visibility,
    repository: &str,
    digest: &Digest,
) -> Result<bool, StoreError> {
    let (flags, named) = visibility(table, repository, digest)?;
    Ok(flags & LINKED != 0 || named > 0)
}

/// Whether any repository has the content as a manifest or names it in one.
pub(crate) fn in_use(table: &impl Visibility, digest: &Digest) -> Result<bool, StoreError> {
    let mut used = false;
    each_repository(table, digest, |_, flags, named| {
        used = flags & MANIFEST != 0 || named > 0;
        !used
    })?;
    Ok(used)
}

/// Calls `f` with repository, flags and count for each repository that knows the content, until it returns `false`.
pub(crate) fn each_repository(
    table: &impl Visibility,
    digest: &Digest,
    mut f: impl FnMut(&str, u8, u32) -> bool,
) -> Result<(), StoreError> {
    let prefix = key::digest(digest);
    for row in table.range(prefix.as_slice()..).map_err(failed)? {
        let (found, value) = row.map_err(failed)?;
        let Some(name) = found.value().strip_prefix(prefix.as_slice()) else { break };
        let (flags, named) = value.value();
        if !f(std::str::from_utf8(name).unwrap_or_default(), flags, named) {
            break;
        }
    }
    Ok(())
}

pub(crate) fn manifest(
    table: &impl Rows,
    repository: &str,
    digest: &Digest,
) -> Result<Option<ManifestRow>, StoreError> {
    let row = table.get(key::in_repository(repository, digest).as_slice()).map_err(failed)?;
    match row {
        None => Ok(None),
        Some(row) => match ManifestRow::decode(row.value()) {
            Some(row) => Ok(Some(row)),
            None => Err(StoreError::Index { reason: format!("the row of {digest} does not decode") }),
        },
    }
}

pub(crate) fn tag(table: &impl Rows, repository: &str, tag: &str) -> Result<Option<Digest>, StoreError> {
    let row = table.get(key::tag(repository, tag).as_slice()).map_err(failed)?;
    Ok(row.and_then(|row| key::parse_digest(row.value())))
}

/// The rests of the keys that begin with `prefix`, after `prefix + last`, until `f` returns `false`.
pub(crate) fn each_in_set(
    table: &impl Set,
    prefix: &[u8],
    mut f: impl FnMut(&[u8]) -> bool,
) -> Result<(), StoreError> {
    for row in table.range(prefix..).map_err(failed)? {
        let (found, _) = row.map_err(failed)?;
        match found.value().strip_prefix(prefix) {
            Some(rest) if f(rest) => {}
            _ => break,
        }
    }
    Ok(())
}

/// Key rests and values of the rows that begin with `prefix`, from `prefix + last` on (exclusive), until `f` says `false`.
pub(crate) fn each_row(
    table: &impl Rows,
    prefix: &[u8],
    last: Option<&[u8]>,
    mut f: impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), StoreError> {
    let mut from = prefix.to_vec();
    from.extend_from_slice(last.unwrap_or_default());
    for row in table.range(from.as_slice()..).map_err(failed)? {
        let (found, value) = row.map_err(failed)?;
        let Some(rest) = found.value().strip_prefix(prefix) else { break };
        if last.is_some_and(|last| rest == last) {
            continue;
        }
        if !f(rest, value.value()) {
            break;
        }
    }
    Ok(())
}

/// The tags that point at a manifest, sorted.
pub(crate) fn tags_of(
    table: &impl Set,
    repository: &str,
    digest: &Digest,
) -> Result<Vec<String>, StoreError> {
    let mut tags = Vec::new();
    each_in_set(table, &key::in_repository(repository, digest), |tag| {
        tags.extend(std::str::from_utf8(tag).ok().map(str::to_owned));
        true
    })?;
    Ok(tags)
}

/// Contents that nothing has needed since `before` or earlier, the oldest first, until `f` returns `false`.
pub(crate) fn each_unreferenced(
    table: &impl Set,
    before: u64,
    mut f: impl FnMut(Digest) -> bool,
) -> Result<(), StoreError> {
    each_in_set(table, &[], |found| match key::parse_since(found) {
        Some((at, digest)) => at <= before && f(digest),
        None => true,
    })
}
