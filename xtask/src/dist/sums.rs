//! `SHA256SUMS`, as `sha256sum --check` reads it.

use std::io;
use std::path::Path;

use oci::{Algorithm, Hasher};

/// The file's name.
pub(super) const FILE: &str = "SHA256SUMS";

/// The sums of all files below a folder but its own, in the order of their names.
pub(super) fn of(folder: &Path) -> io::Result<String> {
    let mut lines = String::new();
    for path in testbed::files::walk(folder) {
        let name = path.strip_prefix(folder).map_err(io::Error::other)?;
        if name == Path::new(FILE) {
            continue;
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&std::fs::read(&path)?);
        lines += &format!("{}  {}\n", hasher.finish().hex(), name.display());
    }
    Ok(lines)
}
