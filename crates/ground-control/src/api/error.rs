//! The one shape of every refusal: `{"message": string, "code": int}`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// What a person or program is told when a request is not served.
///
/// The message is for them: it says what is wrong and what to do, and never what only the operator should see
/// (such a cause goes into the log where the error is made).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    retry_after_seconds: Option<u64>,
    challenge: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
    code: u16,
}

impl ApiError {
    /// An error of this status with this text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after_seconds: None, challenge: false }
    }

    /// 400: the request itself is wrong; the text says how.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 401, the same for every reason, with the challenge that RFC 9110 asks for.
    pub fn unauthorized() -> Self {
        Self { challenge: true, ..Self::new(StatusCode::UNAUTHORIZED, "wrong or missing credentials") }
    }

    /// 401 of a satellite's route, with a text of its own.
    pub fn unauthorized_because(message: impl Into<String>) -> Self {
        Self { challenge: true, ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// 403: known, and not entitled.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// 404 for a thing of this kind and name.
    pub fn not_found(kind: &str, name: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no {kind} is named {name}"))
    }

    /// 409: it exists already, or the state of things forbids it.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// 412: what the change depends on is not so (any more).
    pub fn outdated(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, message)
    }

    /// 429 with `Retry-After`.
    pub fn too_many(seconds: u64) -> Self {
        Self {
            retry_after_seconds: Some(seconds.max(1)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too many attempts, try again later")
        }
    }

    /// 429 with `Retry-After`, rounded up to whole seconds.
    pub fn slow_down(message: impl Into<String>, wait: std::time::Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            retry_after_seconds: Some(seconds.max(1)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, message)
        }
    }

    /// 503 with `Retry-After`: for a while only.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self { retry_after_seconds: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// 503 with `Retry-After`: not before so many seconds.
    pub fn unavailable_for(message: impl Into<String>, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds.max(1)), ..Self::unavailable(message) }
    }

    /// 500; the cause goes to the log, not to the caller.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal error, see the server's log under this X-Request-ID",
        )
    }

    /// The same, with `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_seconds: Some(seconds.max(1)), ..self }
    }

    /// The status, for tests and logs.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Body { message: &self.message, code: self.status.as_u16() };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.challenge {
            headers
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"ground-control\""));
        }
        response
    }
}
