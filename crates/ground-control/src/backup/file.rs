//! Files written from front to back.

use std::io::{self, Write};
use std::path::Path;

use blob_store::durable::{DurableFile, PRIVATE_FILE};

use super::error::{BackupError, at};

/// A new file of this user's alone.
#[derive(Debug)]
pub(super) struct Sequential {
    file: DurableFile,
    end: u64,
}

impl Sequential {
    /// Makes it; it must not be there yet.
    pub(super) fn create(path: &Path) -> Result<Self, BackupError> {
        let file = DurableFile::create(path, PRIVATE_FILE).map_err(at("make", path))?;
        Ok(Self { file, end: 0 })
    }

    /// Returns when all of it is on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// The file, to be read.
    pub(super) fn file(&self) -> &std::fs::File {
        self.file.file()
    }

    /// Bytes written.
    pub(super) fn len(&self) -> u64 {
        self.end
    }
}

impl Write for Sequential {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.end)?;
        self.end += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
