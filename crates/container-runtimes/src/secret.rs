//! Credentials on their way into a file that only root reads.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the text shows that hides it.
pub(crate) const MASK: &str = "********";

/// A credential: it is written into a runtime's file and our own state, both with mode 0600, and never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the file that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
