//! Files of the machine below a root: `/`, or where a container sees the host's.
//!
//! Every path is the machine's own (`/etc/docker/daemon.json`); links are followed within the root.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// The largest configuration that is read.
const MAX_FILE: u64 = 4 * 1024 * 1024;
const MAX_LINKS: usize = 16;

/// A machine's files.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// The machine whose root folder is here.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether it is the machine that we run on, as far as its root tells.
    pub(crate) fn is_here(&self) -> bool {
        self.root.parent().is_none()
    }

    /// Where a path of the machine is for us, without following a last link.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The same with every link followed; an absolute link starts at the machine's root again.
    pub fn resolved(&self, path: &str) -> io::Result<PathBuf> {
        let mut left: Vec<std::ffi::OsString> = Vec::new();
        let push = |left: &mut Vec<_>, path: &Path| {
            for part in path.components().rev() {
                match part {
                    Component::Normal(name) => left.push(name.to_owned()),
                    Component::ParentDir => left.push("..".into()),
                    _ => {}
                }
            }
        };
        push(&mut left, Path::new(path));
        let (mut inner, mut links) = (PathBuf::new(), 0);
        while let Some(name) = left.pop() {
            if name == ".." {
                inner.pop();
                continue;
            }
            let next = inner.join(&name);
            match fs::read_link(self.root.join(&next)) {
                Ok(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::other("too many links"));
                    }
                    if target.is_absolute() {
                        inner = PathBuf::new();
                    }
                    push(&mut left, &target);
                }
                Err(_) => inner = next,
            }
        }
        Ok(self.root.join(inner))
    }

    /// A file's text; none where there is no file.
    pub fn read(&self, path: &str) -> io::Result<Option<String>> {
        let file = match File::open(self.resolved(path)?) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 4 MiB"));
        }
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is no UTF-8"))
    }

    /// Whether there is such a file or folder.
    pub fn has(&self, path: &str) -> bool {
        self.resolved(path).is_ok_and(|path| path.try_exists().unwrap_or(false))
    }

    /// Whether there is such a folder, or a link to one.
    pub(crate) fn is_folder(&self, path: &str) -> bool {
        self.resolved(path).is_ok_and(|path| path.is_dir())
    }

    /// A file's permission bits; none where there is no file.
    pub fn mode(&self, path: &str) -> Option<u32> {
        let there = self.resolved(path).and_then(fs::metadata).ok()?;
        Some(there.permissions().mode() & 0o7777)
    }

    /// Names in a folder, sorted; none where there is no folder.
    pub fn list(&self, path: &str) -> Vec<String> {
        let entries = self.resolved(path).and_then(fs::read_dir);
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Replaces or makes a file in one step. One that is there keeps its mode and owner. Answers the folders that had to
    /// be made, outermost first; where it fails, none of them stays.
    pub fn write(&self, path: &str, text: &str, mode: u32) -> io::Result<Vec<String>> {
        let mut made = Vec::new();
        let written =
            self.make_parents(path, &mut made).and_then(|()| self.write_in_folder(path, text, mode));
        if written.is_err() {
            made.iter().rev().for_each(|folder| self.remove_if_empty(folder));
        }
        written.map(|()| made).map_err(|error| self.named(path, error))
    }

    fn write_in_folder(&self, path: &str, text: &str, mode: u32) -> io::Result<()> {
        let target = self.resolved(path)?;
        let beside = target.parent().unwrap_or(&self.root).to_owned();
        put(&target, &beside, text, mode)
    }

    /// The same for a folder of which a program reads every file whatever its name: until it is whole the file is in
    /// another one, `staging`, if that is of the same file system and can be written.
    pub(crate) fn write_by_way_of(
        &self,
        staging: &str,
        path: &str,
        text: &str,
        mode: u32,
    ) -> io::Result<Vec<String>> {
        let mut made = Vec::new();
        let made_parents = self.make_parents(path, &mut made);
        made_parents.map_err(|error| self.named(path, error))?;
        let target = self.resolved(path)?;
        match self.resolved(staging).and_then(|staging| put(&target, &staging, text, mode)) {
            Ok(()) => Ok(made),
            Err(_) => self.write(path, text, mode).map(|_| made),
        }
    }

    /// The folders that a write of this file would have to make.
    pub(crate) fn missing_folders(&self, path: &str) -> Vec<String> {
        let parents = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
        let parents = parents.filter(|folder| !matches!(*folder, "" | "/"));
        parents.take_while(|folder| !self.has(folder)).map(str::to_owned).collect()
    }

    /// An error with the file that it is about.
    fn named(&self, path: &str, error: io::Error) -> io::Error {
        let why = match error.kind() {
            io::ErrorKind::ResourceBusy => {
                "it is mounted by itself, so that it cannot be replaced: mount the folder that it is in"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        let place = if self.is_here() { PathBuf::from(path) } else { self.path(path) };
        io::Error::new(error.kind(), format!("{}: {why}", place.display()))
    }

    fn make_parents(&self, path: &str, made: &mut Vec<String>) -> io::Result<()> {
        let parents: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        for parent in parents.into_iter().rev() {
            let Some(name) = parent.to_str().filter(|name| !name.is_empty()) else { continue };
            let folder = self.resolved(name)?;
            if name == "/" {
                DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
                continue;
            }
            match DirBuilder::new().mode(0o755).create(&folder) {
                Ok(()) => {
                    // Whatever our umask is: unprivileged users read what is in these folders.
                    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
                    sync_parent(&folder)?;
                    made.push(name.to_owned());
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// A file to hold a lock on, made where there is none.
    pub(crate) fn open_to_lock(&self, path: &str) -> io::Result<File> {
        self.make_parents(path, &mut Vec::new())?;
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(self.resolved(path)?)
    }

    /// Removes a file; that there is none is no error.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let removed = self.resolved(path).and_then(|target| match fs::remove_file(&target) {
            Ok(()) => sync_parent(&target),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
            Err(e) => Err(e),
        });
        removed.map_err(|error| self.named(path, error))
    }

    /// Removes what a write of a file left that was killed.
    pub(crate) fn remove_unfinished(&self, path: &str) {
        let Ok(target) = self.resolved(path) else { return };
        if let Some(beside) = target.parent() {
            drop(fs::remove_file(temporary(&target, beside)));
        }
    }

    /// Removes a folder that is empty; one that holds something, or is none, stays.
    pub fn remove_if_empty(&self, path: &str) {
        drop(self.resolved(path).and_then(fs::remove_dir));
    }
}

/// Replaces a file in one step. Until it is whole it is in the folder `staging`.
fn put(target: &Path, staging: &Path, text: &str, mode: u32) -> io::Result<()> {
    let there = match fs::metadata(target) {
        Ok(there) => Some(there),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    let mode = there.as_ref().map_or(mode, |there| there.permissions().mode() & 0o7777);
    let temporary = temporary(target, staging);
    let written = (|| {
        drop(fs::remove_file(&temporary));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        if let Some(there) = &there
            && file.metadata().is_ok_and(|own| (own.uid(), own.gid()) != (there.uid(), there.gid()))
        {
            std::os::unix::fs::chown(&temporary, Some(there.uid()), Some(there.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, target)?;
        sync_parent(target)
    })();
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Where a file's new text is until it takes the file's place. Each file has one writer at a time, so that one name will
/// do, and what was left by a kill is found again.
fn temporary(target: &Path, staging: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    staging.join(format!(".{name}.satellite.tmp"))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_within_the_root_and_survive_a_write() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        assert_eq!(host.read("/etc/a/b.conf").unwrap(), None);
        assert_eq!(host.write("/etc/a/b.conf", "1", 0o640).unwrap(), ["/etc", "/etc/a"]);
        std::os::unix::fs::symlink("/etc/a/b.conf", host.path("/etc/link")).unwrap();
        std::os::unix::fs::symlink("../../../../etc", host.path("/etc/a/up")).unwrap();
        assert!(host.write("/etc/a/up/link", "2", 0o600).unwrap().is_empty());
        assert!(host.path("/etc/link").is_symlink());
        assert_eq!(host.read("/etc/a/b.conf").unwrap().as_deref(), Some("2"));
        assert_eq!(fs::metadata(host.path("/etc/a/b.conf")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(host.list("/etc/a"), ["b.conf", "up"]);
        drop(fs::remove_file(host.path("/etc/a/up")));
        host.remove("/etc/a/b.conf").unwrap();
        host.remove_if_empty("/etc/a");
        host.remove_if_empty("/etc");
        assert!(!host.has("/etc/a") && host.path("/etc").is_dir(), "the folder that holds something stays");
    }

    #[test]
    fn what_fails_leaves_nothing_and_names_its_file() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        // A folder in the place of a file cannot be replaced by one.
        fs::DirBuilder::new().recursive(true).create(host.path("/etc/a/b.conf")).unwrap();
        let error = host.write("/etc/a/b.conf", "1", 0o644).unwrap_err().to_string();
        assert!(error.contains("/etc/a/b.conf: "), "{error}");
        assert_eq!(host.list("/etc/a"), ["b.conf"]);
        let long = format!("/etc/new/{}", "x".repeat(250));
        host.write(&long, "1", 0o644).unwrap_err();
        assert!(!host.has("/etc/new"), "no folder stays without its file");
        host.write("/etc/c", "1", 0o644).unwrap();
        host.write("/etc/.c.satellite.tmp", "half", 0o644).unwrap();
        host.remove_unfinished("/etc/c");
        assert_eq!(host.list("/etc"), ["a", "c"]);
    }
}
