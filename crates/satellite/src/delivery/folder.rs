//! An image folder as a destination: archives from which k3s and RKE2 import images by themselves.
//!
//! One archive for each tag (and for each digest that is wanted without one), under every name that the repository has. An
//! archive gets its name in one step, when it is complete and synced; a tag that moves replaces its archive in the same way,
//! so that no two archives ever name the same tag. What is wanted no more is removed here; what the importer has taken from
//! it stays in the runtime, until the runtime's own collection takes it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blob_store::Store;
use blob_store::durable::{self, DurableFile};
use oci::{Reference, RepositoryName};
use tokio_util::sync::CancellationToken;
use transfer::Outcome;

use super::record::{Delivered, Record, file_name};
use crate::archive::{self, Archive, Choice, Format, Image};
use crate::destination::{Answer, Destination, Look, PlaceError, Pull, PullError, Pulling, Takes};
use crate::names::{ImageName, Naming};
use crate::plan::{Artifact, Asked, Node, Present, Removal};

/// What stays free on the folder's disk: it may be the one that the node lives on.
const RESERVE: u64 = 64 * 1024 * 1024;
/// A tar archive may end in any number of these.
const PADDING: [u8; 512] = [0; 512];

/// An image folder.
#[derive(Debug, Clone)]
pub(super) struct ImageFolder {
    /// As the machine names it.
    name: String,
    /// Where we find it.
    path: PathBuf,
    store: Store,
    choice: Choice,
    record: Arc<Mutex<Option<Record>>>,
}

impl ImageFolder {
    /// The folder that the machine knows as `name`, and that we find at `path`. Nothing is opened yet.
    pub(super) fn new(name: String, path: PathBuf, store: Store, choice: Choice) -> Self {
        Self { name, path, store, choice, record: Arc::default() }
    }

    /// Removes everything of ours from the folder at `path`. Blocks.
    pub(super) fn clear(path: &Path) -> io::Result<usize> {
        if !path.try_exists()? {
            return Ok(0);
        }
        Record::open(path)?.clear()
    }

    fn with_record<T>(&self, work: impl FnOnce(&mut Record) -> io::Result<T>) -> io::Result<T> {
        let mut guard: MutexGuard<'_, Option<Record>> =
            self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let record = match guard.as_mut() {
            Some(record) => record,
            None => guard.insert(Record::open(&self.path)?),
        };
        work(record)
    }

