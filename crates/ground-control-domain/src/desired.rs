//! What is published, in the order in which it was.

use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Serialize};

use crate::document::DocumentKey;

/// How far publications have counted. The epoch is compared first: a restored backup has a new one, and may count from
/// less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Raised by a restore.
    pub epoch: u64,
    /// The last number taken.
    pub number: u64,
}

/// What a satellite's document names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Named {
    /// Its groups, sorted.
    pub groups: Vec<String>,
    /// Its configuration.
    pub config: String,
}

/// A document as it was published or removed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// The number that this took: later ones are greater.
    pub number: u64,
    /// The document.
    pub document: DocumentKey,
    /// Its manifest; `None` where it was removed.
    pub digest: Option<Digest>,
    /// What it names, where it is a satellite's.
    pub named: Option<Named>,
}

/// What was written into the registry.
#[derive(Debug, Clone)]
pub struct Written {
    /// The manifest.
    pub digest: Digest,
    /// What the tag pointed at before. It is another manifest than the last one remembered where a publisher died between
    /// writing and remembering.
    pub found: Option<Digest>,
    /// When what it takes the place of is to be removed.
    pub remove_at: Timestamp,
}
