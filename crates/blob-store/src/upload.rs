//! Sessions of pushes (OCI distribution-spec, "Pushing blobs"): they survive a restart of the program.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use oci::{Algorithm, Digest, Hasher, RepositoryName};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use crate::durable::{self, DurableFile};
use crate::error::{StoreError, at};
use crate::layout::list;
use crate::record::Record;
use crate::shared::now;
use crate::sink::{Sink, hash_prefix};
use crate::store::{Inner, Store, blocking};

/// Sessions that the store has in hand at once; each may hold an open file.
const MAX_SESSIONS: usize = 1024;

/// Names a session; 122 random bits, so it cannot be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UploadId(Uuid);

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = StoreError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(s).map(Self).map_err(|_| StoreError::UnknownUpload)
    }
}

/// The sessions that were used since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<UploadId, Arc<Session>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, session: Session) -> Result<Arc<Session>, StoreError> {
        let mut sessions = self.lock();
        if let Some(session) = sessions.get(&session.id) {
            return Ok(Arc::clone(session));
        }
        if sessions.len() >= MAX_SESSIONS {
            return Err(StoreError::TooManyUploads);
        }
        let session = Arc::new(session);
        sessions.insert(session.id, Arc::clone(&session));
        Ok(session)
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    id: UploadId,
    repository: RepositoryName,
    algorithm: Algorithm,
    directory: PathBuf,
    offset: AtomicU64,
    /// Milliseconds of Unix time.
    last_used: AtomicU64,
    slot: Arc<tokio::sync::Mutex<Slot>>,
}

/// What only one request at a time may have.
#[derive(Debug, Default)]
struct Slot {
    /// Opened with the first byte, and again after a restart.
    sink: Option<Sink>,
    over: bool,
}

/// What a session's file says.
#[derive(Debug, Serialize, Deserialize)]
struct SessionFile {
    repository: RepositoryName,
    algorithm: String,
}

impl Session {
    fn new(
        id: UploadId,
        repository: RepositoryName,
        algorithm: Algorithm,
        directory: PathBuf,
        offset: u64,
    ) -> Self {
        Self {
            id,
            repository,
            algorithm,
            directory,
            offset: AtomicU64::new(offset),
            last_used: AtomicU64::new(now()),
            slot: Arc::default(),
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn touch(&self) {
        self.last_used.store(now(), Ordering::Relaxed);
    }

    /// The session's only writer, until the guard is dropped.
    fn take(&self) -> Result<OwnedMutexGuard<Slot>, StoreError> {
        self.touch();
        let slot = Arc::clone(&self.slot).try_lock_owned().map_err(|_| StoreError::UploadBusy)?;
        if slot.over { Err(StoreError::UnknownUpload) } else { Ok(slot) }
    }

    fn load(directory: &Path, id: UploadId) -> Result<Option<Self>, StoreError> {
        let path = directory.join("session.json");
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(at("read", &path))?,
        };
        let Ok(file) = serde_json::from_slice::<SessionFile>(&bytes) else { return Ok(None) };
        let algorithm = file.algorithm.parse().unwrap_or(Algorithm::Sha256);
        let data = directory.join("data");
        let length = fs::metadata(&data).map_err(at("look at", &data))?.len();
        Ok(Some(Self::new(id, file.repository, algorithm, directory.to_owned(), length)))
    }
}

impl Inner {
    fn session_directory(&self, id: UploadId) -> PathBuf {
        self.shared.layout.uploads().join(id.0.simple().to_string())
    }

    /// The sink of a session, opened again where a restart has closed it.
    async fn open_sink<'s>(
        self: &Arc<Self>,
        session: &Arc<Session>,
        slot: &'s mut Slot,
    ) -> Result<&'s mut Sink, StoreError> {
        if slot.sink.is_none() {
            let (path, algorithm) = (session.data(), session.algorithm);
            let (file, offset, hasher) = blocking(move || {
                let file = DurableFile::open(&path).map_err(at("open", &path))?;
                let length = file.len().map_err(at("read", &path))?;
                let hasher = hash_prefix(file.file(), algorithm, length).map_err(at("read", &path))?;
                Ok((file, length, hasher))
            })
            .await?;
            session.offset.store(offset, Ordering::Relaxed);
            let shared = Arc::clone(&self.shared);
            slot.sink = Some(Sink::new(shared, file, offset, hasher, None, Arc::new(())));
        }
        slot.sink.as_mut().ok_or(StoreError::Stopped)
    }

    /// Ends a session and removes its files.
    async fn end_session(&self, session: &Session, slot: &mut Slot) {
        slot.over = true;
        slot.sink = None;
        self.sessions.lock().remove(&session.id);
        let directory = session.directory.clone();
        let removed =
            blocking(move || fs::remove_dir_all(&directory).map_err(at("remove", &directory))).await;
        if let Err(e) = removed {
            tracing::warn!(error = %e, "files of an ended upload not removed");
        }
    }
}

