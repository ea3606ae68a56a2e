//! What a config document from Ground Control may change, and what it may not.

use std::fmt;

use fleet_protocol::config::ConfigDocument;

use super::{Effective, Site};

/// The decisions about remote configuration; a function from values to values.
#[derive(Debug)]
pub struct RemoteConfig;

/// What taking a document means.
#[derive(Debug, Clone)]
pub struct Change {
    /// The configuration after it.
    pub effective: Effective,
    /// Settings that changed and are in force at once.
    pub live: Vec<&'static str>,
    /// Settings that changed and wait for the next start.
    pub restart: Vec<&'static str>,
    /// Keys that were given and are not honoured, and settings that were left as they are, each with its reason.
    pub warnings: Vec<String>,
}

/// Why a document was refused as a whole; the last good one stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// One line for each thing that is wrong: the key, and what is wrong with it.
    pub reasons: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "remote config refused: {}", self.reasons.join("; "))
    }
}

impl RemoteConfig {
    /// Decides whether `document` can be worked with, and what changes if it is taken.
    ///
    /// # Errors
    /// [`Refusal`] with every reason, when a value does not validate or asks for a part that is not there.
    pub fn apply(site: &Site, current: &Effective, document: &ConfigDocument) -> Result<Change, Refusal> {
        decide(site, current, document)
    }
}
