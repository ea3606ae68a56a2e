//! What the store's handle and its committer share.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use oci::Digest;

use crate::cache::Cache;
use crate::error::{StoreError, at};
use crate::index::Index;
use crate::layout::Layout;
use crate::pins::Pins;
use crate::store::Options;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) index: Index,
    pub(crate) cache: Cache,
    pub(crate) pins: Arc<Pins>,
    /// Identity of the running boot.
    pub(crate) boot: String,
}

/// Milliseconds of Unix time.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Shared {
    /// The length of a content's file; `None` where there is none.
    pub(crate) fn file_length(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.layout.blob(digest)).ok().filter(|m| m.is_file()).map(|m| m.size())
    }

    /// Refuses content that would use up the reserve of the disk.
    pub(crate) fn require_space(&self, bytes: u64) -> Result<(), StoreError> {
        let root = &self.layout.root;
        let disk = rustix::fs::statvfs(root).map_err(|e| at("look at", root)(e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.options.reserve.saturating_add(bytes) {
            return Err(StoreError::NoSpace { path: root.clone() });
        }
        Ok(())
    }
}

/// The kernel's identity of this boot; where it cannot be had, one that no other run has, so that nothing unsynced of
/// an earlier run is believed.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_else(|_| uuid::Uuid::new_v4().to_string())
}
