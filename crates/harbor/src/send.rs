//! One request from its first byte to a good answer or a typed error; what is repeated, and what an error says.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::{Error, ErrorKind, chain};

/// An error page is read so far; what it says is in its beginning.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// So much of an error text is shown to people.
const MAX_ERROR_CHARACTERS: usize = 300;

/// Whether a request may be sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice is as good as once.
    Safe,
    /// Only where Harbor has certainly not acted on it: nothing was sent, or it was refused with 429.
    OnlyIfUnseen,
}

/// With whose credentials a request is sent.
#[derive(Clone, Debug)]
pub(crate) enum As {
    Own,
    Nobody,
    Other(HeaderValue),
}

/// A request that can be sent again.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'a str,
    method: Method,
    /// Path and query, from the first slash.
    path: String,
    body: Option<Bytes>,
    who: As,
    repeat: Repeat,
    within: Option<Duration>,
}

/// An answer of 2xx, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    body: Bytes,
}

impl<'a> Call<'a> {
    /// A call below `/api/v2.0`. Reads, replacements and deletions are safe to repeat, others are not.
    pub(crate) fn api(operation: &'a str, method: Method, path: &str) -> Self {
        Self::root(operation, method, format!("/api/v2.0{path}"))
    }

    /// A call from the root of the host.
    pub(crate) fn root(operation: &'a str, method: Method, path: String) -> Self {
        let repeat = if method.is_idempotent() { Repeat::Safe } else { Repeat::OnlyIfUnseen };
        Self { operation, method, path, body: None, who: As::Own, repeat, within: None }
    }

    pub(crate) fn body(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(Bytes::from(body.to_string()));
        self
    }

    pub(crate) fn who(mut self, who: As) -> Self {
        self.who = who;
        self
    }

    pub(crate) fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }
}

