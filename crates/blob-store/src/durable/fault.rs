//! Failing file operations on demand, below one directory, so that tests beside each other do not see each other's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    Write,
    Truncate,
    Sync,
}

static FAULTS: Mutex<Vec<(u64, PathBuf, Operation, Errno)>> = Mutex::new(Vec::new());

/// Ends the fault when it is dropped.
pub(crate) struct Fault(u64);

/// Lets every `operation` below `root` fail.
pub(crate) fn inject(root: &Path, operation: Operation, errno: Errno) -> Fault {
    let mut faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    let id = faults.last().map_or(0, |f| f.0 + 1);
    faults.push((id, root.to_owned(), operation, errno));
    Fault(id)
}

impl Drop for Fault {
    fn drop(&mut self) {
        FAULTS.lock().unwrap_or_else(PoisonError::into_inner).retain(|f| f.0 != self.0);
    }
}

pub(super) fn check(operation: Operation, path: &Path) -> io::Result<()> {
    let faults = FAULTS.lock().unwrap_or_else(PoisonError::into_inner);
    match faults.iter().find(|f| f.2 == operation && path.starts_with(&f.1)) {
        Some(f) => Err(f.3.into()),
        None => Ok(()),
    }
}
