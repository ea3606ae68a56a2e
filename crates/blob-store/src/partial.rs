//! Downloads that continue where they were cut.
//!
//! In the same boot everything that was written is still there, in the page cache if not on the disk, so the file's
//! length is believed. After another boot only what was synced is: a sidecar tells up to where.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableFile};
use crate::error::{StoreError, at};
use crate::layout;
use crate::pins::Pin;
use crate::record::Record;
use crate::shared::{Shared, now};
use crate::sink::{OnSync, Sink, hash_prefix};
use crate::store::{Inner, Store, blocking};
use crate::upload::newest_change;

/// Downloads that have a writer.
#[derive(Debug, Default)]
pub(crate) struct Writers(Mutex<HashSet<Digest>>);

impl Writers {
    fn begin(self: &Arc<Self>, digest: Digest) -> Option<Writing> {
        let mut writers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writers.insert(digest).then(|| Writing { writers: Arc::clone(self), digest })
    }
}

/// The right to write one download; ends when the last job that writes for it has ended.
#[derive(Debug)]
struct Writing {
    writers: Arc<Writers>,
    digest: Digest,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.writers.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
    }
}

/// What stands beside a download's bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Sidecar {
    size: u64,
    boot: String,
    /// Bytes that are on the disk for certain.
    synced: u64,
}

impl Sidecar {
    fn path(data: &Path) -> PathBuf {
        data.with_extension("json")
    }

    fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::path(data)).ok()?).ok()
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// How many bytes of a download may be continued: `length` is what the file has.
fn believed(sidecar: Option<&Sidecar>, boot: &str, size: u64, length: u64) -> u64 {
    match sidecar {
        Some(s) if s.size != size || length > size => 0,
        Some(s) if s.boot == boot => length,
        Some(s) => s.synced.min(length),
        None => 0,
    }
}

impl Store {
    /// Opens the partial download of `digest`, with what an earlier run has left of it; that prefix is read and hashed
    /// here. There is one writer per digest: [`StoreError::PartialBusy`] for a second. Content that is here already
    /// comes back with nothing left to write.
    pub async fn partial(&self, digest: Digest, size: u64) -> Result<Partial, StoreError> {
        let writing = self.inner.writers.begin(digest).ok_or(StoreError::PartialBusy { digest })?;
        let writing = Arc::new(writing);
        let pin = self.pin([digest]);
        let begin = |state| Partial {
            inner: Arc::clone(&self.inner),
            digest,
            size,
            state,
            _writing: Arc::clone(&writing),
            _pin: pin,
        };
        if self.has_blob_anywhere(&digest)? {
            return Ok(begin(State::Held));
        }
        // Published by a run that ended before it was written down: not a byte of it is asked for again.
        if self.inner.shared.file_length(&digest) == Some(size) {
            return Ok(begin(State::Unregistered));
        }
        let shared = Arc::clone(&self.inner.shared);
        let (file, offset, hasher) = blocking(move || open(&shared, &digest, size)).await?;
        let shared = Arc::clone(&self.inner.shared);
        let on_sync = on_sync(&shared, &digest, size);
        let sink = Sink::new(shared, file, offset, hasher, Some(on_sync), Arc::clone(&writing) as _);
        Ok(begin(State::Download(Box::new(sink))))
    }

    /// Removes downloads that nobody has touched for too long; the number of them.
    pub(crate) async fn expire_partials(&self) -> Result<u64, StoreError> {
        let idle = u64::try_from(self.inner.shared.options.partial_idle.as_millis()).unwrap_or(u64::MAX);
        let before = now().saturating_sub(idle);
        let (layout, writers) = (self.inner.shared.layout.clone(), Arc::clone(&self.inner.writers));
        blocking(move || {
            let directory = layout.partials();
            let mut expired = 0;
            for entry in layout::list(&directory)? {
                let path = entry.path();
                let name = entry.file_name().to_string_lossy().into_owned();
                let digest = layout::parse_flat(name.strip_suffix(".json").unwrap_or(&name));
                // While this is held, nobody begins to write it.
                let writing = digest.map(|digest| writers.begin(digest));
                if matches!(writing, Some(None)) || newest_change(&path) > before {
                    continue;
                }
                fs::remove_file(&path).map_err(at("remove", &path))?;
                expired += u64::from(!name.ends_with(".json"));
            }
            Ok(expired)
        })
        .await
    }
}

fn open(shared: &Shared, digest: &Digest, size: u64) -> Result<(DurableFile, u64, oci::Hasher), StoreError> {
    let path = shared.layout.partial(digest);
    let file = shared.layout.making(&path, |p| DurableFile::open_or_create(p, durable::PRIVATE_FILE))?;
    let length = file.len().map_err(at("read", &path))?;
    let sidecar = Sidecar::read(&path);
    let offset = believed(sidecar.as_ref(), &shared.boot, size, length);
    if length != offset {
        file.set_len(offset).map_err(at("truncate", &path))?;
    }
    let synced = sidecar.map_or(0, |s| s.synced).min(offset);
    let fresh = Sidecar { size, boot: shared.boot.clone(), synced };
    let beside = Sidecar::path(&path);
    durable::replace_file(&beside, &fresh.encode(), durable::PRIVATE_FILE).map_err(at("write", &beside))?;
    let hasher = hash_prefix(file.file(), digest.algorithm(), offset).map_err(at("read", &path))?;
    Ok((file, offset, hasher))
}

fn on_sync(shared: &Arc<Shared>, digest: &Digest, size: u64) -> OnSync {
    let beside = Sidecar::path(&shared.layout.partial(digest));
    let boot = shared.boot.clone();
    Arc::new(move |synced| {
        let sidecar = Sidecar { size, boot: boot.clone(), synced };
        durable::write_file(&beside, &sidecar.encode(), durable::PRIVATE_FILE).map_err(at("write", &beside))
    })
}