impl Client {
    /// Sends it, again where that is safe and may help.
    pub(crate) async fn send(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let mut failures = 0;
        loop {
            let error = match self.send_once(call).await {
                Ok(answer) => return Ok(answer),
                Err(kind) => self.error(call.operation, kind),
            };
            failures += 1;
            let again = error.is_transient() && (call.repeat == Repeat::Safe || !error.may_have_happened());
            match self.inner.options.retry.delay(failures, error.retry_after()) {
                Some(delay) if again => {
                    tracing::debug!(%error, failures, delay_ms = delay.as_millis(), "harbor failed, trying again");
                    tokio::time::sleep(delay).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Sends it and reads the answer as JSON.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Error> {
        let answer = self.send(call).await?;
        self.read(call.operation, &answer)
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, operation: &str, answer: &Answer) -> Result<T, Error> {
        serde_json::from_slice(&answer.body)
            // The text of an error of serde quotes what was read, which may hold a secret; the place does not.
            .map_err(|e| ErrorKind::Malformed(format!("{:?} error at column {}", e.classify(), e.column())))
            .map_err(|kind| self.error(operation, kind))
    }

    /// Sends a deletion: `false` when there was nothing (any more).
    pub(crate) async fn delete(&self, operation: &str, path: &str) -> Result<bool, Error> {
        match self.send(&Call::api(operation, Method::DELETE, path)).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    async fn send_once(&self, call: &Call<'_>) -> Result<Answer, ErrorKind> {
        let options = &self.inner.options;
        let _permit =
            self.inner.in_flight.acquire().await.map_err(|_| ErrorKind::Unreachable {
                reason: "the client is closed".to_owned(),
                sent: false,
            })?;
        let mut request = self
            .inner
            .http
            .request(call.method.clone(), format!("{}{}", self.inner.base, call.path))
            .timeout(call.within.unwrap_or(options.request_timeout))
            .header(ACCEPT, "application/json")
            // A project whose name is a number would otherwise be taken for another one's id.
            .header("X-Is-Resource-Name", "true");
        match &call.who {
            As::Own => request = request.header(AUTHORIZATION, self.inner.login.clone()),
            As::Other(header) => request = request.header(AUTHORIZATION, header.clone()),
            As::Nobody => {}
        }
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let answer = request.send().await.map_err(transport)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        if status.is_success() {
            let body = read_body(answer, options.max_body_bytes).await?;
            if is_page(&headers) {
                return Err(ErrorKind::Malformed(format!(
                    "a page, not Harbor's answer: {}",
                    plain_text(&body)
                )));
            }
            return Ok(Answer { headers, body });
        }
        // What is wrong is known by the status; a body that breaks off takes nothing from that.
        let body = read_error(answer).await;
        Err(refusal(status, &headers, &body, call.method == Method::HEAD))
    }
}

async fn read_body(mut answer: reqwest::Response, limit: usize) -> Result<Bytes, ErrorKind> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(transport)? {
        if body.len() + chunk.len() > limit {
            return Err(ErrorKind::TooLarge(format!("{limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

async fn read_error(mut answer: reqwest::Response) -> Bytes {
    let mut body = BytesMut::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        let room = MAX_ERROR_BYTES - body.len();
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if body.len() >= MAX_ERROR_BYTES {
            break;
        }
    }
    body.freeze()
}

/// What became of a request that got no whole answer.
fn transport(error: reqwest::Error) -> ErrorKind {
    if error.is_builder() {
        return ErrorKind::Input(chain(&error.without_url()));
    }
    let (connect, timeout) = (error.is_connect(), error.is_timeout());
    let text = chain(&error.without_url());
    let reason = if timeout { format!("timed out ({text})") } else { text };
    ErrorKind::Unreachable { reason, sent: !connect }
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a status and a body mean. Only Harbor's own word makes a 404 or a 409 more than a refusal: the page of a proxy that
/// knows no such host must not look like a robot that is gone.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8], bodiless: bool) -> ErrorKind {
    let entry = serde_json::from_slice::<ErrorBody>(body).ok().and_then(|b| b.errors.into_iter().next());
    let own_word = entry.is_some() || bodiless && !is_page(headers);
    let code = entry.as_ref().map(|e| e.code.clone()).filter(|c| !c.is_empty());
    let text = entry.map_or_else(|| plain_text(body), |e| e.message);
    let message = if text.is_empty() {
        status.canonical_reason().unwrap_or("no explanation").to_lowercase()
    } else {
        text.chars().take(MAX_ERROR_CHARACTERS).collect()
    };
    // The router of the API, not the thing that was asked for.
    let no_such_path = message.starts_with("path /") && message.ends_with("was not found");
    match status.as_u16() {
        401 => ErrorKind::Unauthorized(message),
        403 => ErrorKind::Forbidden(message),
        404 if own_word && !no_such_path => ErrorKind::NotFound(message),
        409 if own_word => ErrorKind::Conflict(message),
        412 if own_word => ErrorKind::Precondition(message),
        number @ (408 | 429 | 500..=599) => {
            ErrorKind::Unavailable { status: number, retry_after: retry_after(headers), message }
        }
        number @ 300..=399 => {
            let to = headers.get(LOCATION).and_then(|v| v.to_str().ok()).and_then(origin);
            let message =
                to.map_or(message, |to| format!("it redirects to {to}; give that as Harbor's address"));
            ErrorKind::Refused { status: number, code, message }
        }
        number => ErrorKind::Refused { status: number, code, message },
    }
}

fn origin(location: &str) -> Option<String> {
    let url = url::Url::parse(location).ok()?;
    url.host_str().map(|_| url.origin().ascii_serialization())
}

fn is_page(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"text/html"))
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); a date is not worth a clock that may differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The words of a page, without its tags.
fn plain_text(body: &[u8]) -> String {
    let mut text = String::new();
    let mut inside = false;
    for character in String::from_utf8_lossy(body).chars() {
        match character {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            c if inside || c.is_control() && !c.is_whitespace() => {}
            c => text.push(c),
        }
    }
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MAX_ERROR_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        refusal(status, &HeaderMap::new(), body.as_bytes(), false).to_string()
    }

    #[test]
    fn errors_of_all_kinds_are_read() {
        let own = r#"{"errors":[{"code":"NOT_FOUND","message":"robot 19 not found"}]}"#;
        assert_eq!(told(404, own), "404 not found: robot 19 not found");
        assert_eq!(told(422, own), "refused with 422 NOT_FOUND: robot 19 not found");
        let html = "<html><head><title>502 Bad Gateway</title></head>\r\n<hr><center>nginx</center></html>";
        assert_eq!(told(502, html), "not available, 502: 502 Bad Gateway nginx");
        assert_eq!(told(405, ""), "refused with 405: method not allowed");
    }

    #[test]
    fn a_404_of_somebody_else_is_no_absence() {
        let page = "<html><h1>404 Not Found</h1><hr>nginx</html>";
        assert_eq!(told(404, page), "refused with 404: 404 Not Found nginx");
        let router = r#"{"errors":[{"code":"NOT_FOUND","message":"path /api/v2.0/nothing was not found"}]}"#;
        assert!(told(404, router).starts_with("refused with 404 NOT_FOUND"));
        let gone = refusal(StatusCode::NOT_FOUND, &HeaderMap::new(), b"", true);
        assert!(matches!(gone, ErrorKind::NotFound(_)));
    }

    #[test]
    fn a_redirect_names_where_to() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("https://harbor.example.com/api/v2.0/robots?x=1"));
        let told = refusal(StatusCode::PERMANENT_REDIRECT, &headers, b"", false).to_string();
        assert!(told.contains("redirects to https://harbor.example.com; give"), "{told}");
    }
}
