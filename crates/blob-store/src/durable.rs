//! The one place where files are made, replaced and removed so that a crash at any moment leaves either the old or the
//! new state: temporary name, write, fsync, rename, fsync of the directory.
//!
//! Every function blocks; call them from a blocking thread.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
pub(crate) mod fault;
mod file;

pub use file::DurableFile;

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
        let file = DurableFile::create(&temporary, mode)?;
        file.write_at(bytes, 0)?;
        file.sync_all()?;
        rename(&temporary, path)
    })();
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Like [`write_file`], but a power cut soon after may leave the old file, or none. For what is only a hint.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_name(path);
    let written = (|| {
        DurableFile::create(&temporary, mode)?.write_at(bytes, 0)?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Syncs a complete file and gives it its final name.
pub fn publish(temporary: &Path, path: &Path) -> io::Result<()> {
    File::open(temporary)?.sync_all()?;
    rename(temporary, path)
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
    #[cfg(test)]
    fault::check(fault::Operation::Sync, path)?;
    File::open(path)?.sync_all()
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/state");
        create_dir_all(parent(&path)).unwrap();
        create_dir_all(parent(&path)).unwrap();
        write_file(&path, b"old", PRIVATE_FILE).unwrap();
        write_file(&path, b"new!", PRIVATE_FILE).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new!");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(parent(&path)).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(parent(&path)).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write_file(&path, b"old", PRIVATE_FILE).unwrap();
        for operation in [fault::Operation::Write, fault::Operation::Sync] {
            let _fault = fault::inject(dir.path(), operation, rustix::io::Errno::NOSPC);
            write_file(&path, b"new", PRIVATE_FILE).unwrap_err();
            assert_eq!(fs::read(&path).unwrap(), b"old");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_where_a_file_is_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_file(&path, b"", PRIVATE_FILE).unwrap();
        create_dir_all(&path).unwrap_err();
        remove_file(&path).unwrap();
        remove_file(&path).unwrap();
    }
}
