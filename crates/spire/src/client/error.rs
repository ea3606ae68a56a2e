//! Why a call came to nothing.

use tonic::Code;

/// Why SPIRE's server did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached, or did not answer in time.
    #[error(
        "SPIRE server at {server} does not answer ({call}: {reason}); check that it runs and can be reached"
    )]
    Unreachable {
        /// Which server.
        server: String,
        /// Which call.
        call: &'static str,
        /// What the transport says.
        reason: String,
    },
    /// We have nothing to show to it.
    #[error(
        "SPIRE server at {server} cannot be asked ({call}): Ground Control has no SVID at this moment; see what its log \
         says of its Workload API or its files"
    )]
    NoIdentity {
        /// Which server.
        server: String,
        /// Which call.
        call: &'static str,
    },
    /// We are nobody to it.
    #[error(
        "SPIRE server at {server} refuses {call} ({reason}); use its unix socket, or name Ground Control's SPIFFE ID in \
         its admin_ids"
    )]
    Denied {
        /// Which server.
        server: String,
        /// Which call.
        call: &'static str,
        /// What it says.
        reason: String,
    },
    /// What was asked can never be right.
    #[error("SPIRE server refuses the request ({call}: {reason})")]
    Invalid {
        /// Which call.
        call: &'static str,
        /// What it says.
        reason: String,
    },
    /// It failed on its side.
    #[error("SPIRE server at {server} failed ({call}: {code:?}: {reason}); its log tells more")]
    Failed {
        /// Which server.
        server: String,
        /// Which call.
        call: &'static str,
        /// The status.
        code: Code,
        /// What it says.
        reason: String,
    },
    /// It answered something that makes no sense.
    #[error(
        "SPIRE server at {server} answered {call} with {what}; is this a SPIRE server of version 1.12 or later?"
    )]
    Answer {
        /// Which server.
        server: String,
        /// Which call.
        call: &'static str,
        /// What was wrong.
        what: &'static str,
    },
}

impl ClientError {
    pub(super) fn of(server: &str, call: &'static str, status: &tonic::Status) -> Self {
        let (server, reason) = (server.to_owned(), reason(status));
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                Self::Unreachable { server, call, reason }
            }
            _ if is_of_transport(status) => Self::Unreachable { server, call, reason },
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied { server, call, reason },
            Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::OutOfRange => {
                Self::Invalid { call, reason }
            }
            code => Self::Failed { server, call, code, reason },
        }
    }
}

/// Whether the connection failed, and not the server: what a server says comes without a cause of ours.
pub(super) fn is_of_transport(status: &tonic::Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// The message and, where the transport failed, its innermost cause: the outer ones say no more than "transport error".
fn reason(status: &tonic::Status) -> String {
    let mut innermost: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(next) = innermost.and_then(std::error::Error::source) {
        innermost = Some(next);
    }
    match innermost.map(ToString::to_string) {
        Some(cause) if !status.message().contains(&cause) => format!("{}: {cause}", status.message()),
        _ => status.message().to_owned(),
    }
}
