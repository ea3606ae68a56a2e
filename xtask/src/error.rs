//! Why a task failed.

/// What a task answers.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a task failed, in words for the person who started it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A component did not do what it should.
    #[error(transparent)]
    Testbed(#[from] testbed::Error),
    /// A registry outside did not.
    #[error(transparent)]
    Registry(#[from] registry_client::Error),
    /// Cargo could not build.
    #[error("the build failed: {0}")]
    Build(String),
    /// Something else; the text says all.
    #[error("{0}")]
    Other(String),
}
