//! The one place where files are made, replaced and removed so that a crash at any moment leaves either the old or the
//! new state: temporary name, write, fsync, rename, fsync of the directory.
//!
//! Every function blocks; call them from a blocking thread.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Mode of files that hold nothing for others.
pub const PRIVATE_FILE: u32 = 0o600;
/// Mode of directories that hold nothing for others.
pub const PRIVATE_DIRECTORY: u32 = 0o700;

/// Makes a directory and its missing parents, mode 0700, surviving a power cut once this has returned.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(PRIVATE_DIRECTORY).create(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(path)?.is_dir() {
                Ok(())
            } else {
                Err(e)
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound && parent(path) != path => {
            create_dir_all(parent(path))?;
            create_dir_all(path)
        }
        Err(e) => Err(e),
    }
}

/// Replaces (or makes) a file in one step: after a crash it holds the old bytes or the new ones, never less.
pub fn write_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_name(path);
    let written = (|| {
        let mut file = create_new(&temporary, mode)?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    if let Err(e) = written.and_then(|()| rename(&temporary, path)) {
        drop(fs::remove_file(&temporary));
        return Err(e);
    }
    Ok(())
}

/// Removes a file for good; that it was not there is no error.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Renames within one file system and makes the new name (and the loss of the old one) survive a power cut.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(parent(to))?;
    if parent(from) != parent(to) {
        sync_dir(parent(from))?;
    }
    Ok(())
}

/// Makes the names in a directory survive a power cut.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).read(true).create_new(true).mode(mode).open(path)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if p.as_os_str().is_empty() => Path::new("."),
        Some(p) => p,
        None => path,
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    path.with_file_name(name)
}
