//! Reading an archive: everything in it is checked, whoever made it.

use std::fs::File;
use std::io::{self, Read, Write};

use oci::{Algorithm, Digest, Hasher};

use super::Place;
use super::archive::{BLOBS, DAMAGED, DATABASE, DatabaseKind, FORMAT, HEAD, Head, JOURNAL, KEY, SUMS};
use super::archive::{blob_of, copy, sum_line};
use super::error::{BackupError, at, damaged};
use super::progress::Progress;

/// The longest of the small entries, in bytes.
const SMALL: u64 = 64 << 10;
/// The longest list of damaged content, in bytes.
const LIST: u64 = 64 << 20;

/// What an archive holds, once all of it was read.
#[derive(Debug, Clone)]
pub struct Contents {
    /// What it is a backup of.
    pub head: Head,
    /// Whether the server key is in it.
    pub key: bool,
    /// How many contents of the registry are whole.
    pub blobs: u64,
    /// Contents of the registry that were damaged before the backup.
    pub damaged: Vec<Digest>,
}

/// A file that is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Database,
    Blob(Digest),
    Journal,
}

/// Where the files of an archive go while it is read. Nothing of it may count before the reading has ended well.
pub(super) trait Receiver {
    /// What comes, before it does, and the sealed key.
    fn begin(&mut self, head: &Head, key: Option<&[u8]>) -> Result<(), BackupError>;

    /// Where the file goes.
    fn file(&mut self, entry: Entry, size: u64) -> Result<Box<dyn Write>, BackupError>;

    /// The content that came is to be left out.
    fn leave_out(&mut self, digest: &Digest) -> Result<(), BackupError>;
}

/// For looking alone.
pub(super) struct Nowhere;

impl Receiver for Nowhere {
    fn begin(&mut self, _: &Head, _: Option<&[u8]>) -> Result<(), BackupError> {
        Ok(())
    }

    fn file(&mut self, _: Entry, _: u64) -> Result<Box<dyn Write>, BackupError> {
        Ok(Box::new(io::sink()))
    }

    fn leave_out(&mut self, _: &Digest) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Reads the archive in `place` into `to`.
pub(super) fn read(
    place: &Place,
    to: &mut dyn Receiver,
    progress: &Progress,
) -> Result<Contents, BackupError> {
    match place {
        Place::Standard => Reading::new(to, progress).read(io::stdin().lock()),
        Place::File(path) => {
            let file = File::open(path).map_err(at("open", path))?;
            Reading::new(to, progress).read(file)
        }
    }
}

/// Entries in their order: each may come only after those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Nothing,
    Head,
    Key,
    Database,
    Blobs,
    Damaged,
    Journal,
    Sums,
}

struct Reading<'a> {
    to: &'a mut dyn Receiver,
    progress: &'a Progress,
    stage: Stage,
    head: Option<Head>,
    key: Option<Vec<u8>>,
    /// Whether the receiver knows what comes.
    begun: bool,
    database: bool,
    blobs: u64,
    last_blob: Option<Digest>,
    /// Content that is not what its name says.
    wrong: Vec<Digest>,
    /// The sums as they must be.
    sums: Hasher,
    sums_length: u64,
}

impl<'a> Reading<'a> {
    fn new(to: &'a mut dyn Receiver, progress: &'a Progress) -> Self {
        Self {
            to,
            progress,
            stage: Stage::Nothing,
            head: None,
            key: None,
            begun: false,
            database: false,
            blobs: 0,
            last_blob: None,
            wrong: Vec::new(),
            sums: Hasher::new(Algorithm::Sha256),
            sums_length: 0,
        }
    }

