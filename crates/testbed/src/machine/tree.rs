//! What folders hold, to be compared with what they hold later.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Every file, link and folder below some folders, with its mode and its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder(u32),
    File(u32, Vec<u8>),
    Link(PathBuf),
    Name,
}

impl Tree {
    pub(super) fn of<P: AsRef<Path>>(folders: &[P]) -> Self {
        let mut entries = BTreeMap::new();
        let mut open: Vec<PathBuf> = folders.iter().map(|folder| folder.as_ref().to_owned()).collect();
        while let Some(path) = open.pop() {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            let mode = metadata.permissions().mode();
            let entry = if metadata.is_dir() {
                open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
                Entry::Folder(mode)
            } else if metadata.is_symlink() {
                Entry::Link(fs::read_link(&path).unwrap_or_default())
            } else if metadata.is_file() {
                Entry::File(mode, fs::read(&path).unwrap_or_default())
            } else {
                continue;
            };
            entries.insert(path, entry);
        }
        Self(entries)
    }

    /// Adds which names are in folders, whatever is behind them.
    pub(super) fn names_in(&mut self, folders: &[&str]) {
        for path in folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten()) {
            self.0.entry(path.path()).or_insert(Entry::Name);
        }
    }

    /// What differs in another one, a line for each; empty where they are the same.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, entry) in &self.0 {
            match other.0.get(path) {
                None => lines.push(format!("{} is gone", path.display())),
                Some(now) if now != entry => lines.push(format!("{} differs", path.display())),
                Some(_) => {}
            }
        }
        let new = other.0.keys().filter(|path| !self.0.contains_key(*path));
        lines.extend(new.map(|path| format!("{} is new", path.display())));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    #[test]
    fn one_byte_and_one_right_make_a_difference() {
        let dir = files::scratch("tree").unwrap();
        let place = |name: &str| dir.path().join(name);
        files::write(&place("a/file"), "1").unwrap();
        files::write(&place("b"), "1").unwrap();
        let tree = || Tree::of(&[dir.path()]);
        let before = tree();
        assert_eq!(before.differences(&tree()), Vec::<String>::new());
        files::write(&place("a/file"), "2").unwrap();
        files::write(&place("new"), "").unwrap();
        fs::set_permissions(place("b"), fs::Permissions::from_mode(0o600)).unwrap();
        let told = before.differences(&tree());
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].ends_with("file differs") && told[1].ends_with("b differs"), "{told:?}");
        assert!(told[2].ends_with("new is new"), "{told:?}");
    }
}
