//! What can go wrong, and the exit code of each.

/// A failure that a person reads.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Ground Control answered with an error.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// Ground Control's own words.
        message: String,
    },
    /// There is no session, or it has ended.
    #[error("not logged in at {server}: run `groundctl login --server {server}`, or set GROUNDCTL_TOKEN")]
    NotLoggedIn {
        /// URL of Ground Control.
        server: String,
    },
    /// No server was named.
    #[error(
        "no Ground Control is named: give --server URL, set GROUNDCTL_SERVER, or run `groundctl login --server URL`"
    )]
    NoServer,
    /// Nothing answers.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// URL of Ground Control.
        server: String,
        /// Why.
        reason: String,
    },
    /// Something answered that is no Ground Control.
    #[error("{server} gave an answer that is none of Ground Control's: {reason}")]
    Answer {
        /// URL of Ground Control.
        server: String,
        /// Why.
        reason: String,
    },
    /// What the person gave is wrong.
    #[error("{0}")]
    Input(String),
    /// What was asked for was done in part; the exit code is that of what ended it.
    #[error("{done} of {all} changes were made, and the next one failed: {what}: {error}")]
    Partly {
        /// How many changes were made.
        done: usize,
        /// How many there were to make.
        all: usize,
        /// The one that failed.
        what: String,
        /// Why.
        error: Box<Error>,
    },
    /// It cannot be told whether there is a difference.
    #[error(transparent)]
    NoDifference(Box<Error>),
    /// A file or the terminal.
    #[error("{what}: {source}")]
    Io {
        /// What was done, on what.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// The program's exit code, as the crate's documentation says.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { code: 404, .. } => 3,
            Self::Refused { code: 401 | 403, .. } | Self::NotLoggedIn { .. } => 4,
            Self::Refused { code: 409 | 412, .. } => 5,
            Self::Refused { code: 400 | 413 | 422, .. } | Self::Input(_) | Self::NoServer => 2,
            Self::Unreachable { .. } => 6,
            Self::Partly { error, .. } => error.exit_code(),
            Self::NoDifference(_) => 2,
            Self::Refused { .. } | Self::Answer { .. } | Self::Io { .. } => 1,
        }
    }

    /// Whether the same may go well a moment later: a restart, a replica that ends.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Refused { code: 429 | 500.., .. } | Self::Answer { .. }
        )
    }

    /// A failure of the file system or the terminal.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
