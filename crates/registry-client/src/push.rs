//! Writing: blobs in one streamed request, mounts, manifests.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use oci::{Digest, Reference, RepositoryName};
use url::Url;

use crate::auth::Scope;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::send::{Call, transport};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// What came of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounted {
    /// The blob is in the repository now.
    Yes,
    /// The registry cannot or will not mount it: it has to be pushed.
    No,
}

/// A manifest that the registry took.
#[derive(Clone, Copy, Debug)]
pub struct Pushed {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Whether the registry keeps the list of referrers itself (`OCI-Subject`); where it does not, whoever
    /// pushed a manifest with a subject keeps the tag of [`fallback_tag`](crate::fallback_tag).
    pub subject_recorded: bool,
}

impl Client {
    /// Asks the registry to take the blob over from another of its repositories, or, with none named, from
    /// wherever it has it (OCI Distribution 1.1, "Mounting a blob from another repository").
    pub async fn mount_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Mounted, Error> {
        let operation = format!("mount blob {repository}@{digest}");
        let mut url = self.repository_url(repository, "blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &digest.to_string());
        let scope = match from {
            Some(from) => {
                url.query_pairs_mut().append_pair("from", from.as_str());
                Scope::Mount(repository.clone(), from.clone())
            }
            None => Scope::Push(repository.clone()),
        };
        let call = Call::new(Method::POST, url.clone(), scope, &operation)
            .header(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let answer = match self.call(&call).await {
            Ok(answer) => answer,
            // A caller who may not read the other repository is no failure: the bytes go the long way.
            Err(e) if e.is_not_found() || e.is_forbidden() || e.is_unauthorized() => return Ok(Mounted::No),
            Err(e) => return Err(e),
        };
        if answer.status() == StatusCode::CREATED {
            return Ok(Mounted::Yes);
        }
        // Anything else opened an upload that nobody will use.
        if let Ok(location) = self.location(&url, answer.headers(), &operation) {
            let cancel = Call::new(Method::DELETE, location, Scope::Push(repository.clone()), &operation);
            if let Err(error) = self.call(&cancel).await {
                tracing::debug!(%error, "an unused upload was not cancelled");
            }
        }
        Ok(Mounted::No)
    }

    /// Pushes a blob of `size` bytes in one request, streamed. Not tried again: the stream is spent, so the
    /// caller decides with [`Error::is_retryable`] and comes with a new one.
    ///
    /// # Errors
    /// [`ErrorKind::Body`] where the stream failed; the registry then drops what it got.
    pub async fn push_blob<S, E>(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
        content: S,
    ) -> Result<(), Error>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let operation = format!("push blob {repository}@{digest}");
        let scope = Scope::Push(repository.clone());
        let url = self.repository_url(repository, "blobs/uploads/");
        let open = Call::new(Method::POST, url.clone(), scope.clone(), &operation)
            .header(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let opened = self.call(&open).await?;
        let mut location = self.location(&url, opened.headers(), &operation)?;
        location.query_pairs_mut().append_pair("digest", &digest.to_string());

        let watch = Arc::new(Watch::default());
        let body = reqwest::Body::wrap_stream(Watched {
            inner: Box::pin(content),
            left: size,
            watch: watch.clone(),
        });
        let mut request = self
            .http_for(&location)
            .put(location.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(body);
        if let Some(value) = self.upload_authorization(&scope, &location, &operation).await? {
            request = request.header(AUTHORIZATION, value);
        }
        self.count_request();
        let outcome = tokio::select! {
            answer = request.send() => answer.map_err(transport),
            stalled = watch.stalled(self.inner.options.stall_timeout, self.inner.options.upload_answer_timeout) => {
                Err(ErrorKind::Stalled(stalled))
            }
        };
        match outcome {
            Ok(answer) => self.accept(answer, &operation).await.map(drop),
            Err(kind) => {
                let own = watch.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(self.error(&operation, own.map_or(kind, ErrorKind::Body)))
            }
        }
    }

    async fn upload_authorization(
        &self,
        scope: &Scope,
        location: &Url,
        operation: &str,
    ) -> Result<Option<HeaderValue>, Error> {
        if location.origin() != self.inner.endpoint.url().origin() {
            return Ok(None);
        }
        self.authorization(scope, None, None, operation).await
    }

    /// Pushes a manifest's bytes as they are, by tag or by digest.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Pushed, Error> {
        let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
        let operation = format!("push manifest {repository}{separator}{reference}");
        let digest = match reference {
            Reference::Digest(expected) => {
                let actual = Digest::of(expected.algorithm(), &bytes);
                if actual != *expected {
                    let text = format!("the bytes to push are {actual}");
                    return Err(self.error(&operation, ErrorKind::Body(text)));
                }
                actual
            }
            Reference::Tag(_) => Digest::sha256(&bytes),
        };
        let content_type = HeaderValue::from_str(media_type).map_err(|_| {
            self.error(&operation, ErrorKind::Body(format!("{media_type:?} is no media type")))
        })?;
        let url = self.repository_url(repository, &format!("manifests/{reference}"));
        let mut call = Call::new(Method::PUT, url, Scope::Push(repository.clone()), &operation)
            .header(CONTENT_TYPE, content_type);
        call.body = Some(bytes);
        let answer = self.call(&call).await?;
        Ok(Pushed { digest, subject_recorded: answer.headers().contains_key(SUBJECT) })
    }
}

/// What is seen of an upload from outside of the connection.
struct Watch {
    started: Instant,
    /// Milliseconds from `started` to the last movement.
    moved: AtomicU64,
    sent: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            moved: AtomicU64::new(0),
            sent: AtomicBool::new(false),
            failure: Mutex::new(None),
        }
    }
}

impl Watch {
    fn touch(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(elapsed, Ordering::Relaxed);
    }

    /// Comes back when nothing moved for too long: while sending, and, longer, while waiting for the answer.
    async fn stalled(&self, sending: Duration, answering: Duration) -> Duration {
        loop {
            let limit = if self.sent.load(Ordering::Relaxed) { answering } else { sending };
            let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
            let quiet = self.started.elapsed().saturating_sub(moved);
            if quiet >= limit {
                return limit;
            }
            tokio::time::sleep((limit - quiet).min(sending)).await;
        }
    }
}

struct Watched<S> {
    inner: Pin<Box<S>>,
    /// Bytes still to come: with the last of them the connection stops asking.
    left: u64,
    watch: Arc<Watch>,
}

impl<S, E> Stream for Watched<S>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: std::fmt::Display,
{
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.inner.as_mut().poll_next(context);
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(bytes))) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                self.watch.touch();
                if self.left == 0 {
                    self.watch.sent.store(true, Ordering::Relaxed);
                }
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Err(error))) => {
                let text = error.to_string();
                *self.watch.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.clone());
                Poll::Ready(Some(Err(std::io::Error::other(text))))
            }
            Poll::Ready(None) => {
                self.watch.touch();
                self.watch.sent.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
        }
    }
}
