//! Errors as clients see them (OCI Distribution, "Error Codes").

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use blob_store::StoreError;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// The codes of OCI Distribution 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The blob is not here, or not visible in this repository.
    BlobUnknown,
    /// An upload was used in a way that cannot work.
    BlobUploadInvalid,
    /// The upload session is over or never was.
    BlobUploadUnknown,
    /// Not a digest, or not the digest of what came.
    DigestInvalid,
    /// A manifest names something that this repository does not have.
    ManifestBlobUnknown,
    /// Not a manifest.
    ManifestInvalid,
    /// The manifest is not here.
    ManifestUnknown,
    /// Not a repository name.
    NameInvalid,
    /// No such repository.
    NameUnknown,
    /// Too large, or not as long as was said.
    SizeInvalid,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Known, and not entitled.
    Denied,
    /// Nobody may do that here.
    Unsupported,
    /// Too often.
    TooManyRequests,
    /// Something here is broken or full. Not a code of the specification, which has none for 5xx.
    Unknown,
    /// Something here is down for the moment. Not a code of the specification either.
    Unavailable,
}

impl ErrorCode {
    /// As it is written in the answer.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BlobUnknown => "BLOB_UNKNOWN",
            ErrorCode::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            ErrorCode::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            ErrorCode::DigestInvalid => "DIGEST_INVALID",
            ErrorCode::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            ErrorCode::ManifestInvalid => "MANIFEST_INVALID",
            ErrorCode::ManifestUnknown => "MANIFEST_UNKNOWN",
            ErrorCode::NameInvalid => "NAME_INVALID",
            ErrorCode::NameUnknown => "NAME_UNKNOWN",
            ErrorCode::SizeInvalid => "SIZE_INVALID",
            ErrorCode::Unauthorized => "UNAUTHORIZED",
            ErrorCode::Denied => "DENIED",
            ErrorCode::Unsupported => "UNSUPPORTED",
            ErrorCode::TooManyRequests => "TOOMANYREQUESTS",
            ErrorCode::Unknown => "UNKNOWN",
            ErrorCode::Unavailable => "UNAVAILABLE",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            ErrorCode::BlobUnknown
            | ErrorCode::BlobUploadUnknown
            | ErrorCode::ManifestBlobUnknown
            | ErrorCode::ManifestUnknown
            | ErrorCode::NameUnknown => StatusCode::NOT_FOUND,
            ErrorCode::BlobUploadInvalid
            | ErrorCode::DigestInvalid
            | ErrorCode::ManifestInvalid
            | ErrorCode::NameInvalid => StatusCode::BAD_REQUEST,
            ErrorCode::SizeInvalid => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::Denied => StatusCode::FORBIDDEN,
            ErrorCode::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An answer that is no success: a status, a code, and a message that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct RegistryError {
    status: StatusCode,
    code: ErrorCode,
    message: String,
    detail: Option<serde_json::Value>,
    headers: Box<HeaderMap>,
}

impl RegistryError {
    /// An error with the code's usual status.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        RegistryError {
            status: code.status(),
            code,
            message: message.into(),
            detail: None,
            headers: Box::default(),
        }
    }

    /// Its code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn not_found(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(code, message).with_status(StatusCode::NOT_FOUND)
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// A parameter that cannot be read; the specification has no code of its own for that.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unsupported, message).with_status(StatusCode::BAD_REQUEST)
    }

    pub(crate) fn with_detail(mut self, detail: serde_json::Value) -> Self {
        self.detail = Some(detail);
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    pub(crate) fn too_many_tags(limit: usize) -> Self {
        Self::new(
            ErrorCode::SizeInvalid,
            format!(
                "a manifest is pushed with at most {limit} tags in one request: send the others in another"
            ),
        )
        .with_status(StatusCode::URI_TOO_LONG)
    }

    pub(crate) fn unauthorized(challenge: HeaderValue) -> Self {
        Self::new(ErrorCode::Unauthorized, "log in to the registry with credentials that may do this")
            .with_header(WWW_AUTHENTICATE, challenge)
    }

    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        let seconds = wait.as_secs().max(1);
        Self::new(ErrorCode::TooManyRequests, format!("too many requests: try again in {seconds} s"))
            .with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub(crate) fn manifest_unknown(repository: &str, reference: &str) -> Self {
        Self::new(ErrorCode::ManifestUnknown, format!("`{repository}` has no manifest `{reference}`"))
    }

    pub(crate) fn blob_unknown(repository: &str, digest: &oci::Digest) -> Self {
        Self::new(ErrorCode::BlobUnknown, format!("`{repository}` has no blob {digest}"))
    }

    /// The answer. `head` leaves the body out and keeps the headers (RFC 9110 section 9.3.2).
    pub(crate) fn into_response(self, head: bool) -> Response {
        let mut entry = serde_json::json!({ "code": self.code.as_str(), "message": self.message });
        if let (Some(detail), Some(entry)) = (self.detail, entry.as_object_mut()) {
            entry.insert("detail".to_owned(), detail);
        }
        let body = serde_json::json!({ "errors": [entry] }).to_string();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        *response.headers_mut() = *self.headers;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if !head {
            *response.body_mut() = Body::from(body);
        }
        response
    }
}

/// What the store refused, in the words of the protocol. What is the machine's fault is logged in full where it is
/// answered; the client is told no path.
impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::DigestMismatch { .. } => Self::new(
                ErrorCode::DigestInvalid,
                format!("{message}: send it again, and check what computed the digest"),
            ),
            StoreError::SizeMismatch { .. } => {
                Self::new(ErrorCode::SizeInvalid, message).with_status(StatusCode::BAD_REQUEST)
            }
            StoreError::Manifest(_) => Self::new(ErrorCode::ManifestInvalid, message),
            StoreError::MissingBlobs { missing, .. } => {
                let digests: Vec<_> = missing.0.iter().take(100).map(|d| d.digest.to_string()).collect();
                Self::new(ErrorCode::ManifestBlobUnknown, message)
                    .with_detail(serde_json::json!({ "digests": digests }))
            }
            StoreError::UnknownManifest { .. } | StoreError::UnknownTag { .. } => {
                Self::new(ErrorCode::ManifestUnknown, message)
            }
            StoreError::UnknownBlob { .. } => Self::new(ErrorCode::BlobUnknown, message),
            StoreError::BlobInUse { .. } => {
                Self::new(ErrorCode::Denied, message).with_status(StatusCode::METHOD_NOT_ALLOWED)
            }
            StoreError::UnknownUpload => Self::new(ErrorCode::BlobUploadUnknown, message),
            StoreError::UploadBusy => {
                Self::new(ErrorCode::BlobUploadInvalid, message).with_status(StatusCode::CONFLICT)
            }
            StoreError::UploadOffset { .. } => Self::new(ErrorCode::BlobUploadInvalid, message)
                .with_status(StatusCode::RANGE_NOT_SATISFIABLE),
            StoreError::NoSpace { .. } => {
                tracing::error!(error = message, "no space for a push");
                Self::new(
                    ErrorCode::Unavailable,
                    "the registry's disk is full: free some space on it, or ask its operator to, then push again",
                )
                .with_status(StatusCode::INSUFFICIENT_STORAGE)
            }
            StoreError::Stopped => {
                Self::new(ErrorCode::Unavailable, "the registry is shutting down: try again soon")
            }
            _ => {
                tracing::error!(error = message, "store failed");
                Self::new(ErrorCode::Unknown, "the registry's store failed: its log says why")
            }
        }
    }
}