    fn failed(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "image folder {}: {error}; run the satellite as root, or give its account the folder",
                self.name
            ),
            io::ErrorKind::StorageFull => {
                format!("image folder {}: {error}; make room on its disk", self.name)
            }
            _ => format!("image folder {}: {error}", self.name),
        }
    }

    /// What an archive under this reference is to hold.
    fn plan(
        &self,
        artifact: &Artifact,
        reference: &Reference,
        names: &[ImageName],
    ) -> Result<Archive, archive::ArchiveError> {
        let names = names.iter().map(|name| match reference {
            Reference::Tag(tag) => name.tagged(tag),
            Reference::Digest(digest) => name.digested(digest),
        });
        let image = Image {
            repository: artifact.repository.clone(),
            digest: artifact.digest,
            names: names.collect(),
        };
        Archive::plan(&self.store, &[image], &self.choice, Format::Oci)
    }

    fn look(&self, asked: &Asked, naming: &Naming) -> io::Result<Present> {
        let recorded: Vec<(String, Delivered, bool)> = self.with_record(|record| {
            let archives = record.archives();
            Ok(archives
                .map(|(name, delivered)| (name.clone(), delivered.clone(), record.is_there(name)))
                .collect())
        })?;
        let mut names: BTreeMap<&RepositoryName, Vec<ImageName>> = BTreeMap::new();
        let mut present = Present::default();
        for (_, delivered, there) in &recorded {
            let artifact = Artifact { repository: delivered.repository.clone(), digest: delivered.digest };
            let wanted = match &delivered.reference {
                Reference::Tag(tag) => {
                    asked.artifacts.contains_key(&artifact)
                        && asked.tags.get(&artifact.repository).is_some_and(|tags| tags.contains_key(tag))
                }
                Reference::Digest(_) => asked.artifacts.contains_key(&artifact),
            };
            let right = if wanted {
                let names =
                    names.entry(&delivered.repository).or_insert_with(|| naming.of(&delivered.repository));
                *there
                    && self
                        .plan(&artifact, &delivered.reference, names)
                        // What cannot be planned at the moment cannot be written again either.
                        .map_or(true, |archive| archive.fingerprint() == delivered.fingerprint)
            } else {
                true
            };
            let held = present.repositories.entry(delivered.repository.clone()).or_default();
            let node = held.manifests.entry(delivered.digest).or_insert_with(Node::default);
            node.whole |= right;
            if let Reference::Tag(tag) = &delivered.reference
                && right
            {
                held.tags.insert(tag.clone(), delivered.digest);
            }
        }
        Ok(present)
    }

    fn deliver(
        &self,
        artifact: &Artifact,
        reference: &Reference,
        names: &[ImageName],
        stop: &CancellationToken,
    ) -> Result<(), PullError> {
        if names.is_empty() {
            return Err(PullError::new("no runtime has a name for its repository: see --mirror-path", false));
        }
        let archive = self.plan(artifact, reference, names).map_err(|error| {
            PullError::new(error.to_string(), matches!(error, archive::ArchiveError::NotWhole(..)))
        })?;
        self.write(artifact, reference, &archive, stop)
            .map_err(|error| PullError::new(self.failed(&error), true))
    }

    fn write(
        &self,
        artifact: &Artifact,
        reference: &Reference,
        archive: &Archive,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        let name = file_name(&artifact.repository, reference);
        let (unfinished, before) = self.with_record(|record| {
            record.prepare()?;
            Ok((record.unfinished(&name), record.get(&name).map(|delivered| delivered.size)))
        })?;
        self.make_room(archive.size())?;
        durable::remove_file(&unfinished)?;
        let written = (|| {
            let file = DurableFile::create(&unfinished, durable::PRIVATE_FILE)?;
            let mut output = FileWriter { file, position: 0 };
            let written =
                archive.write(&self.store, io::BufWriter::with_capacity(1 << 18, &mut output), |_| {
                    if stop.is_cancelled() { Err(io::Error::other("stopped")) } else { Ok(()) }
                });
            written.map_err(|error| match error {
                archive::ArchiveError::Write(error) => error,
                other => io::Error::other(other),
            })?;
            // k3s takes a file that is replaced for another one only where its length differs, too.
            if before == Some(output.position) {
                io::Write::write_all(&mut output, &PADDING)?;
            }
            output.file.sync_all()?;
            let delivered = Delivered {
                repository: artifact.repository.clone(),
                reference: reference.clone(),
                digest: artifact.digest,
                fingerprint: archive.fingerprint(),
                size: output.position,
                done: false,
            };
            self.with_record(|record| record.publish(&name, delivered))
        })();
        if written.is_err() {
            drop(durable::remove_file(&unfinished));
        }
        written
    }

    fn make_room(&self, size: u64) -> io::Result<()> {
        let disk = rustix::fs::statvfs(&self.path)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < size.saturating_add(RESERVE) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the archive takes {size} bytes and {RESERVE} are kept free, and only {free} are"),
            ));
        }
        Ok(())
    }

    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Answer<'static, T> {
        let folder = self.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || {
                work(&folder).map_err(|error| PlaceError::new(folder.failed(&error)))
            });
            done.await.unwrap_or_else(|error| Err(PlaceError::new(format!("it ended abnormally: {error}"))))
        })
    }
}

impl Destination for ImageFolder {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn takes(&self) -> Takes {
        Takes::Whole
    }

    fn accepts(&self, artifact: &Artifact) -> bool {
        archive::is_image(&self.store, &artifact.repository, &artifact.digest).unwrap_or(true)
    }

    fn observe<'a>(&'a mut self, look: Look<'a>) -> Answer<'a, Present> {
        let (asked, naming) = (look.asked.clone(), look.naming.clone());
        self.blocking(move |folder| folder.look(&asked, &naming))
    }

    fn pull(&self, pull: Pull) -> Pulling {
        let folder = self.clone();
        Box::pin(async move {
            let stop = CancellationToken::new();
            let _stopped_with_us = stop.clone().drop_guard();
            let digest = pull.artifact.digest;
            let written = tokio::task::spawn_blocking(move || {
                let references = pull.tags.iter().cloned().map(Reference::Tag);
                let mut references: Vec<Reference> = references.collect();
                if references.is_empty() {
                    references.push(Reference::Digest(digest));
                }
                let mut each = references.iter();
                each.try_for_each(|reference| folder.deliver(&pull.artifact, reference, &pull.names, &stop))
            });
            let written: Result<(), PullError> = written
                .await
                .unwrap_or_else(|error| Err(PullError::new(format!("it ended abnormally: {error}"), true)));
            written.map(|()| Outcome { digest: Some(digest), ..Outcome::default() })
        })
    }

    fn remove<'a>(&'a self, removal: &'a Removal) -> Answer<'a, bool> {
        let (repository, reference) = match removal {
            Removal::Tag { repository, tag, .. } => (repository, Reference::Tag(tag.clone())),
            Removal::Manifest(artifact) => (&artifact.repository, Reference::Digest(artifact.digest)),
        };
        let name = file_name(repository, &reference);
        let expected = match removal {
            Removal::Tag { digest, .. } => *digest,
            Removal::Manifest(artifact) => artifact.digest,
        };
        self.blocking(move |folder| {
            folder.with_record(|record| {
                // A tag that has moved since has another archive by now.
                let same = record.get(&name).is_some_and(|delivered| delivered.digest == expected);
                if same { record.remove(&name) } else { Ok(false) }
            })
        })
    }
}

struct FileWriter {
    file: DurableFile,
    position: u64,
}

impl io::Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.position)?;
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