/// A download on its way to the disk. Dropped, it keeps what is in the file for the next time; a
/// [`Partial::checkpoint`] before makes that everything.
#[derive(Debug)]
pub struct Partial {
    inner: Arc<Inner>,
    digest: Digest,
    size: u64,
    state: State,
    _writing: Arc<Writing>,
    _pin: Pin,
}

#[derive(Debug)]
enum State {
    Download(Box<Sink>),
    /// The file is in its place, and the index does not know it.
    Unregistered,
    /// The content is here.
    Held,
}

impl Partial {
    /// The blob.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The first byte that is not here yet.
    pub fn offset(&self) -> u64 {
        match &self.state {
            State::Download(sink) => sink.offset(),
            State::Unregistered | State::Held => self.size,
        }
    }

    fn wrong_size(&self, actual: u64) -> StoreError {
        StoreError::SizeMismatch { digest: self.digest, expected: self.size, actual }
    }

    /// Appends at [`Partial::offset`]. Returns when the bytes are accepted; back-pressure is by waiting. More bytes than
    /// the size are refused with [`StoreError::SizeMismatch`]. After an error [`Partial::offset`] tells where to go on.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let after = self.offset().saturating_add(bytes.len() as u64);
        if after > self.size {
            return Err(self.wrong_size(after));
        }
        match &mut self.state {
            State::Download(sink) => sink.write(bytes).await,
            State::Unregistered | State::Held => Ok(()),
        }
    }

    /// Makes what is here survive a power cut. Done from time to time by [`Partial::write`] too, beside the stream.
    pub async fn checkpoint(&mut self) -> Result<(), StoreError> {
        match &mut self.state {
            State::Download(sink) => sink.sync().await,
            State::Unregistered | State::Held => Ok(()),
        }
    }

    /// Verifies size and digest and publishes the blob; with `link` it is visible there from then on, else where a
    /// manifest names it. A mismatch discards the bytes ([`StoreError::DigestMismatch`]); too few bytes keep them
    /// ([`StoreError::SizeMismatch`]).
    pub async fn finish(mut self, link: Option<&RepositoryName>) -> Result<(), StoreError> {
        let (digest, size) = (self.digest, self.size);
        if self.offset() != size {
            self.checkpoint().await?;
            return Err(self.wrong_size(self.offset()));
        }
        let link = link.map(|repository| repository.as_str().to_owned());
        let publish = match &mut self.state {
            State::Held => None,
            State::Unregistered => {
                let path = self.inner.shared.layout.blob(&digest);
                let actual = blocking(move || {
                    let file = fs::File::open(&path).map_err(at("open", &path))?;
                    let hasher = hash_prefix(&file, digest.algorithm(), size).map_err(at("read", &path))?;
                    file.sync_all().map_err(at("sync", &path))?;
                    Ok(hasher.finish())
                })
                .await?;
                if actual != digest {
                    self.discard().await?;
                    return Err(StoreError::mismatch(digest, actual));
                }
                Some(self.inner.shared.layout.blob(&digest))
            }
            State::Download(sink) => {
                let actual = sink.digest(digest.algorithm()).await?;
                if actual != digest {
                    self.discard().await?;
                    return Err(StoreError::mismatch(digest, actual));
                }
                sink.sync_last().await?;
                Some(self.inner.shared.layout.partial(&digest))
            }
        };
        let published = publish.is_some();
        self.inner
            .committer
            .commit(move |t| {
                if let Some(path) = publish {
                    t.publish(&path, &digest, size)?;
                }
                match link {
                    Some(repository) => t.push(Record::Link { repository, digest }),
                    None => Ok(()),
                }
            })
            .await?;
        if published {
            remove_files(&self.inner.shared, &digest);
        }
        Ok(())
    }

    /// Throws the bytes away.
    pub async fn discard(mut self) -> Result<(), StoreError> {
        if let State::Download(sink) = &mut self.state
            && let Err(e) = sink.flush().await
        {
            tracing::debug!(error = %e, "end of a discarded download not written");
        }
        let (shared, digest) = (Arc::clone(&self.inner.shared), self.digest);
        match self.state {
            State::Held => Ok(()),
            State::Download(_) => {
                blocking(move || {
                    remove_files(&shared, &digest);
                    Ok(())
                })
                .await
            }
            State::Unregistered => {
                self.inner
                    .committer
                    .commit(move |t| {
                        if t.holds(&digest)? {
                            return Ok(());
                        }
                        let path = t.shared.layout.blob(&digest);
                        fs::remove_file(&path).map_err(at("remove", &path))
                    })
                    .await
            }
        }
    }
}

fn remove_files(shared: &Shared, digest: &Digest) {
    let path = shared.layout.partial(digest);
    for path in [Sidecar::path(&path), path] {
        if let Err(e) = fs::remove_file(&path)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(error = %e, path = %path.display(), "rest of a download not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_byte_is_believed_that_may_be_missing(
            size in 0_u64..100, length in 0_u64..120, synced in 0_u64..120, same_boot in any::<bool>(), other_size in any::<bool>(),
        ) {
            let sidecar = Sidecar { size: size + u64::from(other_size), boot: "then".into(), synced };
            let boot = if same_boot { "then" } else { "now" };
            let offset = believed(Some(&sidecar), boot, size, length);
            prop_assert!(offset <= length && offset <= size);
            if !same_boot {
                prop_assert!(offset <= synced);
            } else if !other_size && length <= size {
                prop_assert_eq!(offset, length);
            }
            if other_size {
                prop_assert_eq!(offset, 0);
            }
            prop_assert_eq!(believed(None, boot, size, length), 0);
        }
    }
}
