//! Who may do what: the policy that a program passes in.
//!
//! The router asks twice. First [`AccessPolicy::authenticate`] turns the request's head into a [`Caller`] (or
//! refuses it), then [`Caller::decide`] is asked for each thing the request wants. Both questions are answered from
//! memory on the hot path: an anonymous policy costs one reference count.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::request::Parts;
use oci::RepositoryName;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// `GET /v2/`: is a registry here, and are my credentials good? Asked without a repository.
    Probe,
    /// Read manifests, blobs, tags or referrers of a repository.
    Pull,
    /// Upload blobs, put manifests, move tags in a repository.
    Push,
    /// Delete tags, manifests or blobs of a repository.
    Delete,
    /// List repositories. Asked without a repository; the list holds only what the caller may pull.
    Catalog,
}

/// A policy's answer to one [`Demand`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// 401 `UNAUTHORIZED` with the policy's challenge: other credentials could help.
    Challenge,
    /// 403 `DENIED`: known, and not entitled.
    Deny,
    /// 405 `UNSUPPORTED`: nobody writes here.
    ReadOnly,
    /// 404 `NAME_UNKNOWN`: the caller is not even told that the repository exists.
    NotFound,
}

/// One thing that a request wants, as it is put to [`AccessPolicy::challenge`].
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// What is to be done.
    pub action: Action,
    /// Where; `None` for [`Action::Probe`] and [`Action::Catalog`].
    pub repository: Option<&'a RepositoryName>,
}

/// Why a request's credentials were not accepted at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong, expired or malformed credentials: 401 with the policy's challenge.
    Unauthenticated,
    /// Known and shut out, such as a revoked robot: 403 `DENIED` with this text for the person.
    Denied(String),
    /// Too many failed attempts: 429 with `Retry-After`.
    TooManyRequests(Duration),
    /// It cannot be told at present who this is, because something behind the policy is down: 503. Never answer
    /// 401 for that; clients throw good credentials away.
    Unavailable(String),
}

/// The future of an authentication that has to wait for something.
pub type AuthenticationFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Arc<dyn Caller>, Refusal>> + Send + 'a>>;

/// The outcome of [`AccessPolicy::authenticate`]: known at once, or after some work.
///
/// Two cases instead of an `async fn`, because most requests of a busy registry are answered without waiting and an
/// allocated future for each of them would be the largest single cost of a manifest read.
pub enum Authentication<'a> {
    /// Known already.
    Ready(Result<Arc<dyn Caller>, Refusal>),
    /// Known after a wait.
    Pending(AuthenticationFuture<'a>),
}

impl<'a> Authentication<'a> {
    /// Wraps work that has to be awaited.
    pub fn later<F>(work: F) -> Self
    where
        F: Future<Output = Result<Arc<dyn Caller>, Refusal>> + Send + 'a,
    {
        Authentication::Pending(Box::pin(work))
    }
}

impl fmt::Debug for Authentication<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Authentication::Ready(Ok(caller)) => write!(f, "Ready({})", caller.name()),
            Authentication::Ready(Err(refusal)) => write!(f, "Refused({refusal:?})"),
            Authentication::Pending(_) => f.write_str("Pending"),
        }
    }
}

/// Decides who a request comes from, and how to ask for better credentials.
///
/// One policy belongs to one listener: a program with two public addresses makes two routers, so that a challenge
/// names the token service of the listener that was asked and never something taken from a `Host` header.
pub trait AccessPolicy: Send + Sync + 'static {
    /// Who is this? `head` holds the headers and, in its extensions, what [`crate::listen`] put there:
    /// `axum::extract::ConnectInfo<SocketAddr>` and, after a TLS handshake with a client certificate,
    /// [`crate::listen::PeerCertificates`].
    fn authenticate<'a>(&'a self, head: &'a Parts) -> Authentication<'a>;

    /// The value of `WWW-Authenticate` for a 401 (RFC 9110 section 11.6.1): `Basic realm="…"` or
    /// `Bearer realm="…",service="…",scope="repository:x/y:pull"`. `demands` is everything the request needs, so
    /// that one token suffices for it (a mount needs two repositories).
    fn challenge(&self, demands: &[Demand<'_>]) -> HeaderValue;
}

/// Somebody who makes requests, with what is known about them frozen for the length of one request.
pub trait Caller: Send + Sync + 'static {
    /// Whether this caller may do this. Cheap and without I/O: it is asked for every repository of a catalog page.
    fn decide(&self, action: Action, repository: Option<&RepositoryName>) -> Decision;

    /// The name for logs and audit; never a secret.
    fn name(&self) -> &str;
}

/// Everybody reads everything, nobody writes: a satellite's registry on loopback.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnonymousRead;

/// Everybody does everything. For tests and throw-away registries only.
#[derive(Debug, Clone, Copy, Default)]
pub struct FullAccess;

impl AccessPolicy for AnonymousRead {
    fn authenticate<'a>(&'a self, _head: &'a Parts) -> Authentication<'a> {
        // A zero-sized type behind an `Arc` still allocates; one shared instance does not.
        static CALLER: std::sync::LazyLock<Arc<dyn Caller>> =
            std::sync::LazyLock::new(|| Arc::new(AnonymousRead));
        Authentication::Ready(Ok(Arc::clone(&CALLER)))
    }

    fn challenge(&self, _demands: &[Demand<'_>]) -> HeaderValue {
        HeaderValue::from_static("Basic realm=\"registry\"")
    }
}

impl Caller for AnonymousRead {
    fn decide(&self, action: Action, _repository: Option<&RepositoryName>) -> Decision {
        match action {
            Action::Probe | Action::Pull | Action::Catalog => Decision::Allow,
            Action::Push | Action::Delete => Decision::ReadOnly,
        }
    }

    fn name(&self) -> &str {
        "anonymous"
    }
}

impl AccessPolicy for FullAccess {
    fn authenticate<'a>(&'a self, _head: &'a Parts) -> Authentication<'a> {
        static CALLER: std::sync::LazyLock<Arc<dyn Caller>> =
            std::sync::LazyLock::new(|| Arc::new(FullAccess));
        Authentication::Ready(Ok(Arc::clone(&CALLER)))
    }

    fn challenge(&self, _demands: &[Demand<'_>]) -> HeaderValue {
        HeaderValue::from_static("Basic realm=\"registry\"")
    }
}

impl Caller for FullAccess {
    fn decide(&self, _action: Action, _repository: Option<&RepositoryName>) -> Decision {
        Decision::Allow
    }

    fn name(&self) -> &str {
        "anyone"
    }
}
