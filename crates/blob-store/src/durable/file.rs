//! A file that is written at given places and synced when its owner says so.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An open file with its name. Nothing is durable before a sync.
#[derive(Debug)]
pub struct DurableFile {
    file: File,
    path: PathBuf,
}

impl DurableFile {
    /// Makes a file that must not be there yet.
    pub fn create(path: &Path, mode: u32) -> io::Result<Self> {
        Self::with(path, OpenOptions::new().create_new(true).mode(mode))
    }

    /// Opens a file that is there.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::with(path, &mut OpenOptions::new())
    }

    /// Opens a file, empty where it was not there.
    pub fn open_or_create(path: &Path, mode: u32) -> io::Result<Self> {
        Self::with(path, OpenOptions::new().create(true).truncate(false).mode(mode))
    }

    fn with(path: &Path, options: &mut OpenOptions) -> io::Result<Self> {
        #[cfg(test)]
        super::fault::check(super::fault::Operation::Open, path)?;
        Ok(Self { file: options.read(true).write(true).open(path)?, path: path.to_owned() })
    }

    /// Its name when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, to read from.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes all bytes at `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        super::fault::check(super::fault::Operation::Write, &self.path)?;
        self.file.write_all_at(bytes, offset)
    }

    /// Reads exactly as many bytes as the buffer takes.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Its length in bytes.
    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or extends it.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        #[cfg(test)]
        super::fault::check(super::fault::Operation::Truncate, &self.path)?;
        self.file.set_len(length)
    }

    /// Returns when bytes and length are on the disk.
    pub fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        super::fault::check(super::fault::Operation::Sync, &self.path)?;
        self.file.sync_data()
    }

    /// Returns when bytes and all metadata are on the disk.
    pub fn sync_all(&self) -> io::Result<()> {
        #[cfg(test)]
        super::fault::check(super::fault::Operation::Sync, &self.path)?;
        self.file.sync_all()
    }
}