    fn read(mut self, from: impl Read) -> Result<Contents, BackupError> {
        self.progress.begin("reading", 0);
        let mut archive = tar::Archive::new(from);
        for entry in archive.entries().map_err(damaged)?.raw(true) {
            self.progress.go_on()?;
            let mut entry = entry.map_err(damaged)?;
            if self.stage == Stage::Sums {
                return Err(damaged("there is something behind its end"));
            }
            // Names that need more than a plain header are none of ours.
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(damaged("it holds something that is no plain file"));
            }
            let name = String::from_utf8(entry.path_bytes().into_owned())
                .map_err(|_| damaged("a name in it is no text"))?;
            let size = entry.header().entry_size().map_err(damaged)?;
            self.entry(&name, size, &mut entry)?;
        }
        if self.stage != Stage::Sums {
            return Err(damaged("it ends too early"));
        }
        let head = self.head.ok_or_else(|| damaged("it does not say what it is"))?;
        Ok(Contents { head, key: self.key.is_some(), blobs: self.blobs, damaged: self.wrong })
    }

    fn entry(&mut self, name: &str, size: u64, from: &mut dyn Read) -> Result<(), BackupError> {
        match name {
            HEAD => {
                self.step(Stage::Head, name)?;
                let bytes = self.small(name, size, SMALL, from)?;
                self.head = Some(head(&bytes)?);
            }
            KEY => {
                self.step(Stage::Key, name)?;
                self.key = Some(self.small(name, size, SMALL, from)?);
            }
            DATABASE => {
                self.step(Stage::Database, name)?;
                self.database = true;
                self.file(name, Entry::Database, size, from)?;
            }
            DAMAGED => {
                self.begin()?;
                self.step(Stage::Damaged, name)?;
                let bytes = self.small(name, size, LIST, from)?;
                let listed: Vec<Digest> = serde_json::from_slice(&bytes).map_err(damaged)?;
                if listed != self.wrong {
                    return Err(damaged("content in it is not what its name says"));
                }
                for digest in &listed {
                    self.to.leave_out(digest)?;
                }
                self.blobs -= listed.len() as u64;
            }
            JOURNAL => {
                if self.stage != Stage::Damaged {
                    return Err(misplaced(name));
                }
                self.step(Stage::Journal, name)?;
                self.file(name, Entry::Journal, size, from)?;
            }
            SUMS => self.finish(size, from)?,
            name if name.starts_with(BLOBS) => {
                let digest = blob_of(name)
                    .ok_or_else(|| damaged(format!("it holds {name:?}, which is no entry of a backup")))?;
                if self.stage != Stage::Blobs {
                    self.step(Stage::Blobs, name)?;
                }
                // In the order of their digests, so that none comes twice.
                if self.last_blob.is_some_and(|last| last >= digest) {
                    return Err(misplaced(name));
                }
                self.last_blob = Some(digest);
                self.blobs += 1;
                let found = self.file(name, Entry::Blob(digest), size, from)?;
                if found != digest {
                    self.wrong.push(digest);
                }
            }
            name => return Err(damaged(format!("it holds {name:?}, which is no entry of a backup"))),
        }
        Ok(())
    }

    /// Goes on to a later stage, once the head is there.
    fn step(&mut self, stage: Stage, name: &str) -> Result<(), BackupError> {
        if stage <= self.stage || (self.head.is_none() && stage != Stage::Head) {
            return Err(misplaced(name));
        }
        if let Some(head) = &self.head {
            let belongs = match stage {
                Stage::Database => head.database == DatabaseKind::Sqlite,
                Stage::Blobs | Stage::Damaged | Stage::Journal => head.registry,
                _ => true,
            };
            if !belongs {
                return Err(misplaced(name));
            }
        }
        self.stage = stage;
        Ok(())
    }

    /// Tells the receiver what comes.
    fn begin(&mut self) -> Result<(), BackupError> {
        let Some(head) = self.head.as_ref().filter(|_| !self.begun) else { return Ok(()) };
        self.progress.begin("reading", head.bytes);
        self.to.begin(head, self.key.as_deref())?;
        self.begun = true;
        Ok(())
    }

    fn small(
        &mut self,
        name: &str,
        size: u64,
        most: u64,
        from: &mut dyn Read,
    ) -> Result<Vec<u8>, BackupError> {
        if size > most {
            return Err(damaged(format!("{name} is too long")));
        }
        let mut bytes = Vec::new();
        self.copied(name, size, Algorithm::Sha256, from, &mut bytes)?;
        Ok(bytes)
    }

    fn file(
        &mut self,
        name: &str,
        entry: Entry,
        size: u64,
        from: &mut dyn Read,
    ) -> Result<Digest, BackupError> {
        self.begin()?;
        let algorithm = match entry {
            Entry::Blob(digest) => digest.algorithm(),
            Entry::Database | Entry::Journal => Algorithm::Sha256,
        };
        let mut to = self.to.file(entry, size)?;
        let digest = self.copied(name, size, algorithm, from, &mut to)?;
        to.flush().map_err(unwritable)?;
        Ok(digest)
    }

    fn copied(
        &mut self,
        name: &str,
        size: u64,
        algorithm: Algorithm,
        from: &mut dyn Read,
        to: &mut dyn Write,
    ) -> Result<Digest, BackupError> {
        let (copied, sha256, digest) = copy(&mut from.take(size), to, algorithm, self.progress, unwritable)?;
        if copied != size {
            return Err(damaged("it ends too early"));
        }
        let line = sum_line(name, &sha256);
        self.sums.update(line.as_bytes());
        self.sums_length += line.len() as u64;
        Ok(digest)
    }

    fn finish(&mut self, size: u64, from: &mut dyn Read) -> Result<(), BackupError> {
        self.begin()?;
        let head = self.head.as_ref().ok_or_else(|| misplaced(SUMS))?;
        let missing = (head.registry && self.stage != Stage::Journal)
            || (head.database == DatabaseKind::Sqlite && !self.database);
        if missing || size != self.sums_length {
            return Err(damaged("it ends too early"));
        }
        let (_, found, _) =
            copy(&mut from.take(size), &mut io::sink(), Algorithm::Sha256, self.progress, unwritable)?;
        let expected = std::mem::replace(&mut self.sums, Hasher::new(Algorithm::Sha256)).finish();
        if found != expected {
            return Err(damaged("an entry of it is not what its sum says"));
        }
        self.stage = Stage::Sums;
        Ok(())
    }
}

/// What it says of itself, in as far as this program knows the format.
fn head(bytes: &[u8]) -> Result<Head, BackupError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
        #[serde(default)]
        program: String,
        #[serde(default)]
        schema: i64,
    }
    let format: Format = serde_json::from_slice(bytes).map_err(damaged)?;
    if format.format > FORMAT {
        return Err(newer(&format.program, format.format, format.schema));
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// It was made by a newer program.
pub(super) fn newer(program: &str, format: u32, schema: i64) -> BackupError {
    BackupError::Newer {
        program: program.chars().filter(|c| !c.is_control()).take(64).collect(),
        format,
        schema,
        known_format: FORMAT,
        known_schema: ground_control_sqlite::backup::schema(),
    }
}

fn misplaced(name: &str) -> BackupError {
    damaged(format!("{name} is not where it belongs"))
}

fn unwritable(source: io::Error) -> BackupError {
    BackupError::Io { action: "write", path: "what is restored".into(), source }
}
