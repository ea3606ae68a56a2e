//! Gzipped tar archives whose bytes depend on their content alone: layers of images, parts of Debian packages.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use oci::{Algorithm, Digest, Hasher};

/// Something in an archive. Its owner is root unless it is said otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    path: String,
    mode: u32,
    owner: u64,
    /// `None` for a folder.
    content: Option<Vec<u8>>,
}

impl Entry {
    /// A file.
    pub(crate) fn file(path: impl Into<String>, mode: u32, content: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), mode, owner: 0, content: Some(content.into()) }
    }

    /// A folder.
    pub(crate) fn folder(path: impl Into<String>, mode: u32) -> Self {
        Self { path: path.into(), mode, owner: 0, content: None }
    }

    /// The same, of this user and the group of the same number.
    pub(crate) fn owned_by(self, owner: u64) -> Self {
        Self { owner, ..self }
    }

    /// Where it is in the archive.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// What a file holds.
    pub(crate) fn content(&self) -> Option<&[u8]> {
        self.content.as_deref()
    }
}

/// A packed archive.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// Gzipped.
    pub(crate) bytes: Vec<u8>,
    /// Digest of the archive before gzip, which an image's config lists.
    pub(crate) plain: Digest,
}

/// Hashes what passes through.
struct Tee<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Packs entries in their order. `root` is put before each path (`./` in Debian packages), `time` is everything's time.
pub(crate) fn pack(entries: &[Entry], root: &str, time: u64) -> io::Result<Packed> {
    // Without a name and a time of its own, which flate2 leaves out unless told.
    let gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    let mut archive = tar::Builder::new(Tee { inner: gzip, hasher: Hasher::new(Algorithm::Sha256) });
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(time);
        header.set_uid(entry.owner);
        header.set_gid(entry.owner);
        header.set_mode(entry.mode);
        if entry.owner == 0 {
            header.set_username("root")?;
            header.set_groupname("root")?;
        }
        let content = entry.content.as_deref();
        header.set_size(content.map_or(0, |content| content.len() as u64));
        let (kind, slash) = match content {
            Some(_) => (tar::EntryType::Regular, ""),
            // The root is `./` and not `.//`, which dpkg takes for a file without a name.
            None => (tar::EntryType::Directory, if entry.path.is_empty() { "" } else { "/" }),
        };
        header.set_entry_type(kind);
        // As it is: the library would drop the `./` that Debian's own tools write.
        set_path(&mut header, &format!("{root}{}{slash}", entry.path))?;
        header.set_cksum();
        archive.append(&header, content.unwrap_or_default())?;
    }
    let tee = archive.into_inner()?;
    Ok(Packed { bytes: tee.inner.finish()?, plain: tee.hasher.finish() })
}

fn set_path(header: &mut tar::Header, path: &str) -> io::Result<()> {
    let field = header
        .as_gnu_mut()
        .map(|header| &mut header.name)
        .filter(|field| path.len() <= field.len())
        .ok_or_else(|| io::Error::other(format!("the path {path} is too long for an archive")))?;
    field.fill(0);
    field[..path.len()].copy_from_slice(path.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn same_content_same_bytes_and_nothing_of_this_machine() {
        let entries = [
            Entry::folder("", 0o755),
            Entry::folder("var/lib/x", 0o700).owned_by(65532),
            Entry::file("usr/bin/x", 0o755, b"content".to_vec()),
        ];
        let (one, two) = (pack(&entries, "./", 5).unwrap(), pack(&entries, "./", 5).unwrap());
        assert_eq!(one.bytes, two.bytes);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(one.bytes.as_slice()).take(1 << 20).read_to_end(&mut plain).unwrap();
        assert_eq!(Digest::sha256(&plain), one.plain);
        let mut archive = tar::Archive::new(plain.as_slice());
        let told: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
                (path, header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap())
            })
            .collect();
        let expected = [
            ("./".to_owned(), 0o755, 0, 5),
            ("./var/lib/x/".to_owned(), 0o700, 65532, 5),
            ("./usr/bin/x".to_owned(), 0o755, 0, 5),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_path_that_does_not_fit_is_refused() {
        assert!(pack(&[Entry::folder("x".repeat(101), 0o755)], "", 0).is_err());
    }
}
