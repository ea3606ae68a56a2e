//! Where the built programs of this workspace are.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The variable that names their folder; `cargo xtask` sets it.
pub const BIN_DIR: &str = "SATELLITE_BIN_DIR";

/// The variable that names the folder of the same programs as they are compiled for this machine's own C library, where
/// [`BIN_DIR`] holds static ones.
pub const HOST_BIN_DIR: &str = "SATELLITE_HOST_BIN_DIR";

/// The path of one of our programs: in `folder`, else in [`BIN_DIR`], else beside the running test or task.
pub fn find(program: &str, folder: Option<&Path>) -> Result<PathBuf> {
    look(program, folder.map(Path::to_owned).or_else(|| named(BIN_DIR)))
}

/// Like [`find`], for a program that a library is loaded into (see [`crate::clock`]): into a static one none is.
pub fn find_dynamic(program: &str, folder: Option<&Path>) -> Result<PathBuf> {
    look(program, folder.map(Path::to_owned).or_else(|| named(HOST_BIN_DIR)).or_else(|| named(BIN_DIR)))
}

fn named(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from)
}

fn look(program: &str, named: Option<PathBuf>) -> Result<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.iter().flat_map(|path| path.ancestors().skip(1).take(2)).map(Path::to_owned);
    named.into_iter().chain(beside).map(|folder| folder.join(program)).find(|path| path.is_file()).ok_or_else(
        || Error::Missing {
            what: format!("the built program {program}"),
            remedy: "run `cargo xtask test`, which builds it (or `cargo build --workspace` first)".into(),
        },
    )
}
