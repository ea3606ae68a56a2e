//! The one error of the store, told by what the caller can do about it.

use std::fmt;

/// What a method of the store answers.
pub type StoreResult<T> = Result<T, StoreError>;

/// The kind of thing an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entity {
    /// A person's account.
    User,
    /// A login session.
    Session,
    /// A token that somebody made for a program.
    Token,
    /// A satellite.
    Satellite,
    /// A group of artifacts.
    Group,
    /// A revision of a group.
    Revision,
    /// A named configuration.
    Config,
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Session => "session",
            Self::Token => "API token",
            Self::Satellite => "satellite",
            Self::Group => "group",
            Self::Revision => "revision",
            Self::Config => "config",
        })
    }
}

/// Why the store did not do what it was asked.
///
/// `NotFound`, `Conflict`, `Outdated` and `Invalid` are the caller's to mend and their text may be shown to a person;
/// `Busy` and `Backend` are ours: their text names internals and belongs in the log.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The thing named does not exist (any more).
    #[error("{entity} {name:?} does not exist")]
    NotFound {
        /// What was looked for.
        entity: Entity,
        /// The name it was looked for by.
        name: String,
    },
    /// The change contradicts what is there: the name is taken, or it would leave nobody to administer the fleet.
    #[error("{message}")]
    Conflict {
        /// What stands in the way.
        message: String,
    },
    /// The change depends on what its author has seen, and that is not what is there.
    #[error("{message}")]
    Outdated {
        /// What is not as it was.
        message: String,
    },
    /// The request can never be right as it stands.
    #[error("{message}")]
    Invalid {
        /// What is wrong with it.
        message: String,
    },
    /// The database had no connection or lock to give in time; the same call may succeed in a moment.
    #[error("{operation}: the database is busy")]
    Busy {
        /// What was being done.
        operation: &'static str,
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database failed, or holds something that cannot be read.
    #[error("{operation}: the database failed")]
    Backend {
        /// What was being done.
        operation: &'static str,
        /// What the driver said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// `entity` called `name` does not exist.
    pub fn not_found(entity: Entity, name: impl Into<String>) -> Self {
        Self::NotFound { entity, name: name.into() }
    }

    /// `entity` called `name` exists already.
    pub fn exists(entity: Entity, name: &str) -> Self {
        Self::Conflict { message: format!("{entity} {name:?} already exists") }
    }

    /// A request that can never be right.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into() }
    }

    /// A stored value that does not read back, which means that something else wrote to the database.
    pub fn corrupt(operation: &'static str, what: impl fmt::Display) -> Self {
        Self::Backend { operation, source: what.to_string().into() }
    }
}
