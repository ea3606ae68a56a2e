//! The record of what is ours in an image folder.
//!
//! It lies in the folder itself, so that it goes and comes with the archives: whoever opens the folder next, after a new
//! configuration directory, too, knows what may be replaced and removed. It names nothing but files of our own form, so that
//! no edit of it makes us touch another's.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use blob_store::durable;
use oci::{Digest, Reference, RepositoryName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Our corner of the folder. Importers pass over folders, and over files without an archive's suffix in them.
const CORNER: &str = ".harbor-satellite";
const RECORD: &str = "record.json";
/// Of files that are being written.
const UNFINISHED: &str = ".partial";
/// Of every archive of ours.
const PREFIX: &str = "harbor-satellite-";
const SUFFIX: &str = ".tar";
/// The longest readable part of a file's name.
const READABLE: usize = 120;
const VERSION: u32 = 1;

/// One archive of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delivered {
    /// The repository.
    pub(super) repository: RepositoryName,
    /// The tag under which it was delivered, or the digest where no tag is wanted.
    #[serde(with = "as_text")]
    pub(super) reference: Reference,
    /// What it holds.
    pub(super) digest: Digest,
    /// Stands for its bytes.
    pub(super) fingerprint: String,
    /// Its length.
    pub(super) size: u64,
    /// The file has its name. Before, it may have another content or not be there.
    pub(super) done: bool,
}

mod as_text {
    use oci::Reference;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(reference: &Reference, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(reference)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    version: u32,
    /// By the file's name.
    archives: BTreeMap<String, Delivered>,
}

/// An image folder's record. Everything here blocks.
#[derive(Debug)]
pub(super) struct Record {
    folder: PathBuf,
    archives: BTreeMap<String, Delivered>,
}

impl Record {
    /// Opens the folder's record. What was being written when a former process ended goes.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let corner = folder.join(CORNER);
        let bytes = match fs::read(corner.join(RECORD)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let content = match bytes.as_slice() {
            [] => Content::default(),
            // Nothing is guessed: what is not known to be ours stays.
            bytes => serde_json::from_slice::<Content>(bytes).map_err(|error| {
                io::Error::other(format!(
                    "its record {CORNER}/{RECORD} cannot be read ({error}): remove it, and the archives that begin with \
                     {PREFIX}"
                ))
            })?,
        };
        if content.version > VERSION {
            return Err(io::Error::other("its record was written by a newer satellite"));
        }
        let archives = content
            .archives
            .into_iter()
            .filter(|(name, delivered)| *name == file_name(&delivered.repository, &delivered.reference));
        let record = Self { folder: folder.to_owned(), archives: archives.collect() };
        record.sweep()?;
        Ok(record)
    }

