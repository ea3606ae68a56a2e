//! The client itself: what it is made of and how it is set up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Method;
use oci::RepositoryName;
use url::Url;

use crate::auth::{AuthState, Credentials, Scope};
use crate::endpoint::{Endpoint, Scheme};
use crate::error::{Error, ErrorKind};
use crate::retry::RetryPolicy;
use crate::send::Call;
use crate::tls::{TlsOptions, client_config, own_origin};

/// How a client behaves. The defaults suit a registry across the internet.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Who asks.
    pub credentials: Credentials,
    /// How certificates are checked.
    pub tls: TlsOptions,
    /// Speak plain HTTP beyond loopback, too (`USE_UNSECURE`). Turns no certificate check off.
    pub allow_plain_http: bool,
    /// When and how often failed requests are sent again.
    pub retry: RetryPolicy,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long an answer may take to begin, and a body to move at all. There is no limit on the whole.
    pub stall_timeout: Duration,
    /// How long the registry may take to answer once an upload has been sent: it hashes and syncs it then.
    pub upload_answer_timeout: Duration,
    /// Manifests larger than this many bytes are refused.
    pub max_manifest_bytes: u64,
    /// `User-Agent`.
    pub user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credentials: Credentials::Anonymous,
            tls: TlsOptions::default(),
            allow_plain_http: false,
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            upload_answer_timeout: Duration::from_secs(600),
            max_manifest_bytes: 4 * 1024 * 1024,
            user_agent: concat!("harbor-satellite/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Speaks to one registry. Clones share the connections, the credentials and the tokens.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    requests: Arc<AtomicU64>,
}

pub(crate) struct Inner {
    http: reqwest::Client,
    /// For everything that is not at the registry's own origin, where TLS differs there.
    elsewhere: Option<reqwest::Client>,
    pub(crate) endpoint: Endpoint,
    pub(crate) name: String,
    pub(crate) options: ClientOptions,
    pub(crate) auth: AuthState,
}

impl Client {
    /// A client for the registry at `endpoint`. No request is made yet.
    ///
    /// # Errors
    /// [`ErrorKind::PlainHttp`] for `http://` beyond loopback without permission;
    /// [`ErrorKind::Configuration`] for a CA file that cannot be used.
    pub fn new(endpoint: Endpoint, options: ClientOptions) -> Result<Self, Error> {
        let name = endpoint.to_string();
        let fail = |kind| Error::new("set up the registry client", &name, kind);
        if endpoint.scheme() == Scheme::Http && !endpoint.is_loopback() && !options.allow_plain_http {
            return Err(fail(ErrorKind::PlainHttp(name.clone())));
        }
        let tls = client_config(&options.tls).map_err(|e| fail(ErrorKind::Configuration(e)))?;
        let build = |tls| {
            http_client(&endpoint, &options, tls)
                .map_err(|e| fail(ErrorKind::Configuration(crate::error::chain(&e))))
        };
        let (http, elsewhere) = match own_origin(&options.tls) {
            Some(own) => (build(own)?, Some(build(tls)?)),
            None => (build(tls)?, None),
        };
        let auth = AuthState::new(options.credentials.clone());
        let inner = Arc::new(Inner { http, elsewhere, endpoint, name, options, auth });
        Ok(Self { inner, requests: Arc::default() })
    }

    /// Which registry this is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.inner.endpoint
    }

    /// From now on this is who asks; tokens of before are forgotten. Holds for all clones.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.inner.auth.set_credentials(credentials);
    }

    /// A clone with a request counter of its own, to tell what one piece of work cost.
    pub fn counted(&self) -> Self {
        Self { inner: self.inner.clone(), requests: Arc::default() }
    }

    /// How many requests this client (and its clones that share the counter) sent: tokens, redirects and
    /// retries are counted, too.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn error(&self, operation: &str, kind: ErrorKind) -> Error {
        Error::new(operation, &self.inner.name, kind)
    }

    /// `GET /v2/`: whether the registry is there and lets us in.
    pub async fn ping(&self) -> Result<(), Error> {
        let call = Call::new(Method::GET, self.url("v2/"), Scope::None, "ping");
        let answer = self.call(&call).await?;
        self.read_bounded(answer, 64 * 1024, "ping").await.map(drop)
    }

    /// Whether the registry takes the present credentials, asked with `Basic` on `GET /v2/`: some token
    /// services answer with a token whatever the password is. `false` means that it answered 401; that is
    /// no proof, since a registry whose database is down says the same. Without credentials it is `true`.
    pub async fn check_credentials(&self) -> Result<bool, Error> {
        let Some(header) = self.inner.auth.credentials().basic_header() else { return Ok(true) };
        let operation = "check the credentials";
        let mut call = Call::new(Method::GET, self.url("v2/"), Scope::None, operation);
        call.headers.insert(http::header::AUTHORIZATION, header);
        match self.call(&call).await {
            Ok(answer) => self.read_bounded(answer, 64 * 1024, operation).await.map(|_| true),
            Err(e) if e.is_unauthorized() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The client for requests to `url`.
    pub(crate) fn http_for(&self, url: &Url) -> &reqwest::Client {
        match &self.inner.elsewhere {
            Some(elsewhere) if url.origin() != self.inner.endpoint.url().origin() => elsewhere,
            _ => &self.inner.http,
        }
    }

    /// A URL below the registry's root.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.inner.endpoint.url().clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        url.set_path(path);
        url.set_query(query);
        url
    }

    /// `v2/<repository>/<rest>`.
    pub(crate) fn repository_url(&self, repository: &RepositoryName, rest: &str) -> Url {
        self.url(&format!("v2/{repository}/{rest}"))
    }
}

fn http_client(
    endpoint: &Endpoint,
    options: &ClientOptions,
    tls: rustls::ClientConfig,
) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder();
    if endpoint.is_loopback() {
        // A proxy of the environment leads elsewhere.
        builder = builder.no_proxy();
    }
    builder
        .tls_backend_preconfigured(tls)
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(8)
        .user_agent(options.user_agent.clone())
        .build()
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("registry", &self.inner.name).finish_non_exhaustive()
    }
}
