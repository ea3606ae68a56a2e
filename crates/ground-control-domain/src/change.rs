//! What others are told after something was committed.
//!
//! A change is a hint and never a fact: who is told looks at the database. Hints get lost (a connection that breaks, a
//! reader that is too slow); then [`Change::Lost`] comes in their place, and who keeps a cache reads again.

use std::fmt;
use std::str::FromStr;

use crate::document::DocumentKey;

/// Something was committed, by this replica or another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// A document was published or removed.
    Published(DocumentKey),
    /// The satellite of this name was revoked, deleted or let in again, or its credentials ended.
    Satellite(String),
    /// People changed something: documents may wait to be published, groups and their members may be others.
    Fleet,
    /// Accounts, sessions or tokens of people ended or are others.
    Accounts,
    /// Any of these, nobody knows how many.
    Lost,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published(document) => write!(f, "published {document}"),
            Self::Satellite(name) => write!(f, "satellite {name}"),
            Self::Fleet => f.write_str("fleet"),
            Self::Accounts => f.write_str("accounts"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            Some(("published", document)) => document.parse().map(Self::Published),
            Some(("satellite", name)) => Ok(Self::Satellite(name.to_owned())),
            None if text == "fleet" => Ok(Self::Fleet),
            None if text == "accounts" => Ok(Self::Accounts),
            None if text == "lost" => Ok(Self::Lost),
            _ => Err(format!("{text:?} is no change")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_back() {
        for change in [
            Change::Published(DocumentKey::group("us-east")),
            Change::Satellite("edge-01".into()),
            Change::Fleet,
            Change::Accounts,
            Change::Lost,
        ] {
            assert_eq!(change.to_string().parse::<Change>(), Ok(change));
        }
        assert!("new in a later version".parse::<Change>().is_err());
    }
}
