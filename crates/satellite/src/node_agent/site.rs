//! The asking side of a site's plan: over TLS, with the site's token, whose file is read for each request.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, StatusCode};
use reqwest::RequestBuilder;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use crate::site::token;
use crate::site::wire::{LARGEST_PLAN, NODES_PATH, NodeReport, PLAN_PATH, SitePlan};

/// How long the site may hold an answer back while nothing changes.
const WAIT: Duration = Duration::from_secs(55);
/// The longest that an answer may take beyond that.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// A CA file larger than this is none.
const LARGEST_FILE: u64 = 1024 * 1024;
/// How much of a refusal is told.
const LONGEST_REFUSAL: usize = 300;

/// Where the site is, and how one gets in.
#[derive(Debug, Clone)]
pub struct Way {
    /// The satellite's address on the LAN.
    pub url: Url,
    /// The site's token.
    pub token_file: PathBuf,
    /// Who signs the satellite's certificate; the public authorities where none is named.
    pub ca: Option<PathBuf>,
}

/// Why the site was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The token's file.
    #[error("--site-token-file: {0}")]
    Token(String),
    /// The CA file.
    #[error("--site-ca: {path}: {why}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers.
    #[error("the satellite at {url} does not answer: {why}")]
    Unreachable {
        /// The address.
        url: Url,
        /// What came instead.
        why: String,
    },
    /// It says no.
    #[error("the satellite at {url} refused: {status} {message}")]
    Refused {
        /// The address.
        url: Url,
        /// HTTP status.
        status: StatusCode,
        /// What it says.
        message: String,
    },
    /// The answer makes no sense.
    #[error("the satellite at {url} gave an answer that cannot be read: {why}")]
    Malformed {
        /// The address.
        url: Url,
        /// What is wrong.
        why: String,
    },
}

/// A client of one site.
#[derive(Debug, Clone)]
pub struct Site {
    way: Way,
    http: reqwest::Client,
}

impl Site {
    /// Reads the CA file; nothing is asked yet.
    ///
    /// # Errors
    /// [`SiteError::Ca`].
    pub fn new(way: Way) -> Result<Self, SiteError> {
        let broken = |why: String| SiteError::Ca { path: way.ca.clone().unwrap_or_default(), why };
        let tls = match &way.ca {
            Some(path) => trusting(path).map_err(broken)?,
            None => registry_client::tls_config(&registry_client::TlsOptions::default()).map_err(broken)?,
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(TIMEOUT)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_max_idle_per_host(2)
            .user_agent(concat!("harbor-satellite-node-agent/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| broken(innermost(&error)))?;
        Ok(Self { way, http })
    }

    /// The plan, once it is another than that of `etag`; `None` where it is the same for a minute.
    ///
    /// # Errors
    /// [`SiteError`].
    pub async fn plan(
        &self,
        etag: Option<&HeaderValue>,
    ) -> Result<Option<(SitePlan, HeaderValue)>, SiteError> {
        let mut call = self.http.get(self.at(PLAN_PATH));
        if let Some(etag) = etag {
            call = call
                .header(IF_NONE_MATCH, etag)
                .header("prefer", format!("wait={}", WAIT.as_secs()))
                .timeout(WAIT + TIMEOUT);
        }
        let (status, headers, body) = self.exchange(call).await?;
        if status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        let plan = serde_json::from_slice(&body).map_err(|error| self.malformed(error.to_string()))?;
        let etag = headers.get(ETAG).cloned().unwrap_or(HeaderValue::from_static("*"));
        Ok(Some((plan, etag)))
    }

    /// Tells how this node stands.
    ///
    /// # Errors
    /// [`SiteError`].
    pub async fn report(&self, node: &str, report: &NodeReport) -> Result<(), SiteError> {
        let body = serde_json::to_vec(report).map_err(|error| self.malformed(error.to_string()))?;
        let call = self.http.put(self.at(&format!("{NODES_PATH}{node}")));
        self.exchange(call.header("content-type", "application/json").body(body)).await.map(drop)
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.way.url.clone();
        url.set_path(path);
        url
    }

    fn malformed(&self, why: String) -> SiteError {
        SiteError::Malformed { url: self.way.url.clone(), why }
    }

    async fn exchange(
        &self,
        call: RequestBuilder,
    ) -> Result<(StatusCode, http::HeaderMap, Vec<u8>), SiteError> {
        let path = self.way.token_file.clone();
        let token = tokio::task::spawn_blocking(move || token::read(&path))
            .await
            .map_err(|error| SiteError::Token(error.to_string()))?
            .map_err(|error| SiteError::Token(error.to_string()))?;
        let unreachable = |error: reqwest::Error| SiteError::Unreachable {
            url: self.way.url.clone(),
            why: innermost(&error.without_url()),
        };
        let mut answer = call.header(AUTHORIZATION, bearer(&token)).send().await.map_err(unreachable)?;
        let status = answer.status();
        let headers = std::mem::take(answer.headers_mut());
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > LARGEST_PLAN {
                return Err(self.malformed(format!("it is larger than {LARGEST_PLAN} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok((status, headers, body));
        }
        let message: String = String::from_utf8_lossy(&body)
            .chars()
            .filter(|char| !char.is_control())
            .take(LONGEST_REFUSAL)
            .collect();
        Err(SiteError::Refused { url: self.way.url.clone(), status, message })
    }
}

fn bearer(token: &SecretString) -> HeaderValue {
    // A token holds no other characters than a header may.
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .unwrap_or(HeaderValue::from_static("Bearer"));
    value.set_sensitive(true);
    value
}

/// TLS that trusts these authorities and no others.
fn trusting(path: &Path) -> Result<rustls::ClientConfig, String> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE).read_to_end(&mut text))
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| format!("it is no PEM: {error}"))?;
        roots.add(certificate).map_err(|error| format!("it holds no certificate: {error}"))?;
    }
    if roots.is_empty() {
        return Err("it holds no certificate in PEM".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