impl Store {
    /// Begins a session. `algorithm` is what the final digest will use, where the client told; sha256 is assumed
    /// otherwise, and another one at the end costs reading the bytes again.
    pub async fn create_upload(
        &self,
        repository: &RepositoryName,
        algorithm: Option<Algorithm>,
    ) -> Result<Upload, StoreError> {
        let id = UploadId(Uuid::new_v4());
        let algorithm = algorithm.unwrap_or(Algorithm::Sha256);
        let directory = self.inner.session_directory(id);
        let session = Session::new(id, repository.clone(), algorithm, directory.clone(), 0);
        let session = self.inner.sessions.insert(session)?;
        let file = SessionFile { repository: repository.clone(), algorithm: algorithm.to_string() };
        let shared = Arc::clone(&self.inner.shared);
        let made = blocking(move || {
            shared.require_space(0)?;
            let bytes = serde_json::to_vec(&file).unwrap_or_default();
            durable::create_dir_all(&directory).map_err(at("create", &directory))?;
            let data = directory.join("data");
            let file = DurableFile::create(&data, durable::PRIVATE_FILE).map_err(at("create", &data))?;
            let description = directory.join("session.json");
            durable::write_file(&description, &bytes, durable::PRIVATE_FILE)
                .map_err(at("create", &description))?;
            Ok(file)
        })
        .await;
        let mut slot = session.take()?;
        match made {
            Ok(file) => {
                let shared = Arc::clone(&self.inner.shared);
                slot.sink = Some(Sink::new(shared, file, 0, Hasher::new(algorithm), None, Arc::new(())));
                drop(slot);
                Ok(Upload { inner: Arc::clone(&self.inner), session })
            }
            Err(e) => {
                self.inner.end_session(&session, &mut slot).await;
                Err(e)
            }
        }
    }

    /// A session of that repository; [`StoreError::UnknownUpload`] where there is none.
    pub async fn upload(&self, repository: &RepositoryName, id: UploadId) -> Result<Upload, StoreError> {
        let known = self.inner.sessions.lock().get(&id).cloned();
        let session = match known {
            Some(session) => session,
            None => {
                let directory = self.inner.session_directory(id);
                let loaded = blocking(move || Session::load(&directory, id)).await?;
                self.inner.sessions.insert(loaded.ok_or(StoreError::UnknownUpload)?)?
            }
        };
        if session.repository != *repository {
            return Err(StoreError::UnknownUpload);
        }
        session.touch();
        Ok(Upload { inner: Arc::clone(&self.inner), session })
    }

    /// Publishes a blob of which all bytes are in memory. For small content; large content takes an upload or a partial.
    pub async fn put_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), StoreError> {
        let (digest, repository) = (*digest, repository.as_str().to_owned());
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != digest {
            return Err(StoreError::mismatch(digest, actual));
        }
        let size = bytes.len() as u64;
        let temporary = self.inner.write_temporary(bytes).await?;
        let path = temporary.path().to_owned();
        self.inner
            .committer
            .commit(move |t| {
                t.publish(&path, &digest, size)?;
                t.push(Record::Link { repository, digest })
            })
            .await
    }

    /// Ends sessions that were idle for too long; the number of them.
    pub(crate) async fn expire_uploads(&self) -> Result<u64, StoreError> {
        let uploads = self.inner.shared.layout.uploads();
        let listed = blocking(move || {
            let entries = list(&uploads)?;
            Ok(entries.iter().map(|e| (e.path(), newest_change(&e.path()))).collect::<Vec<_>>())
        })
        .await?;
        let idle = u64::try_from(self.inner.shared.options.upload_idle.as_millis()).unwrap_or(u64::MAX);
        let before = now().saturating_sub(idle);
        let mut expired = 0;
        for (directory, changed) in listed {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known =
                UploadId::from_str(&name).ok().and_then(|id| self.inner.sessions.lock().get(&id).cloned());
            match known {
                Some(session) if session.last_used.load(Ordering::Relaxed) <= before => {
                    // Busy means that it is not idle.
                    let Ok(mut slot) = Arc::clone(&session.slot).try_lock_owned() else { continue };
                    self.inner.end_session(&session, &mut slot).await;
                }
                None if changed <= before => {
                    blocking(move || fs::remove_dir_all(&directory).map_err(at("remove", &directory)))
                        .await?;
                }
                _ => continue,
            }
            expired += 1;
        }
        Ok(expired)
    }
}

