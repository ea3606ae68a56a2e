//! What can go wrong between us and Harbor, told so that a caller can decide and a person can act.

use std::time::Duration;

/// A failed operation: what was tried, where, and why it failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} at {harbor}: {kind}")]
pub struct Error {
    operation: String,
    harbor: String,
    kind: Box<ErrorKind>,
}

/// Why an operation failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting cannot be used: the address, the CA file, plain HTTP beyond loopback.
    #[error("{0}")]
    Configuration(String),
    /// The caller asked for what Harbor could not hold; nothing was sent.
    #[error("{0}")]
    Input(String),
    /// No answer: no connection came about, or it broke, or it took too long.
    #[error("no answer: {reason}")]
    Unreachable {
        /// What happened on the way.
        reason: String,
        /// Whether the request may have reached Harbor, and been done.
        sent: bool,
    },
    /// Status 408, 429 or 5xx: Harbor, or the proxy before it, cannot answer now.
    #[error("not available, {status}: {message}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// What it said; of a page only the words at its beginning.
        message: String,
    },
    /// Status 401: the credentials may be wrong, or Harbor's database is down, in which case it answers that to the right ones,
    /// too. Nothing is to be revoked, rotated or registered anew on this alone.
    #[error("401 unauthorized: {0}; the credentials are wrong, or Harbor's database is away")]
    Unauthorized(String),
    /// Status 403: the account may not do this. A robot account, for one, may not update robots.
    #[error("403 forbidden: {0}")]
    Forbidden(String),
    /// Status 404 in Harbor's own words; a 404 of anything before it is [`ErrorKind::Refused`].
    #[error("404 not found: {0}")]
    NotFound(String),
    /// Status 409 in Harbor's own words: the name is taken.
    #[error("409 conflict: {0}")]
    Conflict(String),
    /// Status 412: something still refers to it, or its deliveries are not over.
    #[error("412 precondition failed: {0}")]
    Precondition(String),
    /// Any other status that refuses the request.
    #[error("refused with {status}{}: {message}", .code.as_ref().map(|c| format!(" {c}")).unwrap_or_default())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Harbor's error code, for example `BAD_REQUEST`.
        code: Option<String>,
        /// What it said.
        message: String,
    },
    /// An answer that makes no sense: a page instead of JSON, a missing field.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
    /// More than is accepted.
    #[error("the answer is larger than {0}")]
    TooLarge(String),
    /// A list changed so much while it was read, page by page, that entries may be missing.
    #[error("the list changed while it was read; ask again")]
    Unstable,
}

impl Error {
    pub(crate) fn new(operation: &str, harbor: &str, kind: ErrorKind) -> Self {
        Self { operation: operation.to_owned(), harbor: harbor.to_owned(), kind: Box::new(kind) }
    }

    /// Why it failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What was tried, for example `create robot edge-01`.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The address of the Harbor.
    pub fn harbor(&self) -> &str {
        &self.harbor
    }

    /// Whether the same request may well succeed later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match &*self.kind {
            ErrorKind::Unreachable { .. } | ErrorKind::Unstable => true,
            ErrorKind::Unavailable { status, .. } => !matches!(status, 501 | 505),
            _ => false,
        }
    }

    /// Whether this may be nothing but an outage: [`Error::is_transient`], or a 401, or an answer that is not Harbor's.
    pub fn may_be_outage(&self) -> bool {
        self.is_transient() || matches!(*self.kind, ErrorKind::Unauthorized(_) | ErrorKind::Malformed(_))
    }

    /// Whether the request may have been done although no good answer came. After a create: look by name. After a fresh
    /// secret: the former one may be gone.
    pub fn may_have_happened(&self) -> bool {
        match &*self.kind {
            ErrorKind::Unreachable { sent, .. } => *sent,
            ErrorKind::Unavailable { status, .. } => *status != 429,
            ErrorKind::Malformed(_) | ErrorKind::TooLarge(_) => true,
            _ => false,
        }
    }

    /// When Harbor wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match &*self.kind {
            ErrorKind::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether Harbor said 401.
    pub fn is_unauthorized(&self) -> bool {
        matches!(*self.kind, ErrorKind::Unauthorized(_))
    }

    /// Whether Harbor said 403.
    pub fn is_forbidden(&self) -> bool {
        matches!(*self.kind, ErrorKind::Forbidden(_))
    }

    /// Whether Harbor said 404.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.kind, ErrorKind::NotFound(_))
    }

    /// Whether Harbor said 409.
    pub fn is_conflict(&self) -> bool {
        matches!(*self.kind, ErrorKind::Conflict(_))
    }
}

/// An error and all that caused it in one line: libraries put the part that helps at the end of the chain.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
