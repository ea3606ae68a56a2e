//! Requests of a check, and what is expected of their answers.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use oci::{Algorithm, Digest};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, StatusCode};

/// What was expected and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    /// A failure in these words.
    pub fn new(text: impl Into<String>) -> Self {
        Failure(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Failure(text)
    }
}

/// `Err` with this text unless the condition holds.
pub(super) fn ensure(condition: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if condition { Ok(()) } else { Err(Failure(text())) }
}

/// A registry under test.
#[derive(Debug)]
pub struct Session {
    client: Client,
    base: String,
    headers: HeaderMap,
    /// Makes the repositories of this run distinct from those of any other.
    run: u64,
    repositories: AtomicU64,
}

impl Session {
    /// A session with the registry at `base_url`, sending `headers` with each request.
    ///
    /// # Errors
    /// A header that is none, or a client that cannot be built.
    pub fn new(base_url: &str, headers: &[(&str, &str)]) -> Result<Self, Failure> {
        // A second call finds the provider installed, which is as good.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName =
                name.parse().map_err(|_| Failure::new(format!("`{name}` is no header name")))?;
            let value: HeaderValue = value
                .parse()
                .map_err(|_| Failure::new(format!("the value of `{name}` is no header value")))?;
            map.append(name, value);
        }
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(60))
            .tls_danger_accept_invalid_certs(true)
            .build()?;
        Ok(Session {
            client,
            base: base_url.trim_end_matches('/').to_owned(),
            headers: map,
            run: rand::random(),
            repositories: AtomicU64::new(0),
        })
    }

    /// The name of a repository that nobody has used.
    pub(super) fn repository(&self) -> String {
        let number = self.repositories.fetch_add(1, Ordering::Relaxed);
        format!("conformance/run-{:016x}/a_b/c.d/r{number}", self.run)
    }

    pub(super) fn request(&self, method: Method, path: &str) -> Request<'_> {
        // Locations may be absolute.
        let url = if path.starts_with("http://") || path.starts_with("https://") {
            path.to_owned()
        } else {
            format!("{}{path}", self.base)
        };
        let shown = format!("{method} {path}");
        let builder = self.client.request(method, url).headers(self.headers.clone());
        Request { builder, shown, session: std::marker::PhantomData }
    }

    pub(super) fn get(&self, path: &str) -> Request<'_> {
        self.request(Method::GET, path)
    }

    pub(super) fn head(&self, path: &str) -> Request<'_> {
        self.request(Method::HEAD, path)
    }

    pub(super) fn post(&self, path: &str) -> Request<'_> {
        self.request(Method::POST, path)
    }

    pub(super) fn put(&self, path: &str) -> Request<'_> {
        self.request(Method::PUT, path)
    }

    pub(super) fn patch(&self, path: &str) -> Request<'_> {
        self.request(Method::PATCH, path)
    }

    pub(super) fn delete(&self, path: &str) -> Request<'_> {
        self.request(Method::DELETE, path)
    }

    /// Pushes a blob in the plainest way and returns its digest.
    pub(super) async fn push_blob(
        &self,
        repository: &str,
        algorithm: Algorithm,
        content: &[u8],
    ) -> Result<Digest, Failure> {
        let digest = Digest::of(algorithm, content);
        let location = self.begin(repository).await?;
        self.put(&with_query(&location, &format!("digest={digest}")))
            .body(content.to_vec())
            .send()
            .await?
            .status(201)?;
        Ok(digest)
    }

    /// Begins an upload and returns its location.
    pub(super) async fn begin(&self, repository: &str) -> Result<String, Failure> {
        let answer =
            self.post(&format!("/v2/{repository}/blobs/uploads/")).body("").send().await?.status(202)?;
        answer.location()
    }

    /// Puts a manifest under a tag or digest; the answer is checked for what every success has to have.
    pub(super) async fn put_manifest(
        &self,
        repository: &str,
        reference: &str,
        media_type: &str,
        content: &[u8],
    ) -> Result<Answer, Failure> {
        let answer = self
            .put(&format!("/v2/{repository}/manifests/{reference}"))
            .header("content-type", media_type)
            .body(content.to_vec())
            .send()
            .await?
            .status(201)?;
        let location = answer.location()?;
        self.get(&location).send().await?.status(200)?.body(content)?;
        Ok(answer)
    }
}