/// When a file, or anything in a directory, was last changed, in milliseconds of Unix time.
pub(crate) fn newest_change(path: &Path) -> u64 {
    let changed = |path: &Path| {
        let modified = fs::symlink_metadata(path).and_then(|m| m.modified()).ok();
        modified
            .and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok())
            .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    };
    let inside = fs::read_dir(path).into_iter().flatten().flatten().map(|e| changed(&e.path())).max();
    changed(path).max(inside.unwrap_or(0))
}

/// A handle of an upload session; cloning it names the same session.
#[derive(Clone, Debug)]
pub struct Upload {
    inner: Arc<Inner>,
    session: Arc<Session>,
}

impl Upload {
    /// Its name.
    pub fn id(&self) -> UploadId {
        self.session.id
    }

    /// Bytes received so far, which is where the next one belongs.
    pub fn offset(&self) -> u64 {
        self.session.offset.load(Ordering::Relaxed)
    }

    /// Begins to append. `at` is the first byte's offset where the client told one: any other than
    /// [`Upload::offset`] is refused with [`StoreError::UploadOffset`]. While the writer lives, others get
    /// [`StoreError::UploadBusy`]; dropped, it keeps what was written.
    pub async fn append(&self, at: Option<u64>) -> Result<UploadWriter, StoreError> {
        let mut slot = self.session.take()?;
        let offset = self.inner.open_sink(&self.session, &mut slot).await?.offset();
        if at.is_some_and(|at| at != offset) {
            return Err(StoreError::UploadOffset { offset });
        }
        Ok(UploadWriter { session: Arc::clone(&self.session), slot: Some(slot) })
    }

    /// Verifies the digest, publishes the blob and makes it visible in the session's repository. Returns its size.
    /// A mismatch is [`StoreError::DigestMismatch`]: nothing is visible, and the session is over.
    pub async fn finish(&self, digest: &Digest) -> Result<u64, StoreError> {
        let digest = *digest;
        let mut slot = self.session.take()?;
        let sink = self.inner.open_sink(&self.session, &mut slot).await?;
        let actual = sink.digest(digest.algorithm()).await?;
        if actual != digest {
            self.inner.end_session(&self.session, &mut slot).await;
            return Err(StoreError::mismatch(digest, actual));
        }
        sink.sync_last().await?;
        let (size, path) = (sink.offset(), self.session.data());
        let repository = self.session.repository.as_str().to_owned();
        let committed = self
            .inner
            .committer
            .commit(move |t| {
                t.publish(&path, &digest, size)?;
                t.push(Record::Link { repository, digest })
            })
            .await;
        if committed.is_ok() || fs::symlink_metadata(self.session.data()).is_err() {
            self.inner.end_session(&self.session, &mut slot).await;
        }
        committed.map(|()| size)
    }

    /// Ends the session and throws its bytes away.
    pub async fn cancel(&self) -> Result<(), StoreError> {
        let mut slot = self.session.take()?;
        self.inner.end_session(&self.session, &mut slot).await;
        Ok(())
    }
}

/// The one writer of a session.
#[derive(Debug)]
pub struct UploadWriter {
    session: Arc<Session>,
    slot: Option<OwnedMutexGuard<Slot>>,
}

impl UploadWriter {
    fn sink(&mut self) -> Result<&mut Sink, StoreError> {
        self.slot.as_mut().and_then(|slot| slot.sink.as_mut()).ok_or(StoreError::Stopped)
    }

    /// Appends. Returns when the bytes are accepted; back-pressure is by waiting.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let sink = self.sink()?;
        let result = sink.write(bytes).await;
        let offset = sink.offset();
        self.session.offset.store(offset, Ordering::Relaxed);
        self.session.touch();
        result
    }

    /// Waits until everything is on the disk and returns the session's new offset.
    pub async fn close(mut self) -> Result<u64, StoreError> {
        let sink = self.sink()?;
        let result = sink.sync().await;
        let offset = sink.offset();
        self.session.offset.store(offset, Ordering::Relaxed);
        result.map(|()| offset)
    }
}

impl Drop for UploadWriter {
    fn drop(&mut self) {
        let Some(mut slot) = self.slot.take() else { return };
        if !slot.sink.as_ref().is_some_and(Sink::is_busy) {
            return;
        }
        let session = Arc::clone(&self.session);
        match tokio::runtime::Handle::try_current() {
            // The client has gone in the middle: what came is kept, and the session stays busy until it is written.
            Ok(runtime) => drop(runtime.spawn(async move {
                if let Some(sink) = slot.sink.as_mut() {
                    if let Err(e) = sink.flush().await {
                        tracing::debug!(error = %e, "end of an interrupted upload not kept");
                    }
                    session.offset.store(sink.offset(), Ordering::Relaxed);
                }
            })),
            Err(_) => slot.sink = None,
        }
    }
}
