//! Files with secrets: readable by their owner alone from their first byte on, and there in whole or not at all.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A file that will be at its path once it has its content; dropped before, it leaves nothing.
#[derive(Debug)]
pub(crate) struct PrivateFile {
    path: PathBuf,
    temporary: PathBuf,
    file: fs::File,
}

impl PrivateFile {
    /// Takes a place for the file. What may fail for good fails here, before there is a secret to lose.
    pub(crate) fn prepare(path: &Path) -> Result<Self, Error> {
        // A rename onto a device or a folder would destroy it, or fail when the secret is there already.
        if let Ok(metadata) = fs::symlink_metadata(path)
            && !metadata.is_file()
        {
            return Err(Error::Input(format!("{} is no regular file, name another one", path.display())));
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(Error::Input(format!("{} names no file", path.display())));
        };
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
        // Left by a process of the same id that was killed: its mode is not known to be right.
        let _ = fs::remove_file(&temporary);
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(Error::io(format!("{} cannot be written", path.display())))?;
        Ok(Self { path: path.to_owned(), temporary, file })
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the content, in place of what was there.
    pub(crate) fn keep(mut self, content: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(content)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .map_err(Error::io(format!("{} cannot be written", self.path.display())))
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        // After a rename there is nothing under this name.
        let _ = fs::remove_file(&self.temporary);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_owner_alone_reads_it_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        PrivateFile::prepare(&path).unwrap().keep(b"first").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        PrivateFile::prepare(&path).unwrap().keep(b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(PrivateFile::prepare(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_can_be_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(PrivateFile::prepare(dir.path()).is_err());
        assert!(PrivateFile::prepare(Path::new("/dev/null")).is_err());
        assert!(PrivateFile::prepare(&dir.path().join("missing/token")).is_err());
        assert!(PrivateFile::prepare(Path::new("/")).is_err());
    }
}
