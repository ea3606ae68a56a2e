//! Layers: gzipped tar archives whose bytes depend on their content alone.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use oci::{Digest, Hasher};

use crate::{Error, Result};

/// Something in a layer. Paths are relative: `bin/busybox`.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A file with its permissions.
    File(String, u32, Vec<u8>),
    /// A symbolic link and where it points.
    Link(String, String),
    /// A folder, open to everybody.
    Folder(String),
}

/// A packed layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The gzipped archive.
    pub bytes: Vec<u8>,
    /// Digest of the archive before gzip, which an image's config lists.
    pub diff_id: Digest,
}

/// Hashes what passes through.
struct Tee<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Packs entries into a layer. `level` is gzip's: 0 stores, which is right for random content.
pub fn layer(entries: &[Entry], level: u32) -> Result<Layer> {
    let pack = || -> std::io::Result<Layer> {
        let gzip = GzEncoder::new(Vec::new(), Compression::new(level));
        let tee = Tee { inner: gzip, hasher: Hasher::new(oci::Algorithm::Sha256) };
        let mut archive = tar::Builder::new(tee);
        for entry in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            match entry {
                Entry::File(path, mode, content) => {
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_mode(*mode);
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_slice())?;
                }
                Entry::Link(path, target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target)?;
                }
                Entry::Folder(path) => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(0o777);
                    header.set_size(0);
                    archive.append_data(&mut header, path, std::io::empty())?;
                }
            }
        }
        let tee = archive.into_inner()?;
        Ok(Layer { bytes: tee.inner.finish()?, diff_id: tee.hasher.finish() })
    };
    pack().map_err(Error::io("cannot pack a layer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_content_same_bytes() {
        let entries = [
            Entry::Folder("tmp".into()),
            Entry::File("bin/a".into(), 0o755, b"content".to_vec()),
            Entry::Link("bin/b".into(), "a".into()),
        ];
        let (one, two) = (layer(&entries, 6).unwrap(), layer(&entries, 6).unwrap());
        assert_eq!(one.bytes, two.bytes);
        let plain = {
            use std::io::Read;
            let mut plain = Vec::new();
            let limit = 1 << 20;
            flate2::read::GzDecoder::new(one.bytes.as_slice()).take(limit).read_to_end(&mut plain).unwrap();
            plain
        };
        assert_eq!(Digest::sha256(&plain), one.diff_id);
    }
}
