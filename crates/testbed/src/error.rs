//! The one error of this crate: what failed, on what, and what the program's log said.

use std::io;
use std::process::ExitStatus;

/// What every function here answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a component did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a process could not be handled.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, on which path.
        what: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Something that the machine has to have is not there.
    #[error("{what} is not there: {remedy}")]
    Missing {
        /// The program, package or right.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// A program ended that should have gone on.
    #[error("{program} ended ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which program.
        program: String,
        /// How it ended.
        status: String,
        /// Its last lines.
        log: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s{log}")]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The last lines of the log of whoever was waited for, on lines of their own; may be empty.
        log: String,
    },
    /// A command answered with a failure.
    #[error("`{command}` failed ({status}):\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        output: String,
    },
    /// A request found nobody or broke off.
    #[error("{method} {url}: {source}")]
    Request {
        /// Method of the request.
        method: String,
        /// Where it went.
        url: String,
        /// What broke.
        source: reqwest::Error,
    },
    /// A server answered something else than was asked for.
    #[error("{method} {url} answered {status}: {body}")]
    Answer {
        /// Method of the request.
        method: String,
        /// Where it went.
        url: String,
        /// The status that came.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// Content that is not what it claims to be.
    #[error("{0}")]
    Content(String),
}

impl Error {
    /// Turns an I/O error into one that says what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether the machine lacks something, so that a test may be left out with this text as the reason.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}
