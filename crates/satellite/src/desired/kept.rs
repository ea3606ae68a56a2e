//! What was read last, on disk.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use oci::Digest;
use serde::{Deserialize, Serialize};

/// Form of the file. A file of another form is as if there were none.
const VERSION: u32 = 1;

/// The documents that were read last.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    pub(super) state: Option<KeptDocument>,
    pub(super) groups: BTreeMap<String, KeptDocument>,
    /// The greatest generation that was told.
    #[serde(default)]
    pub(super) generation: u64,
    /// The user name that the registry accepted last.
    #[serde(default)]
    pub(super) accepted: Option<String>,
}

/// One document: where it came from, its manifest's digest, its JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptDocument {
    pub(super) url: String,
    pub(super) digest: Digest,
    pub(super) json: String,
}

impl Kept {
    pub(super) fn load(file: &Path) -> Self {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the last desired state cannot be read from disk");
                return Self::default();
            }
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(kept) if kept.version == VERSION => kept,
            Ok(kept) => {
                tracing::warn!(file = %file.display(), version = kept.version, "the last desired state has another form");
                Self::default()
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the last desired state on disk is damaged");
                Self::default()
            }
        }
    }

    pub(super) fn store(&mut self, file: &Path) -> io::Result<()> {
        self.version = VERSION;
        let bytes = serde_json::to_vec(self)?;
        blob_store::durable::write_file(file, &bytes, 0o600)
    }
}
