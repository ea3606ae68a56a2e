//! A few MiB that are held for the moment when somebody else has filled the disk: given back then, they let deletions
//! be written down, so that space can be made at all.

use std::fs;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::durable::{self, DurableFile};

/// Enough for tens of thousands of deletions in the journal and for the index to follow.
const SIZE: u64 = 4 << 20;

/// Holds the ballast, if it is not held already. That it cannot be had is no error: the disk is full, or its file
/// system holds nothing in advance.
pub(crate) fn hold(path: &Path) {
    if fs::symlink_metadata(path).is_ok() {
        return;
    }
    let held = DurableFile::open_or_create(path, durable::PRIVATE_FILE)
        .and_then(|file| Ok(fallocate(file.file(), FallocateFlags::empty(), 0, SIZE)?));
    if let Err(e) = held {
        tracing::debug!(error = %e, "no ballast held");
        drop(fs::remove_file(path));
    }
}

/// Gives the ballast back to the disk; whether there was any.
pub(crate) fn release(path: &Path) -> bool {
    let released = fs::remove_file(path).is_ok();
    if released {
        tracing::warn!("the disk is full, what was held for this is given back so that deletions still work");
    }
    released
}
