//! Where things are below the store's root.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use oci::{Algorithm, Digest};

use crate::durable;
use crate::error::{StoreError, at};

#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.root.join("ballast")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.root.join("journal/journal")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.redb")
    }

    /// Counts openings of the index that did not come to their end.
    pub(crate) fn opening(&self) -> PathBuf {
        self.root.join("index.opening")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The directory that a content's file is in.
    pub(crate) fn shard(&self, digest: &Digest) -> PathBuf {
        let mut path = self.blobs();
        path.push(digest.algorithm().as_str());
        path.push(&digest.hex()[..2]);
        path
    }

    /// The file of a content.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let algorithm = digest.algorithm().as_str();
        // On the path of each read: one allocation of the right size.
        let mut path = PathBuf::with_capacity(self.root.as_os_str().len() + hex.len() + 20);
        path.push(&self.root);
        path.push("blobs");
        path.push(algorithm);
        path.push(&hex[..2]);
        path.push(hex);
        path
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    pub(crate) fn partials(&self) -> PathBuf {
        self.root.join("partials")
    }

    /// The bytes of a download that is not complete.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(flat(digest))
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// A new name in `tmp/`.
    pub(crate) fn temporary_file(&self) -> PathBuf {
        self.temporary().join(uuid::Uuid::new_v4().simple().to_string())
    }

    /// Makes every directory that is not there.
    pub(crate) fn make_directories(&self) -> Result<(), StoreError> {
        for directory in self.directories() {
            durable::create_dir_all(&directory).map_err(at("create", &directory))?;
        }
        Ok(())
    }

    /// Makes a file; once more with all directories where somebody has removed them under the running store.
    pub(crate) fn making<T>(
        &self,
        path: &Path,
        make: impl Fn(&Path) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        match make(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_directories()?;
                make(path).map_err(at("create", path))
            }
            other => other.map_err(at("create", path)),
        }
    }

    /// All directories, parents first.
    fn directories(&self) -> Vec<PathBuf> {
        let mut directories = vec![
            self.root.clone(),
            self.root.join("journal"),
            self.blobs(),
            self.uploads(),
            self.partials(),
            self.quarantine(),
            self.temporary(),
        ];
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            directories.push(self.blobs().join(algorithm.as_str()));
        }
        directories
    }
}

/// `<algorithm>-<hex>`.
pub(crate) fn flat(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

/// Reads back [`flat`].
pub(crate) fn parse_flat(name: &str) -> Option<Digest> {
    name.replacen('-', ":", 1).parse().ok()
}

/// What is in a directory; nothing where it is gone.
pub(crate) fn list(directory: &Path) -> Result<Vec<DirEntry>, StoreError> {
    match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => Ok(other.map_err(at("list", directory))?.flatten().collect()),
    }
}
