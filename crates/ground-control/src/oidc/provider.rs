//! Requests to the provider: what it is (OpenID Connect Discovery), its keys, tokens for a code, and user information.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::Jwk;
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::cache::Cached;
use super::claims::Claims;
use crate::central::PasswordFile;
use crate::config::is_secure;

/// The most that is read of an answer.
const LARGEST: usize = 512 * 1024;
/// Keys that are kept of the provider's.
const MOST_KEYS: usize = 64;
const CONNECT: Duration = Duration::from_secs(5);
/// How long one request may take; a person waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
const METADATA_LIFE: Duration = Duration::from_secs(3600);
const KEYS_LIFE: Duration = Duration::from_secs(600);

/// Why the provider was of no use.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProviderError {
    /// No answer.
    #[error("{url} does not answer: {reason}")]
    Away {
        /// What was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// An answer that cannot be used.
    #[error("{url} answers what is of no use: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// Why.
        reason: String,
    },
    /// It does not give tokens for the code.
    #[error("the identity provider gives no tokens: {error}")]
    Refused {
        /// Its error code (RFC 6749 section 5.2).
        error: String,
    },
    /// Our secret there cannot be read.
    #[error("{0}")]
    Secret(String),
}

/// What the provider says of itself; the rest is not looked at.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    pub(super) authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    pub(super) userinfo_endpoint: Option<Url>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// What a code is exchanged for.
#[derive(Debug, Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: String,
    pub(super) access_token: Option<SecretString>,
}

#[derive(Deserialize)]
struct TokenError {
    error: String,
}

/// The provider.
#[derive(Debug)]
pub(super) struct Provider {
    http: reqwest::Client,
    issuer: String,
    client_id: String,
    secret: PasswordFile,
    metadata: Cached<Metadata>,
    keys: Cached<Vec<Jwk>>,
}

impl Provider {
    pub(super) fn new(
        issuer: &str,
        client_id: &str,
        secret: PasswordFile,
        ca_file: Option<&Path>,
    ) -> Result<Self, String> {
        let tls = registry_client::tls_config(&registry_client::TlsOptions {
            ca_file: ca_file.map(Path::to_path_buf),
            ..registry_client::TlsOptions::default()
        })?;
        let mut builder = reqwest::Client::builder();
        if issuer.starts_with("http:") {
            // Loopback: a proxy of the environment leads elsewhere.
            builder = builder.no_proxy();
        }
        let http = builder
            .tls_backend_preconfigured(tls)
            .http1_only()
            // A redirect would carry the code or the secret elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            .timeout(PATIENCE)
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(2)
            .user_agent(concat!("ground-control/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| innermost(&error))?;
        Ok(Self {
            http,
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            secret,
            metadata: Cached::new(METADATA_LIFE),
            keys: Cached::new(KEYS_LIFE),
        })
    }

    /// What the provider says of itself.
    pub(super) async fn metadata(&self) -> Result<Arc<Metadata>, ProviderError> {
        self.metadata.get(self.discover()).await
    }

    async fn discover(&self) -> Result<Metadata, ProviderError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let metadata: Metadata = self.json(&url, self.http.get(&url)).await?;
        let fail = |reason: String| ProviderError::Answer { url: url.clone(), reason };
        if metadata.issuer != self.issuer {
            let named: String = metadata.issuer.chars().take(200).collect();
            return Err(fail(format!("it names itself {named:?}, and OIDC_ISSUER must be exactly that")));
        }
        let endpoints = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        for endpoint in endpoints.into_iter().chain(&metadata.userinfo_endpoint) {
            if !is_secure(endpoint) {
                return Err(fail(format!("its endpoint {endpoint} is not https")));
            }
        }
        Ok(metadata)
    }

    /// The keys that it signs with.
    pub(super) async fn keys(&self, metadata: &Metadata) -> Result<Arc<Vec<Jwk>>, ProviderError> {
        self.keys.get(self.fetch_keys(metadata)).await
    }

    /// The keys, once more, since none of `seen` will do.
    pub(super) async fn fresh_keys(
        &self,
        metadata: &Metadata,
        seen: &Arc<Vec<Jwk>>,
    ) -> Result<Arc<Vec<Jwk>>, ProviderError> {
        self.keys.newer_than(seen, self.fetch_keys(metadata)).await
    }

    async fn fetch_keys(&self, metadata: &Metadata) -> Result<Vec<Jwk>, ProviderError> {
        let url = metadata.jwks_uri.as_str();
        let set: KeySet = self.json(url, self.http.get(url)).await?;
        // A key of a kind that is not known here is no reason to do without the others (RFC 7517 section 5).
        Ok(set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).take(MOST_KEYS).collect())
    }