/// A query parameter more.
pub(super) fn with_query(location: &str, parameter: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}{parameter}")
}

/// A request that is being written.
pub(super) struct Request<'a> {
    builder: reqwest::RequestBuilder,
    shown: String,
    session: std::marker::PhantomData<&'a Session>,
}

impl Request<'_> {
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub(super) fn body(mut self, content: impl Into<Vec<u8>>) -> Self {
        self.builder = self.builder.body(content.into());
        self
    }

    /// A body without a declared length, in these pieces.
    pub(super) fn stream(mut self, pieces: Vec<Bytes>) -> Self {
        let pieces = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        self.builder = self.builder.body(reqwest::Body::wrap_stream(pieces));
        self
    }

    pub(super) async fn send(self) -> Result<Answer, Failure> {
        let shown = self.shown;
        let context = |error: reqwest::Error| Failure(format!("{shown}: {}", Failure::from(error)));
        let response = self.builder.send().await.map_err(context)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(context)?;
        Ok(Answer { shown, status, headers, body })
    }
}

/// An answer, with expectations as methods that chain.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    shown: String,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn status(self, expected: u16) -> Result<Self, Failure> {
        if self.status.as_u16() == expected {
            return Ok(self);
        }
        Err(self.failure(&format!("status {expected}"), &format!("{}: {}", self.status, self.excerpt())))
    }

    /// An error: its status, its code, and the form that every error has.
    pub(super) fn error(self, status: u16, code: &str) -> Result<Self, Failure> {
        let answer = self.status(status)?;
        let json = answer.json()?;
        let first = &json["errors"][0];
        let known = first["code"].as_str().unwrap_or_default();
        if known != code {
            return Err(answer.failure(&format!("error {code}"), &answer.excerpt()));
        }
        if first["message"].as_str().is_none_or(str::is_empty) {
            return Err(answer.failure("a message for people", &answer.excerpt()));
        }
        Ok(answer)
    }

    pub(super) fn header(self, name: &str, expected: &str) -> Result<Self, Failure> {
        match self.value(name) {
            Some(value) if value == expected => Ok(self),
            other => Err(self.failure(&format!("{name}: {expected}"), &format!("{other:?}"))),
        }
    }

    pub(super) fn no_header(self, name: &str) -> Result<Self, Failure> {
        match self.value(name) {
            None => Ok(self),
            Some(value) => Err(self.failure(&format!("no {name}"), &value)),
        }
    }

    pub(super) fn body(self, expected: &[u8]) -> Result<Self, Failure> {
        if self.body == expected {
            return Ok(self);
        }
        Err(self.failure(&format!("a body of {} known bytes", expected.len()), &self.excerpt()))
    }

    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }

    pub(super) fn location(&self) -> Result<String, Failure> {
        match self.value("location") {
            Some(location) if !location.is_empty() => Ok(location),
            _ => Err(self.failure("a Location", "none")),
        }
    }

    /// The target of `Link: <…>; rel="next"`.
    pub(super) fn next(&self) -> Option<String> {
        let link = self.value("link")?;
        let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
        parameters.contains("rel=\"next\"").then(|| target.to_owned())
    }

    pub(super) fn json(&self) -> Result<serde_json::Value, Failure> {
        serde_json::from_slice(&self.body).map_err(|_| self.failure("a JSON body", &self.excerpt()))
    }

    pub(super) fn failure(&self, expected: &str, came: &str) -> Failure {
        Failure(format!("{}: expected {expected}, got {came}", self.shown))
    }

    fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        format!("{} bytes: {}", self.body.len(), text.chars().take(300).collect::<String>())
    }
}