    fn sweep(&self) -> io::Result<()> {
        let unfinished = match fs::read_dir(self.folder.join(CORNER)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in unfinished {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().ends_with(UNFINISHED.as_bytes()) {
                durable::remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// What is ours.
    pub(super) fn archives(&self) -> impl Iterator<Item = (&String, &Delivered)> {
        self.archives.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Delivered> {
        self.archives.get(name)
    }

    /// Whether an archive is there as the record has it.
    pub(super) fn is_there(&self, name: &str) -> bool {
        let Some(delivered) = self.archives.get(name).filter(|delivered| delivered.done) else {
            return false;
        };
        // A link is not ours, whatever it leads to.
        fs::symlink_metadata(self.folder.join(name))
            .is_ok_and(|there| there.is_file() && there.len() == delivered.size)
    }

    /// Where an archive is written before it has its name.
    pub(super) fn unfinished(&self, name: &str) -> PathBuf {
        self.folder.join(CORNER).join(format!("{name}{UNFINISHED}"))
    }

    /// Makes the folder and our corner of it.
    pub(super) fn prepare(&self) -> io::Result<()> {
        durable::create_dir_all(&self.folder.join(CORNER))
    }

    /// Gives a complete, synced file its name, in one step. The record knows of it before and after.
    pub(super) fn publish(&mut self, name: &str, delivered: Delivered) -> io::Result<()> {
        let path = self.folder.join(name);
        if !self.archives.contains_key(name) && fs::symlink_metadata(&path).is_ok() {
            return Err(io::Error::other(format!(
                "{} is there already and was not written by this satellite: move it away",
                path.display()
            )));
        }
        let done = delivered.clone();
        self.archives.insert(name.to_owned(), Delivered { done: false, ..delivered });
        self.store()?;
        durable::rename(&self.unfinished(name), &path)?;
        self.archives.insert(name.to_owned(), Delivered { done: true, ..done });
        self.store()
    }

    /// Removes an archive of ours; that it was not there is no error.
    pub(super) fn remove(&mut self, name: &str) -> io::Result<bool> {
        if !self.archives.contains_key(name) {
            return Ok(false);
        }
        durable::remove_file(&self.folder.join(name))?;
        self.archives.remove(name);
        self.store()?;
        Ok(true)
    }

    /// Removes everything of ours, the record at last. The folder stays.
    pub(super) fn clear(mut self) -> io::Result<usize> {
        let names: Vec<String> = self.archives.keys().cloned().collect();
        for name in &names {
            self.remove(name)?;
        }
        let corner = self.folder.join(CORNER);
        durable::remove_file(&corner.join(RECORD)).or_else(absent)?;
        fs::remove_dir(&corner).or_else(absent)?;
        Ok(names.len())
    }

    fn store(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec(&Content { version: VERSION, archives: self.archives.clone() })?;
        durable::write_file(&self.folder.join(CORNER).join(RECORD), &bytes, durable::PRIVATE_FILE)
    }
}

fn absent(error: io::Error) -> io::Result<()> {
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) {
        Ok(())
    } else {
        Err(error)
    }
}

/// The name of an archive's file: the same for the same repository and tag, readable, and another one for any other
/// repository or tag, however alike the readable parts are.
pub(super) fn file_name(repository: &RepositoryName, reference: &Reference) -> String {
    let whole = match reference {
        Reference::Tag(tag) => format!("{repository}:{tag}"),
        Reference::Digest(digest) => format!("{repository}@{digest}"),
    };
    let readable: String = whole
        .chars()
        .map(
            |letter| if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-') { letter } else { '_' },
        )
        .take(READABLE)
        .collect();
    let hash = hex::encode(&Sha256::digest(&whole)[..8]);
    format!("{PREFIX}{readable}-{hash}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delivered(repository: &str, tag: &str) -> (String, Delivered) {
        let (repository, reference): (RepositoryName, Reference) =
            (repository.parse().unwrap(), tag.parse().unwrap());
        let name = file_name(&repository, &reference);
        let digest = Digest::sha256(b"x");
        (name, Delivered { repository, reference, digest, fingerprint: "f".into(), size: 1, done: true })
    }

    fn put(record: &mut Record, (name, delivered): &(String, Delivered)) -> io::Result<()> {
        record.prepare().unwrap();
        durable::write_file(&record.unfinished(name), b"x", 0o600).unwrap();
        record.publish(name, delivered.clone())
    }

    #[test]
    fn it_knows_what_is_ours_and_touches_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("airgap-images.tar");
        durable::write_file(&theirs, b"theirs", 0o600).unwrap();
        let mut record = Record::open(folder.path()).unwrap();
        let (one, two) = (delivered("library/busybox", "1"), delivered("library/busybox", "2"));
        put(&mut record, &one).unwrap();
        put(&mut record, &two).unwrap();
        assert!(record.is_there(&one.0));
        let mut record = Record::open(folder.path()).unwrap();
        assert_eq!(record.get(&one.0), Some(&one.1));
        assert!(record.remove(&one.0).unwrap());
        assert!(!record.remove(&one.0).unwrap(), "nothing any more");
        assert!(!record.remove("airgap-images.tar").unwrap());
        // Somebody replaced ours by a link: removed is the link.
        let path = folder.path().join(&two.0);
        durable::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&theirs, &path).unwrap();
        assert!(!record.is_there(&two.0));
        assert_eq!(record.clear().unwrap(), 1);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, std::slice::from_ref(&theirs));
        assert_eq!(fs::read(&theirs).unwrap(), b"theirs");
    }

    #[test]
    fn an_edited_record_names_no_file_of_others() {
        let folder = tempfile::tempdir().unwrap();
        durable::create_dir_all(&folder.path().join(CORNER)).unwrap();
        let (_, mine) = delivered("library/busybox", "1");
        let archives =
            BTreeMap::from([("../../etc/passwd".to_owned(), mine.clone()), ("k3s.tar".to_owned(), mine)]);
        let forged = serde_json::to_vec(&Content { version: VERSION, archives }).unwrap();
        durable::write_file(&folder.path().join(CORNER).join(RECORD), &forged, 0o600).unwrap();
        assert_eq!(Record::open(folder.path()).unwrap().archives().count(), 0);
    }

    #[test]
    fn a_damaged_record_is_told_and_nothing_is_guessed() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::open(folder.path()).unwrap();
        let one = delivered("library/busybox", "1");
        put(&mut record, &one).unwrap();
        durable::write_file(&folder.path().join(CORNER).join(RECORD), b"{\"version\":", 0o600).unwrap();
        let told = Record::open(folder.path()).unwrap_err().to_string();
        assert!(told.contains("record.json") && told.contains(PREFIX), "{told}");
        assert!(folder.path().join(&one.0).try_exists().unwrap());
        durable::remove_file(&folder.path().join(CORNER).join(RECORD)).unwrap();
        assert_eq!(Record::open(folder.path()).unwrap().archives().count(), 0);
    }

    #[test]
    fn what_was_being_written_goes_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::open(folder.path()).unwrap();
        let one = delivered("library/busybox", "1");
        record.prepare().unwrap();
        let unfinished = record.unfinished(&one.0);
        assert!(!unfinished.to_str().unwrap().ends_with(".tar"));
        durable::write_file(&unfinished, b"half", 0o600).unwrap();
        // The power went between the intention and the rename.
        record.archives.insert(one.0.clone(), Delivered { done: false, ..one.1.clone() });
        record.store().unwrap();
        let record = Record::open(folder.path()).unwrap();
        assert!(!unfinished.try_exists().unwrap());
        assert!(!record.is_there(&one.0));
    }

    #[test]
    fn a_file_of_the_same_name_that_we_did_not_write_stays() {
        let folder = tempfile::tempdir().unwrap();
        let one = delivered("library/busybox", "1");
        durable::write_file(&folder.path().join(&one.0), b"theirs", 0o600).unwrap();
        let mut record = Record::open(folder.path()).unwrap();
        put(&mut record, &one).unwrap_err();
        assert_eq!(fs::read(folder.path().join(&one.0)).unwrap(), b"theirs");
    }

    proptest! {
        #[test]
        fn names_are_safe_and_differ(
            one in "[a-z0-9]{1,8}([._/-][a-z0-9]{1,60}){0,3}", other in "[a-z0-9]{1,8}([._/-][a-z0-9]{1,60}){0,3}",
            tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}",
        ) {
            let reference: Reference = tag.parse().unwrap();
            let name = |repository: &str| file_name(&repository.parse().unwrap(), &reference);
            let file = name(&one);
            prop_assert!(file.len() <= 200 && file.starts_with(PREFIX) && file.ends_with(SUFFIX));
            prop_assert!(file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
            prop_assert_eq!(name(&other) == file, one == other);
        }
    }
}