    /// Exchanges a code for tokens (OpenID Connect Core section 3.1.3).
    pub(super) async fn exchange(
        &self,
        metadata: &Metadata,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<Tokens, ProviderError> {
        let secret = self.secret.recent().await.map_err(|error| ProviderError::Secret(error.to_string()))?;
        let url = metadata.token_endpoint.as_str();
        let mut request = self.http.post(url).header("accept", "application/json");
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        // Basic where nothing is said (OpenID Connect Discovery section 3).
        let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
        if methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic")) {
            // RFC 6749 section 2.3.1: both are form-encoded first.
            let encode =
                |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
            request = request.basic_auth(encode(&self.client_id), Some(encode(secret.expose_secret())));
        } else {
            form.extend([("client_id", self.client_id.as_str()), ("client_secret", secret.expose_secret())]);
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let (status, bytes) = self.send(url, request).await?;
        if status == StatusCode::OK {
            // What serde says of it could quote a token.
            return serde_json::from_slice(&bytes).map_err(|_| ProviderError::Answer {
                url: url.to_owned(),
                reason: "there is no ID token in it".to_owned(),
            });
        }
        match serde_json::from_slice::<TokenError>(&bytes) {
            Ok(refusal) => Err(ProviderError::Refused { error: plain(&refusal.error) }),
            Err(_) => Err(ProviderError::Answer { url: url.to_owned(), reason: format!("HTTP {status}") }),
        }
    }

    /// What the provider says of whom the access token is (OpenID Connect Core section 5.3).
    pub(super) async fn userinfo(&self, url: &Url, token: &SecretString) -> Result<Claims, ProviderError> {
        self.json(url.as_str(), self.http.get(url.as_str()).bearer_auth(token.expose_secret())).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        url: &str,
        request: RequestBuilder,
    ) -> Result<T, ProviderError> {
        let fail = |reason: String| ProviderError::Answer { url: url.to_owned(), reason };
        let (status, bytes) = self.send(url, request.header("accept", "application/json")).await?;
        if status != StatusCode::OK {
            return Err(fail(format!("HTTP {status}")));
        }
        serde_json::from_slice(&bytes).map_err(|error| fail(error.to_string()))
    }

    async fn send(&self, url: &str, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), ProviderError> {
        let away =
            |error: reqwest::Error| ProviderError::Away { url: url.to_owned(), reason: innermost(&error) };
        let mut response = request.send().await.map_err(away)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(away)? {
            if bytes.len() + chunk.len() > LARGEST {
                let reason = format!("more than {LARGEST} bytes");
                return Err(ProviderError::Answer { url: url.to_owned(), reason });
            }
            bytes.extend_from_slice(&chunk);
        }
        if response.status().is_server_error() {
            let reason = format!("HTTP {}", response.status());
            return Err(ProviderError::Away { url: url.to_owned(), reason });
        }
        Ok((response.status(), bytes))
    }
}

/// An error code as it may be shown (RFC 6749 section 5.2 allows printable ASCII).
pub(super) fn plain(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// The innermost words: the outer ones of the HTTP library say only that it failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut reason = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}
