//! What is shipped, made of the programs that the tests run.

use std::path::{Path, PathBuf};

use crate::layout::Layout;
use crate::{Error, Result};

/// The variable that names the folder of packages; `cargo xtask test packages` makes them and sets it.
pub const DIR: &str = "SATELLITE_PACKAGES_DIR";

/// A folder of packages.
#[derive(Clone, Debug)]
pub struct Packages {
    dir: PathBuf,
}

impl Packages {
    /// The folder that the environment names.
    pub fn find() -> Result<Self> {
        let dir = std::env::var_os(DIR).map(PathBuf::from).filter(|dir| dir.is_dir());
        let dir = dir.ok_or_else(|| Error::Missing {
            what: "the packages".into(),
            remedy: "run `cargo xtask test packages`, which makes them".into(),
        })?;
        Ok(Self { dir })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file name of a program's Debian package.
    pub fn deb(&self, package: &str) -> Result<String> {
        let entries = std::fs::read_dir(&self.dir).map_err(Error::io("cannot read the packages"))?;
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .find(|name| name.starts_with(&format!("{package}_")) && name.ends_with("_amd64.deb"))
            .ok_or_else(|| Error::Content(format!("there is no package of {package}")))
    }

    /// A program's image.
    pub fn image(&self, program: &str) -> Result<Layout> {
        Layout::open(&self.dir.join("images").join(program))
    }
}
