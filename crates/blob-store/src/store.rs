//! The store's handle, its options and how it is opened.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use oci::Digest;

use crate::ballast;
use crate::buffers::Buffers;
use crate::cache::Cache;
use crate::committer::Committer;
use crate::durable::{self, DurableFile};
use crate::error::{StoreError, at};
use crate::layout::{Layout, list};
use crate::partial::Writers;
use crate::pins::{Pin, Pins};
use crate::recover::{self, Recovery};
use crate::shared::{Shared, boot_id};
use crate::types::Usage;
use crate::upload::Sessions;

mod blobs;
mod lists;
mod manifests;

/// How a store behaves. The default suits an edge device.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a blob stays that nothing names.
    pub grace: Duration,
    /// After how long without a byte an upload session ends.
    pub upload_idle: Duration,
    /// After how long without being asked for a partial download goes.
    pub partial_idle: Duration,
    /// Memory for pages of the index, in bytes.
    pub index_cache: usize,
    /// Memory for manifests that are asked for often, in bytes.
    pub manifest_cache: usize,
    /// Free bytes of the disk that the store leaves alone, so that metadata can still be written: content that would
    /// use them up is refused with [`StoreError::NoSpace`].
    pub reserve: u64,
    /// By how many bytes the journal may exceed twice its last snapshot before it is compacted.
    pub journal_slack: u64,
    /// Identity of the running boot; `None` asks the kernel. Another boot than the one that wrote a partial download
    /// means that only what was synced of it is believed.
    pub boot_id: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(3600),
            upload_idle: Duration::from_secs(24 * 3600),
            partial_idle: Duration::from_secs(7 * 24 * 3600),
            index_cache: 2 << 20,
            manifest_cache: 2 << 20,
            reserve: 16 << 20,
            journal_slack: 4 << 20,
            boot_id: None,
        }
    }
}

/// An open store. Cloning is cheap and names the same store; it closes when the last clone is dropped, and with it the
/// last reader, upload and partial download.
///
/// Reading methods that are not `async` are quick look-ups, fit for an asynchronous thread. Writing methods return
/// once what they did is on the disk.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    // The order is that of dropping: the committer ends first, the lock goes last.
    pub(crate) committer: Committer,
    pub(crate) shared: Arc<Shared>,
    pub(crate) sessions: Sessions,
    pub(crate) writers: Arc<Writers>,
    pub(crate) buffers: Arc<Buffers>,
    /// Whether the files were compared with the index since the store was opened.
    pub(crate) accounted: AtomicBool,
    recovery: Recovery,
    _lock: fs::File,
}

impl Store {
    /// Opens the store in `dir`, making it where there is none. Blocking, but quick: what a crash left is set right in a
    /// time that does not depend on how much is stored, except where the index has to be rebuilt.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let layout = Layout::new(dir.as_ref());
        layout.make_directories()?;
        let lock = recover::lock(&layout, recover::LOCK_PATIENCE)?;
        clear_temporary(&layout)?;
        let opened = match recover::open(&layout, options.index_cache) {
            Err(e) if ballast::release(&layout.ballast()) => {
                tracing::warn!(error = %e, "store did not open, trying again with more space");
                recover::open(&layout, options.index_cache)
            }
            opened => opened,
        };
        let (index, journal, recovery) = opened?;
        let shared = Arc::new(Shared {
            cache: Cache::new(options.manifest_cache),
            pins: Arc::new(Pins::default()),
            boot: options.boot_id.clone().unwrap_or_else(boot_id),
            layout,
            options,
            index,
        });
        if shared.require_space(0).is_ok() {
            ballast::hold(&shared.layout.ballast());
        }
        let committer = Committer::start(Arc::clone(&shared), journal, recovery.replayed)?;
        Ok(Self {
            inner: Arc::new(Inner {
                committer,
                shared,
                sessions: Sessions::default(),
                writers: Arc::default(),
                buffers: Arc::default(),
                accounted: AtomicBool::new(false),
                recovery,
                _lock: lock,
            }),
        })
    }

    /// The directory that the store is in.
    pub fn root(&self) -> &Path {
        &self.inner.shared.layout.root
    }

    /// Records of the journal that opening had to apply to the index again. Bounded, except where the index was rebuilt.
    pub fn replayed(&self) -> u64 {
        self.inner.recovery.replayed
    }

    /// Whether opening had to make the index anew.
    pub fn was_rebuilt(&self) -> bool {
        self.inner.recovery.rebuilt
    }

    /// What the store holds.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.inner.shared.index.usage()
    }

    /// Brings everything derived up to date on the disk, so that the next open has nothing to do. Never needed for
    /// safety.
    pub async fn sync(&self) -> Result<(), StoreError> {
        self.inner.committer.sync().await
    }

    /// Keeps these contents from being collected while the pin lives, whether or not they are here yet.
    pub fn pin(&self, digests: impl IntoIterator<Item = Digest>) -> Pin {
        Pin::new(Arc::clone(&self.inner.shared.pins), digests.into_iter().collect())
    }
}

/// Runs blocking work on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopped)?
}

/// A file of `tmp/` that goes with its owner, unless it was published.
#[derive(Debug)]
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.0)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(error = %e, path = %self.0.display(), "temporary file not removed");
        }
    }
}

impl Inner {
    /// Writes and syncs bytes under a name of their own.
    pub(crate) async fn write_temporary(self: &Arc<Self>, bytes: Bytes) -> Result<Temporary, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            shared.require_space(bytes.len() as u64)?;
            let temporary = Temporary(shared.layout.temporary_file());
            let path = temporary.path();
            let file = shared.layout.making(path, |p| DurableFile::create(p, durable::PRIVATE_FILE))?;
            file.write_at(&bytes, 0).map_err(at("write", path))?;
            file.sync_all().map_err(at("sync", path))?;
            Ok(temporary)
        })
        .await
    }
}

/// Empties `tmp/` beside the start: what is in it was never published.
fn clear_temporary(layout: &Layout) -> Result<(), StoreError> {
    let temporary = layout.temporary();
    let mut leftovers: Vec<PathBuf> = list(&temporary)?.iter().map(DirEntry::path).collect();
    if leftovers.is_empty() {
        return Ok(());
    }
    // Names in here are random, so nothing that is made from now on is among the leftovers.
    let work = move || {
        for path in leftovers.drain(..) {
            if let Err(e) = fs::remove_file(&path) {
                tracing::warn!(error = %e, path = %path.display(), "leftover not removed");
            }
        }
    };
    std::thread::Builder::new()
        .name("store-clear".into())
        .spawn(work)
        .map(drop)
        .map_err(at("start to clear", &temporary))
}
