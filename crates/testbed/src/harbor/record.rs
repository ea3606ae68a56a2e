//! The record of a run: what it made, in a file that outlasts the process, so that the next run can clear away what one that
//! was killed has left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Inventory;
use crate::{Error, Result, files};

/// What a run made, by number. It holds no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Which Harbor.
    pub url: String,
    /// What every name of the run begins with.
    pub prefix: String,
    /// Whose process it was.
    pub pid: u32,
    /// What was there before.
    pub before: Inventory,
    /// Whether a Ground Control was let near it: it makes the project of state documents, and robots, by itself.
    pub ground_control: bool,
    /// Projects that were made.
    pub projects: BTreeMap<i64, String>,
    /// Robots that were made.
    pub robots: BTreeMap<i64, String>,
}

impl Record {
    /// Where records are.
    pub fn folder() -> PathBuf {
        std::env::temp_dir().join("harbor-satellite-live")
    }

    /// Its file.
    pub fn file(&self) -> PathBuf {
        Self::folder().join(format!("{}.json", self.prefix))
    }

    /// Writes it down, whole or not at all, before anything follows from it.
    pub fn write(&self) -> Result<()> {
        files::create_dir(&Self::folder())?;
        let text = serde_json::to_vec_pretty(self).map_err(|error| Error::Content(error.to_string()))?;
        let fresh = self.file().with_extension("new");
        files::write_private(&fresh, &text)?;
        let synced = std::fs::File::open(&fresh).and_then(|file| file.sync_all());
        synced
            .and_then(|()| std::fs::rename(&fresh, self.file()))
            .map_err(Error::io(format!("cannot keep {}", self.file().display())))
    }

    /// Everything that it names is cleared away.
    pub fn forget(&self) -> Result<()> {
        std::fs::remove_file(self.file())
            .map_err(Error::io(format!("cannot remove {}", self.file().display())))
    }

    /// Records of runs at this Harbor whose process is gone.
    pub fn left(url: &str) -> Vec<Self> {
        let is_record = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
        let read = |path: PathBuf| serde_json::from_slice::<Self>(&files::read(&path).ok()?).ok();
        let alive = |pid: u32| Path::new(&format!("/proc/{pid}")).is_dir();
        files::walk(&Self::folder())
            .into_iter()
            .filter(is_record)
            .filter_map(read)
            .filter(|record| record.url == url && !alive(record.pid))
            .collect()
    }
}
