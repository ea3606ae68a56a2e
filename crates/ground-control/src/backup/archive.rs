//! What an archive looks like, and how it is written.
//!
//! ```text
//! backup.json                      what it is a backup of: Head
//! server-key.json                  the server key, sealed under a passphrase; only where that was asked for
//! database.sqlite                  the database, as it was at one moment; not with PostgreSQL
//! registry/blobs/sha256/<hex>      content of the built-in registry; sha512: the hexadecimal digits in two halves
//! registry/damaged.json            digests of content that was damaged in the registry already, and is left out at a restore
//! registry/journal                 what is in which repository, tags
//! SHA256SUMS                       of all entries before, for sha256sum -c
//! ```
//! In this order and no other: whoever reads knows at the beginning whether it can be restored, and at the end that it is
//! whole. Plain tar with plain files: content of a registry is compressed already, and deduplicating stores of backups like
//! it best so.

use std::fs::File;
use std::io::{self, Read, Write};

use jiff::Timestamp;
use oci::{Algorithm, Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::error::{BackupError, damaged};
use super::file::Sequential;
use super::progress::Progress;

/// The version of the format.
pub const FORMAT: u32 = 1;

pub(super) const HEAD: &str = "backup.json";
pub(super) const KEY: &str = "server-key.json";
pub(super) const DATABASE: &str = "database.sqlite";
pub(super) const BLOBS: &str = "registry/blobs/";
pub(super) const DAMAGED: &str = "registry/damaged.json";
pub(super) const JOURNAL: &str = "registry/journal";
pub(super) const SUMS: &str = "SHA256SUMS";

/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;
/// The longest hexadecimal part of a name, so that it fits into a plain header.
const HALF: usize = 64;

/// Which database a backup is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// It is in the archive.
    Sqlite,
    /// It is dumped by its own programs.
    Postgresql,
}

