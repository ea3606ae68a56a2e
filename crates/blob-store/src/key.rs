//! Keys of the index. A repository name ends with a zero byte, which no name contains; a digest begins with a byte that
//! tells its length: so each part is found again and each list is one range of keys.

use oci::Digest;

use crate::codec::{Decoder, Encoder};

/// A digest as a key.
pub(crate) fn digest(digest: &Digest) -> Vec<u8> {
    let mut e = Encoder::default();
    e.digest(digest);
    e.0
}

/// Everything of a repository begins with this.
pub(crate) fn repository(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 80);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key
}

/// Repository, then digest.
pub(crate) fn in_repository(name: &str, digest: &Digest) -> Vec<u8> {
    let mut e = Encoder(repository(name));
    e.digest(digest);
    e.0
}

/// Repository, then tag.
pub(crate) fn tag(name: &str, tag: &str) -> Vec<u8> {
    let mut key = repository(name);
    key.extend_from_slice(tag.as_bytes());
    key
}

/// Digest, then repository.
pub(crate) fn of_content(digest: &Digest, name: &str) -> Vec<u8> {
    let mut key = self::digest(digest);
    key.extend_from_slice(name.as_bytes());
    key
}

/// Repository, then a digest, then another.
pub(crate) fn pair(name: &str, first: &Digest, second: &Digest) -> Vec<u8> {
    let mut e = Encoder(in_repository(name, first));
    e.digest(second);
    e.0
}

/// Repository, then a digest, then a tag.
pub(crate) fn tagged(name: &str, digest: &Digest, tag: &str) -> Vec<u8> {
    let mut key = in_repository(name, digest);
    key.extend_from_slice(tag.as_bytes());
    key
}

/// A time, then a digest: sorted by time.
pub(crate) fn since(at: u64, digest: &Digest) -> Vec<u8> {
    let mut e = Encoder(at.to_be_bytes().to_vec());
    e.digest(digest);
    e.0
}

/// Reads back a key of [`since`].
pub(crate) fn parse_since(key: &[u8]) -> Option<(u64, Digest)> {
    let (at, rest) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*at), parse_digest(rest)?))
}

/// Reads a digest that is the whole rest of a key.
pub(crate) fn parse_digest(bytes: &[u8]) -> Option<Digest> {
    let mut d = Decoder(bytes);
    let digest = d.digest()?;
    d.0.is_empty().then_some(digest)
}

/// Reads a digest and the text after it.
pub(crate) fn parse_digest_and_text(bytes: &[u8]) -> Option<(Digest, &str)> {
    let mut d = Decoder(bytes);
    let digest = d.digest()?;
    Some((digest, std::str::from_utf8(d.0).ok()?))
}
