//! One request from its first byte to a good answer or a typed error: credentials, redirects, retries.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Response;
use serde::Deserialize;
use url::Url;

use crate::auth::{MAX_TOKEN_BYTES, Mode, Scope, Token, mode_of, read_token, token_url};
use crate::challenge::challenges;
use crate::client::Client;
use crate::endpoint::is_loopback;
use crate::error::{Error, ErrorKind, chain};
use crate::retry::retry_after;

/// A registry's blobs are one hop away, a content network's two.
const MAX_REDIRECTS: usize = 5;
/// An error page is read so far; what it says is in its beginning.
const MAX_ERROR_BYTES: u64 = 64 * 1024;
/// So much of an error text is shown to people.
const MAX_ERROR_CHARACTERS: usize = 300;

/// A request that can be sent again.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    pub(crate) scope: Scope,
    pub(crate) operation: &'a str,
    pub(crate) answer_within: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(method: Method, url: Url, scope: Scope, operation: &'a str) -> Self {
        Self { method, url, headers: HeaderMap::new(), body: None, scope, operation, answer_within: None }
    }

    pub(crate) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl Client {
    /// Sends it, again where that may help, and gives back an answer of 2xx or a typed error.
    pub(crate) async fn call(&self, call: &Call<'_>) -> Result<Response, Error> {
        let mut failures = 0;
        loop {
            let error = match self.call_once(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            let delay = self.inner.options.retry.delay(failures, error.retry_after());
            match delay {
                Some(delay) if error.is_retryable() => {
                    tracing::debug!(%error, failures, delay_ms = delay.as_millis(), "request failed, trying again");
                    tokio::time::sleep(delay).await;
                }
                _ => return Err(error),
            }
        }
    }

    async fn call_once(&self, call: &Call<'_>) -> Result<Response, Error> {
        // A header given with the call is the caller's way of saying who asks.
        if call.headers.contains_key(AUTHORIZATION) {
            let answer = self.follow(call, None).await?;
            return self.accept(answer, call.operation).await;
        }
        let mut asked_scope = None;
        let mut sent = self.authorization(&call.scope, None, None, call.operation).await?;
        // Three rounds: nothing or an old token, then what the challenge asks for, then once more where the
        // challenge changed its mind (a damaged token is answered with `Basic` by some).
        for round in 0..3 {
            let answer = self.follow(call, sent.as_ref()).await?;
            if answer.status() != StatusCode::UNAUTHORIZED {
                return self.accept(answer, call.operation).await;
            }
            let offered = mode_of(&challenges(answer.headers()));
            let refused = self.accept(answer, call.operation).await;
            let sent_basic = sent.as_ref().is_some_and(|h| h.as_bytes().starts_with(b"Basic "));
            match offered {
                Some((mode @ Mode::Bearer { .. }, scope)) if round == 0 || round == 1 && sent_basic => {
                    self.inner.auth.set_mode(mode);
                    asked_scope = scope;
                }
                Some((Mode::Basic, _)) if round == 0 && !sent_basic => {
                    // With a token service known, a `Basic` challenge means a bad token, not another scheme.
                    if !matches!(self.inner.auth.mode(), Mode::Bearer { .. }) {
                        self.inner.auth.set_mode(Mode::Basic);
                    }
                }
                _ => return refused,
            }
            let fresh = self
                .authorization(&call.scope, asked_scope.as_deref(), sent.as_ref(), call.operation)
                .await?;
            if fresh.is_none() || fresh == sent {
                return refused;
            }
            sent = fresh;
        }
        Err(self.error(
            call.operation,
            ErrorKind::Unauthorized("the registry keeps asking for credentials".to_owned()),
        ))
    }

    /// What goes into `Authorization`, by what the registry asked for last. A token equal to `rejected` is
    /// replaced by a fresh one.
    pub(crate) async fn authorization(
        &self,
        scope: &Scope,
        asked_scope: Option<&str>,
        rejected: Option<&HeaderValue>,
        operation: &str,
    ) -> Result<Option<HeaderValue>, Error> {
        let auth = &self.inner.auth;
        let (realm, service) = match auth.mode() {
            Mode::Unknown => return Ok(None),
            Mode::Basic => return Ok(auth.credentials().basic_header()),
            Mode::Bearer { realm, service } => (realm, service),
        };
        let slot = auth.slot(scope);
        let mut token = slot.lock().await;
        if let Some(held) = token.as_ref()
            && held.expires > Instant::now()
            && Some(&held.header) != rejected
        {
            return Ok(Some(held.header.clone()));
        }
        *token = None;
        let mut scopes = scope.parameters();
        if let Some(asked) = asked_scope {
            // A registry may want more than one would think; both are asked for.
            for one in asked.split(' ').filter(|s| !s.is_empty()) {
                if !scopes.iter().any(|known| known == one) {
                    scopes.push(one.to_owned());
                }
            }
        }
        let fresh = self.fetch_token(&realm, service.as_deref(), &scopes, operation).await?;
        let header = fresh.header.clone();
        *token = Some(fresh);
        Ok(Some(header))
    }

    async fn fetch_token(
        &self,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        operation: &str,
    ) -> Result<Token, Error> {
        let plain = self.inner.options.allow_plain_http;
        let url = token_url(self.inner.endpoint.url(), plain, realm, service, scopes).map_err(|reason| {
            self.error(operation, ErrorKind::Realm { realm: crate::endpoint::redacted(realm), reason })
        })?;
        let operation = &format!("{operation}, token of {}", url.host_str().unwrap_or_default());
        let mut headers = HeaderMap::new();
        if let Some(basic) = self.inner.auth.credentials().basic_header() {
            headers.insert(AUTHORIZATION, basic);
        }
        let within = self.inner.options.stall_timeout;
        let answer = self.send(Method::GET, url, headers, None, within, operation).await?;
        if answer.status().is_redirection() {
            let text = format!("it redirects ({})", answer.status().as_u16());
            return Err(self.error(operation, ErrorKind::Token(text)));
        }
        let answer = self.accept(answer, operation).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound(text) => self.error(operation, ErrorKind::Token(format!("404: {text}"))),
            _ => error,
        })?;
        let body = self.read_bounded(answer, MAX_TOKEN_BYTES, operation).await?;
        read_token(&body, Instant::now()).map_err(|reason| self.error(operation, ErrorKind::Token(reason)))
    }

    /// Sends the call to its URL and to where that redirects to. `Authorization` goes to the registry's own
    /// origin only.
    async fn follow(&self, call: &Call<'_>, authorization: Option<&HeaderValue>) -> Result<Response, Error> {
        let origin = self.inner.endpoint.url().origin();
        let mut url = call.url.clone();
        let within = call.answer_within.unwrap_or(self.inner.options.stall_timeout);
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = call.headers.clone();
            if url.origin() == origin {
                if let Some(value) = authorization {
                    headers.insert(AUTHORIZATION, value.clone());
                }
            } else {
                headers.remove(AUTHORIZATION);
            }
            let answer = self
                .send(call.method.clone(), url.clone(), headers, call.body.clone(), within, call.operation)
                .await?;
            // A redirect that would change the method is no business of an API; only reads are followed.
            let followed = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308)
                && matches!(call.method, Method::GET | Method::HEAD);
            if !followed {
                return Ok(answer);
            }
            url = self.location(&url, answer.headers(), call.operation)?;
        }
        Err(self.error(call.operation, ErrorKind::Malformed(format!("more than {MAX_REDIRECTS} redirects"))))
    }

    /// The `Location` of an answer, resolved and held to the rules on plain HTTP.
    pub(crate) fn location(&self, base: &Url, headers: &HeaderMap, operation: &str) -> Result<Url, Error> {
        let bad = |text: String| self.error(operation, ErrorKind::Malformed(text));
        let value = headers.get(LOCATION).ok_or_else(|| bad("it has no Location".to_owned()))?;
        let text = value.to_str().map_err(|_| bad("its Location is no text".to_owned()))?;
        let url = base.join(text).map_err(|e| bad(format!("its Location is no URL ({e})")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(bad(format!("its Location has the scheme {}", url.scheme())));
        }
        let allowed = self.inner.options.allow_plain_http;
        let local = is_loopback(&url) && is_loopback(self.inner.endpoint.url());
        if url.scheme() == "http" && !local && !allowed {
            let host = url.host_str().unwrap_or_default().to_owned();
            return Err(self.error(operation, ErrorKind::PlainHttp(host)));
        }
        Ok(url)
    }

    /// One request on the wire.
    async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Bytes>,
        within: Duration,
        operation: &str,
    ) -> Result<Response, Error> {
        let mut request = self.http_for(&url).request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        self.count_request();
        match tokio::time::timeout(within, request.send()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.error(operation, transport(error))),
            Err(_) => Err(self.error(operation, ErrorKind::Stalled(within))),
        }
    }

    /// An answer of 2xx, or the error that its status and body stand for.
    pub(crate) async fn accept(&self, answer: Response, operation: &str) -> Result<Response, Error> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let wait = retry_after(answer.headers());
        let json = answer
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.contains("json"));
        let body = match self.read_at_most(answer, MAX_ERROR_BYTES).await {
            Ok(body) => body,
            Err(error) => {
                tracing::debug!(%error, "the body of an error answer was lost");
                Bytes::new()
            }
        };
        Err(self.error(operation, refusal(status, wait, &body, json)))
    }

    /// The whole body, which must not be larger than `limit` bytes nor shorter than announced.
    pub(crate) async fn read_bounded(
        &self,
        answer: Response,
        limit: u64,
        operation: &str,
    ) -> Result<Bytes, Error> {
        if answer.content_length().is_some_and(|length| length > limit) {
            return Err(self.error(operation, ErrorKind::TooLarge { limit }));
        }
        let body = self.read_at_most(answer, limit + 1).await.map_err(|kind| self.error(operation, kind))?;
        if body.len() as u64 > limit {
            return Err(self.error(operation, ErrorKind::TooLarge { limit }));
        }
        Ok(body)
    }

    /// The body up to `limit` bytes; what follows is not read.
    async fn read_at_most(&self, mut answer: Response, limit: u64) -> Result<Bytes, ErrorKind> {
        let stall = self.inner.options.stall_timeout;
        let mut body = BytesMut::new();
        loop {
            let chunk = match tokio::time::timeout(stall, answer.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(body.freeze()),
                Ok(Err(error)) => return Err(transport(error)),
                Err(_) => return Err(ErrorKind::Stalled(stall)),
            };
            let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(body.len());
            body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
            if chunk.len() >= room {
                return Ok(body.freeze());
            }
        }
    }
}