impl DatabaseKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgresql => "PostgreSQL",
        }
    }
}

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`] of the program that made it.
    pub format: u32,
    /// The version of that program.
    pub program: String,
    /// The moment that the database is of.
    pub taken_at: Timestamp,
    /// The kind of database.
    pub database: DatabaseKind,
    /// The number of its last migration.
    pub schema: i64,
    /// Its epoch.
    pub epoch: u64,
    /// What tells the server key that it is kept under from others.
    pub key_check: Option<String>,
    /// Whether the built-in registry is in it.
    pub registry: bool,
    /// Bytes of database and registry.
    pub bytes: u64,
}

/// The name of a content's entry.
pub(super) fn blob_name(digest: &Digest) -> String {
    let (algorithm, hex) = (digest.algorithm(), digest.hex());
    match hex.split_at_checked(HALF) {
        Some((first, second)) if !second.is_empty() => format!("{BLOBS}{algorithm}/{first}/{second}"),
        _ => format!("{BLOBS}{algorithm}/{hex}"),
    }
}

/// Reads back [`blob_name`], and nothing else.
pub(super) fn blob_of(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix(BLOBS)?.split_once('/')?;
    let digest: Digest = format!("{algorithm}:{}", hex.replace('/', "")).parse().ok()?;
    (blob_name(&digest) == name).then_some(digest)
}

/// One line of the sums, as `sha256sum` writes it.
pub(super) fn sum_line(name: &str, sha256: &Digest) -> String {
    format!("{}  {name}\n", sha256.hex())
}

/// Copies all of `from`, and tells the digests of what came: SHA-256, and that of `algorithm`.
pub(super) fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    algorithm: Algorithm,
    progress: &Progress,
    failed: impl Fn(io::Error) -> BackupError,
) -> Result<(u64, Digest, Digest), BackupError> {
    let mut buffer = vec![0; PIECE];
    let mut sha256 = Hasher::new(Algorithm::Sha256);
    let mut own = (algorithm != Algorithm::Sha256).then(|| Hasher::new(algorithm));
    let mut copied = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(error)),
        };
        sha256.update(&buffer[..n]);
        if let Some(own) = &mut own {
            own.update(&buffer[..n]);
        }
        to.write_all(&buffer[..n]).map_err(&failed)?;
        copied += n as u64;
        progress.add(n as u64)?;
    }
    let sha256 = sha256.finish();
    Ok((copied, sha256, own.map_or(sha256, Hasher::finish)))
}

/// Writes an archive from front to back.
#[derive(Debug)]
pub(super) struct Writer<'a, W: Write> {
    to: W,
    sums: Sequential,
    taken_at: Timestamp,
    progress: &'a Progress,
}

impl<'a, W: Write> Writer<'a, W> {
    /// `sums`: an empty file beside.
    pub(super) fn new(to: W, sums: Sequential, taken_at: Timestamp, progress: &'a Progress) -> Self {
        Self { to, sums, taken_at, progress }
    }

    /// Adds what is small.
    pub(super) fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), BackupError> {
        self.entry(name, &mut &*bytes, bytes.len() as u64, Algorithm::Sha256).map(drop)
    }

    /// Adds a file of this length; tells the digest of what was in it.
    pub(super) fn file(
        &mut self,
        name: &str,
        file: &mut File,
        size: u64,
        algorithm: Algorithm,
    ) -> Result<Digest, BackupError> {
        self.entry(name, file, size, algorithm)
    }

    fn entry(
        &mut self,
        name: &str,
        from: &mut dyn Read,
        size: u64,
        algorithm: Algorithm,
    ) -> Result<Digest, BackupError> {
        self.header(name, size)?;
        let (copied, sha256, digest) =
            copy(&mut from.take(size), &mut self.to, algorithm, self.progress, unwritable)?;
        if copied != size {
            return Err(BackupError::Failed(format!("{name} became shorter while it was read")));
        }
        self.pad(size)?;
        self.sums.write_all(sum_line(name, &sha256).as_bytes()).map_err(unwritable)?;
        Ok(digest)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), BackupError> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).map_err(unwritable)?;
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(self.taken_at.as_second()).unwrap_or_default());
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.to.write_all(header.as_bytes()).map_err(unwritable)
    }

    /// An entry fills blocks of 512 bytes.
    fn pad(&mut self, size: u64) -> Result<(), BackupError> {
        let rest = usize::try_from(size % 512).unwrap_or_default();
        if rest == 0 { Ok(()) } else { self.to.write_all(&[0; 512][rest..]).map_err(unwritable) }
    }

    /// Writes the sums and the end.
    pub(super) fn finish(mut self) -> Result<W, BackupError> {
        use std::io::Seek as _;
        let size = self.sums.len();
        self.header(SUMS, size)?;
        let mut sums = self.sums.file();
        sums.rewind().map_err(unwritable)?;
        copy(&mut sums.take(size), &mut self.to, Algorithm::Sha256, self.progress, unwritable)?;
        self.pad(size)?;
        self.to.write_all(&[0; 1024]).and_then(|()| self.to.flush()).map_err(unwritable)?;
        Ok(self.to)
    }
}

fn unwritable(source: io::Error) -> BackupError {
    BackupError::Io { action: "write", path: "the backup".into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_content_are_read_back_and_no_others() {
        for digest in [Digest::sha256(b"x"), format!("sha512:{}", "ab".repeat(64)).parse().unwrap()] {
            let name = blob_name(&digest);
            assert!(name.split('/').all(|part| part.len() <= 100), "{name}");
            assert_eq!(blob_of(&name), Some(digest));
        }
        let hex = "ab".repeat(32);
        for name in [
            format!("registry/blobs/sha256/../{hex}"),
            format!("registry/blobs/sha256//{hex}"),
            format!("registry/blobs/sha256/{}", &hex[1..]),
            format!("registry/blobs/sha256/{}", hex.to_uppercase()),
            format!("registry/blobs/sha512/{hex}{hex}"),
            format!("registry/blobs/md5/{hex}"),
            format!("/registry/blobs/sha256/{hex}"),
            "registry/blobs/".to_owned(),
        ] {
            assert_eq!(blob_of(&name), None, "{name}");
        }
    }
}
