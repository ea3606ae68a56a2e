//! Small file helpers. Nothing here needs to survive a power cut.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Error, Result};

/// Writes a file, creating the folders above it.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    File::create(path)
        .and_then(|mut file| file.write_all(content.as_ref()))
        .map_err(Error::io(format!("cannot write {}", path.display())))
}

/// Writes a file that only its owner may read, creating the folders above it.
pub fn write_private(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    File::options()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_ref()))
        .map_err(Error::io(format!("cannot write {}", path.display())))
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io(format!("cannot read {}", path.display())))
}

/// Creates a folder and those above it.
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io(format!("cannot create the folder {}", path.display())))
}

/// A folder that goes with its handle. Its path is short (sockets have 107 bytes) and open to other users, since
/// PostgreSQL runs as one of them.
pub fn scratch(name: &str) -> Result<TempDir> {
    let dir = tempfile::Builder::new()
        .prefix(&format!("tb-{name}-"))
        .tempdir()
        .map_err(Error::io("cannot create a temporary folder"))?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
        .map_err(Error::io("cannot open the temporary folder to other users"))?;
    Ok(dir)
}

/// All regular files below a folder. What vanishes while it is read is left out: programs under test are at work there.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}

/// Bytes that the files below a folder take on the disk, as `du` counts them: in blocks of 512, a hard link once.
pub fn disk_usage(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut seen = std::collections::BTreeSet::new();
    walk(dir)
        .into_iter()
        .filter_map(|path| fs::metadata(path).ok())
        .filter(|metadata| seen.insert((metadata.dev(), metadata.ino())))
        .map(|metadata| metadata.blocks() * 512)
        .sum()
}

/// The last lines of a log, for an error message.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
