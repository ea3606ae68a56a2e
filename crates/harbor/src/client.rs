//! The client itself: what it is made of and how it is set up.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use registry_client::{Endpoint, RetryPolicy, Scheme, TlsOptions, tls_config};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use crate::error::{Error, ErrorKind, chain};

/// Everything but the unreserved characters of RFC 3986 section 2.3.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Who asks: a user, or a robot by its full name (`robot$gc`).
#[derive(Clone)]
pub struct Login {
    /// The user's or robot's name.
    pub username: String,
    /// Its password or secret.
    pub password: SecretString,
}

impl Login {
    /// `Basic …` (RFC 7617), marked so that it is printed nowhere.
    pub(crate) fn header(&self) -> Result<HeaderValue, ErrorKind> {
        if self.username.contains(':') {
            return Err(ErrorKind::Input("a user name cannot hold a colon".to_owned()));
        }
        let pair = format!("{}:{}", self.username, self.password.expose_secret());
        let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
            .map_err(|_| ErrorKind::Input("the credentials do not fit into a header".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// How certificates are checked; the CA file stands here.
    pub tls: TlsOptions,
    /// Speak plain HTTP beyond loopback, too.
    pub allow_plain_http: bool,
    /// How often, and after which delays, a request that is safe to repeat is sent again.
    pub retry: RetryPolicy,
    /// The same for the deletion of a webhook policy that Harbor answers with 412, which it does while deliveries are not over.
    pub precondition_retry: RetryPolicy,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long one request may take, its body included. A failed login alone costs Harbor 1.5 s.
    pub request_timeout: Duration,
    /// The same for the health check, which took 15 s with Harbor's Redis down.
    pub health_timeout: Duration,
    /// How many requests are under way at most; further ones wait.
    pub max_in_flight: usize,
    /// Answers larger than this many bytes are refused. A page has up to 100 entries.
    pub max_body_bytes: usize,
    /// Lists with more entries are refused.
    pub max_list_entries: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            tls: TlsOptions::default(),
            allow_plain_http: false,
            retry: RetryPolicy::default(),
            precondition_retry: RetryPolicy {
                attempts: 6,
                base: Duration::from_millis(500),
                max: Duration::from_secs(5),
                max_retry_after: Duration::from_secs(30),
            },
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            health_timeout: Duration::from_secs(20),
            max_in_flight: 8,
            max_body_bytes: 16 * 1024 * 1024,
            max_list_entries: 200_000,
        }
    }
}

/// Speaks to one Harbor. Clones share connections and limits.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) http: reqwest::Client,
    /// The address without a slash at its end.
    pub(crate) base: String,
    pub(crate) login: HeaderValue,
    pub(crate) options: ClientOptions,
    pub(crate) in_flight: Semaphore,
}

impl Client {
    /// A client for the Harbor at `endpoint`. No request is made yet.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`] for `http://` beyond loopback without permission and for a CA file that
    /// cannot be used; [`ErrorKind::Input`] for a user name that Basic authentication cannot carry.
    pub fn new(endpoint: &Endpoint, login: &Login, options: ClientOptions) -> Result<Self, Error> {
        let base = endpoint.to_string();
        let fail = |kind| Error::new("set up the Harbor client", &base, kind);
        if endpoint.scheme() == Scheme::Http && !endpoint.is_loopback() && !options.allow_plain_http {
            let text = format!("plain HTTP to {base} is refused beyond loopback; use https");
            return Err(fail(ErrorKind::Configuration(text)));
        }
        let tls = tls_config(&options.tls).map_err(|e| fail(ErrorKind::Configuration(e)))?;
        let mut builder = reqwest::Client::builder();
        if endpoint.is_loopback() {
            // A proxy of the environment leads elsewhere.
            builder = builder.no_proxy();
        }
        let http = builder
            .tls_backend_preconfigured(tls)
            .http1_only()
            // A redirect of a change would become a GET, or carry a password elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(options.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(options.max_in_flight)
            .user_agent(concat!("harbor-satellite/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| fail(ErrorKind::Configuration(chain(&e))))?;
        let login = login.header().map_err(fail)?;
        let in_flight = Semaphore::new(options.max_in_flight.max(1));
        Ok(Self { inner: Arc::new(Inner { http, base, login, options, in_flight }) })
    }

    /// Which Harbor this is: `https://host[:port]`.
    pub fn address(&self) -> &str {
        &self.inner.base
    }

    pub(crate) fn error(&self, operation: &str, kind: ErrorKind) -> Error {
        Error::new(operation, &self.inner.base, kind)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("harbor", &self.inner.base).finish_non_exhaustive()
    }
}

/// A name as one segment of a path, or as a value of a query.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// A repository's name below its project as one segment: Harbor wants it encoded twice, since the proxy before it decodes once.
pub(crate) fn twice(name: &str) -> String {
    segment(&segment(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_encoded_twice() {
        assert_eq!(twice("edge/app"), "edge%252Fapp");
        assert_eq!(twice("app-1.2_x"), "app-1.2_x");
        assert_eq!(segment("robot$edge 01"), "robot%24edge%2001");
    }

    #[test]
    fn no_secret_is_printed() {
        let login = Login { username: "robot$gc".into(), password: "topsecret".into() };
        let header = login.header().unwrap();
        assert!(header.is_sensitive());
        assert!(!format!("{login:?} {header:?}").contains("topsecret"));
        assert_eq!(header.to_str().unwrap(), "Basic cm9ib3QkZ2M6dG9wc2VjcmV0");
        assert!(Login { username: "a:b".into(), password: "x".into() }.header().is_err());
    }
}