/// What became of a request that got no (whole) answer. URLs are left out: redirects carry signatures in them.
pub(crate) fn transport(error: reqwest::Error) -> ErrorKind {
    let connect = error.is_connect();
    let builder = error.is_builder();
    let timeout = error.is_timeout();
    let error = error.without_url();
    let text = chain(&error);
    if builder {
        ErrorKind::Configuration(text)
    } else if connect {
        ErrorKind::Connect(if timeout { format!("timed out ({text})") } else { text })
    } else {
        ErrorKind::Interrupted(text)
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// What a status and a body mean. A body that is no JSON (the page of a proxy in front) is shown shortened.
fn refusal(status: StatusCode, wait: Option<Duration>, body: &[u8], json: bool) -> ErrorKind {
    let parsed = serde_json::from_slice::<ErrorBody>(body).ok();
    let (code, message) = match parsed {
        Some(ErrorBody { errors, message }) => match errors.into_iter().next() {
            Some(entry) => {
                let text = match (&entry.code, entry.message) {
                    (Some(code), Some(text)) => format!("{code}: {text}"),
                    (Some(code), None) => code.clone(),
                    (None, text) => text.unwrap_or_default(),
                };
                (entry.code, text)
            }
            None => (None, message.unwrap_or_default()),
        },
        // The answer to a HEAD has no body, whatever its headers say.
        None if json && !body.is_empty() => (None, "the answer is broken JSON".to_owned()),
        None => (None, plain_text(body)),
    };
    let message = if message.is_empty() {
        status.canonical_reason().unwrap_or("no explanation").to_lowercase()
    } else {
        message.chars().take(MAX_ERROR_CHARACTERS).collect()
    };
    let number = status.as_u16();
    match number {
        401 => ErrorKind::Unauthorized(message),
        403 => ErrorKind::Forbidden(message),
        404 => ErrorKind::NotFound(message),
        429 => ErrorKind::RateLimited { retry_after: wait, message },
        408 | 500..=599 => ErrorKind::Unavailable { status: number, retry_after: wait, message },
        _ => ErrorKind::Refused { status: number, code, message },
    }
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
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_all_kinds_are_read() {
        let json = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#;
        assert_eq!(
            refusal(StatusCode::NOT_FOUND, None, json, true).to_string(),
            "404 not found: MANIFEST_UNKNOWN: manifest unknown"
        );
        let html = b"<html><head><title>502 Bad Gateway</title></head><body>\r\n<hr>nginx</body></html>";
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, None, html, false).to_string(),
            "the registry is not available, 502: 502 Bad Gateway nginx"
        );
        for json in [false, true] {
            assert_eq!(
                refusal(StatusCode::UNAUTHORIZED, None, b"", json).to_string(),
                "401 unauthorized: unauthorized"
            );
        }
        let code = refusal(StatusCode::BAD_REQUEST, None, br#"{"errors":[{"code":"X"}]}"#, true);
        assert!(matches!(code, ErrorKind::Refused { code: Some(ref c), .. } if c == "X"));
    }
}
