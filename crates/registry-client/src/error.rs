//! What can go wrong between us and a registry, told so that a caller can decide and a person can act.

use std::time::Duration;

use oci::Digest;

/// Who has to do something about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The registry, or what stands in front of it.
    Registry,
    /// The way between: names, routes, connections.
    Network,
    /// The credentials or the rights that they carry. One such answer is no proof: a registry whose database
    /// is down answers 401 to the right password.
    Credentials,
    /// What was asked for does not exist (any more).
    Content,
    /// Our own settings: addresses, certificates, plain HTTP.
    Configuration,
    /// The caller: a body that could not be read, a digest that its own bytes do not have.
    Caller,
}

/// A failed operation: what was tried, where, and why it failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} at {registry}: {kind}")]
pub struct Error {
    operation: String,
    registry: String,
    kind: Box<ErrorKind>,
}

/// Why an operation failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting cannot be used.
    #[error("{0}")]
    Configuration(String),
    /// Plain HTTP to another machine without permission.
    #[error("plain HTTP to {0} is refused beyond loopback; use https, or set USE_UNSECURE=true to allow it")]
    PlainHttp(String),
    /// No connection came about: name, route, refusal, TLS.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// A connection ended before the answer was whole.
    #[error("the connection broke: {0}")]
    Interrupted(String),
    /// Nothing moved for this long.
    #[error("no progress for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// 401 after the credentials were presented, or because there are none.
    #[error("401 unauthorized: {0}")]
    Unauthorized(String),
    /// 403.
    #[error("403 forbidden: {0}")]
    Forbidden(String),
    /// 404.
    #[error("404 not found: {0}")]
    NotFound(String),
    /// 429, or an answer that names a time to wait.
    #[error("429 too many requests: {message}")]
    RateLimited {
        /// When the registry wants to be asked again.
        retry_after: Option<Duration>,
        /// What it said.
        message: String,
    },
    /// 408 or 5xx.
    #[error("the registry is not available, {status}: {message}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// When the registry wants to be asked again.
        retry_after: Option<Duration>,
        /// What it said; of a page that is no JSON only the beginning.
        message: String,
    },
    /// Any other status that refuses the request.
    #[error("refused with {status}{}: {message}", code_text(.code))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The registry's error code, for example `MANIFEST_INVALID`.
        code: Option<String>,
        /// What it said.
        message: String,
    },
    /// The challenge names a token service that must not be given the credentials.
    #[error("the token service {realm} is not trusted: {reason}")]
    Realm {
        /// The realm of the challenge.
        realm: String,
        /// Why it was refused.
        reason: String,
    },
    /// The token service answered, but not with a token.
    #[error("the token service gave no token: {0}")]
    Token(String),
    /// The bytes are not those of the digest.
    #[error("the content is {actual}, not {expected}")]
    DigestMismatch {
        /// What was asked for, or what the registry said that it sends.
        expected: Digest,
        /// What the bytes are.
        actual: Digest,
    },
    /// More or fewer bytes than promised.
    #[error("{actual} bytes instead of {expected}")]
    Length {
        /// What was promised.
        expected: u64,
        /// What came or was announced.
        actual: u64,
    },
    /// 200 to a request for a range: the answer starts at byte 0.
    #[error("the registry ignores ranges: bytes from {offset} on were asked for, it sends all")]
    RangeIgnored {
        /// The first byte that was asked for.
        offset: u64,
    },
    /// 206 with another range than asked for.
    #[error("bytes from {offset} on were asked for, the answer's Content-Range is {got:?}")]
    RangeMismatch {
        /// The first byte that was asked for.
        offset: u64,
        /// The header as it came.
        got: String,
    },
    /// A body that is larger than is accepted.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// An answer that makes no sense.
    #[error("the answer is malformed: {0}")]
    Malformed(String),
    /// The bytes to push could not be read.
    #[error("the content to push could not be read: {0}")]
    Body(String),
}

fn code_text(code: &Option<String>) -> String {
    code.as_ref().map(|c| format!(" {c}")).unwrap_or_default()
}

impl Error {
    pub(crate) fn new(operation: &str, registry: &str, kind: ErrorKind) -> Self {
        Self { operation: operation.to_owned(), registry: registry.to_owned(), kind: Box::new(kind) }
    }

    /// Why it failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// What was tried, for example `get manifest library/nginx:1.27`.
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The address of the registry.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Who has to do something about it.
    pub fn fault(&self) -> Fault {
        match &*self.kind {
            ErrorKind::Configuration(_) | ErrorKind::PlainHttp(_) => Fault::Configuration,
            ErrorKind::Connect(_) | ErrorKind::Interrupted(_) | ErrorKind::Stalled(_) => Fault::Network,
            ErrorKind::Unauthorized(_) | ErrorKind::Forbidden(_) => Fault::Credentials,
            ErrorKind::NotFound(_) => Fault::Content,
            ErrorKind::Body(_) => Fault::Caller,
            _ => Fault::Registry,
        }
    }

    /// Whether the same request may well succeed later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        match &*self.kind {
            ErrorKind::Connect(_)
            | ErrorKind::Interrupted(_)
            | ErrorKind::Stalled(_)
            | ErrorKind::RateLimited { .. } => true,
            ErrorKind::Unavailable { status, .. } => !matches!(status, 501 | 505),
            // Fewer bytes than promised is a connection cut by something that hides it.
            ErrorKind::Length { expected, actual } => actual < expected,
            _ => false,
        }
    }

    /// When the registry wants to be asked again, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match &*self.kind {
            ErrorKind::RateLimited { retry_after, .. } | ErrorKind::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Whether the registry said 401.
    pub fn is_unauthorized(&self) -> bool {
        matches!(*self.kind, ErrorKind::Unauthorized(_))
    }

    /// Whether the registry said 403.
    pub fn is_forbidden(&self) -> bool {
        matches!(*self.kind, ErrorKind::Forbidden(_))
    }

    /// Whether the registry said 404.
    pub fn is_not_found(&self) -> bool {
        matches!(*self.kind, ErrorKind::NotFound(_))
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
