//! The HTTP client of Ground Control: registration, the heartbeat, fresh credentials, and the built-in authority's
//! attestation and renewal.
//!
//! It speaks to our own Ground Control and to deployed ones, which know the token only in the path and answer a
//! heartbeat with an empty body. Redirects are not followed (a token or a password must not travel on), every body is
//! bounded, and no error shows a secret.

use std::time::Duration;

use fleet_protocol::attestation::{AttestRequest, RenewRequest, RenewalNonce, SvidAnswer};
use fleet_protocol::heartbeat::{Heartbeat, HeartbeatAnswer};
use fleet_protocol::registration::{RegistryCredentials, StateConfig, ZtrRequest};
use otlp::TraceContext;
use registry_client::{Endpoint, Scheme};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use tracing::Instrument as _;
use url::Url;

use crate::config::TlsTrust;

/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 1024 * 1024;
/// How much of an error's text is shown.
const MAX_MESSAGE: usize = 300;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take that nobody waits for a change with.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long after the end of a wait the answer may still come.
const BEYOND_WAIT: Duration = Duration::from_secs(15);
/// A connection on which nothing moves is asked whether it lives after this time, this often, …
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// … and is given up after so many questions without an answer: well before the wait of a heartbeat ends.
const KEEPALIVE_RETRIES: u32 = 3;

/// What went wrong with a request to Ground Control.
#[derive(Debug, thiserror::Error)]
pub enum GroundControlError {
    /// The client cannot be set up with these settings.
    #[error("ground control at {url} cannot be used: {reason}")]
    Configuration {
        /// The base URL.
        url: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// No answer came.
    #[error("ground control at {url} cannot be reached: {reason}")]
    Unreachable {
        /// The base URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// It said no.
    #[error("ground control at {url} answered {status} to {operation}: {message}")]
    Refused {
        /// The base URL.
        url: String,
        /// What was asked.
        operation: &'static str,
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The answer makes no sense.
    #[error("ground control at {url} gave an answer to {operation} that cannot be read: {reason}")]
    Malformed {
        /// The base URL.
        url: String,
        /// What was asked.
        operation: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl GroundControlError {
    /// The HTTP status of a refusal.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// When Ground Control wants to be asked again, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Account<'a> {
    /// Whoever the SVID of the connection says.
    Svid,
    /// The robot account of the satellite.
    Robot(&'a RegistryCredentials),
}

impl Account<'_> {
    fn put_into(self, call: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Svid => call,
            Self::Robot(account) => {
                call.basic_auth(&account.username, Some(account.password.expose_secret()))
            }
        }
    }
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatTaken {
    /// What it says.
    pub answer: HeartbeatAnswer,
    /// This Ground Control knows waiting: it honoured the request's wish (RFC 7240 section 3).
    pub waits: bool,
}

/// A client for one Ground Control.
#[derive(Debug, Clone)]
pub struct GroundControl {
    http: reqwest::Client,
    base: Url,
    shown: String,
}

impl GroundControl {
    /// A client for the Ground Control at `url`; no request is made yet.
    ///
    /// # Errors
    /// [`GroundControlError::Configuration`] for a URL or a CA file that cannot be used, and for plain HTTP beyond
    /// loopback without `USE_UNSECURE`.
    pub fn new(url: &Url, tls: &TlsTrust, allow_plain_http: bool) -> Result<Self, GroundControlError> {
        let options = registry_client::TlsOptions {
            ca_file: tls.ca_file.clone(),
            skip_verify: tls.skip_verify,
            own_origin: None,
        };
        let (base, shown) = address(url, allow_plain_http)?;
        let config = registry_client::tls_config(&options)
            .map_err(|reason| GroundControlError::Configuration { url: shown.clone(), reason })?;
        Self::with(base, shown, config)
    }

    /// A client over TLS that was made elsewhere: with an SVID, or for what leads to one. Plain HTTP is refused, also on
    /// loopback: nobody would be told from anybody.
    ///
    /// # Errors
    /// [`GroundControlError::Configuration`].
    pub fn over(url: &Url, tls: rustls::ClientConfig) -> Result<Self, GroundControlError> {
        let (base, shown) = address(url, false)?;
        if base.scheme() != "https" {
            let reason = "an X.509-SVID is shown over TLS only; use https".to_owned();
            return Err(GroundControlError::Configuration { url: shown, reason });
        }
        Self::with(base, shown, tls)
    }

    fn with(base: Url, shown: String, tls: rustls::ClientConfig) -> Result<Self, GroundControlError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
            .tcp_keepalive_retries(KEEPALIVE_RETRIES)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("harbor-satellite/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| GroundControlError::Configuration { url: shown.clone(), reason: chain(&e) })?;
        Ok(Self { http, base, shown })
    }

    /// Registers with a one-time token and the nonce that binds the answer to this device.
    ///
    /// # Errors
    /// [`GroundControlError`]; status 404 or 405 means that this Ground Control knows only [`Self::register_by_path`].
    pub async fn register(&self, request: &ZtrRequest) -> Result<StateConfig, GroundControlError> {
        let call = self.request(Method::POST, &["satellites", "ztr"])?.json(request);
        let body = self.send(call, "registration").await?;
        self.state_config(&body)
    }

    /// Registers in the field's form, with the token in the path.
    ///
    /// # Errors
    /// [`GroundControlError`].
    pub async fn register_by_path(&self, token: &SecretString) -> Result<StateConfig, GroundControlError> {
        let call = self.request(Method::GET, &["satellites", "ztr", token.expose_secret()])?;
        let body = self.send(call, "registration").await?;
        self.state_config(&body)
    }

    /// Registers with the SVID of this client.
    ///
    /// # Errors
    /// [`GroundControlError`]; 401 for an identity that is unknown, 403 for one that is revoked or waits for approval.
    pub async fn register_by_svid(&self) -> Result<StateConfig, GroundControlError> {
        let call = self.request(Method::GET, &["satellites", "spiffe-ztr"])?;
        let body = self.send(call, "registration").await?;
        self.state_config(&body)
    }

    /// Asks for fresh credentials of the registry. Those that are held stay good until the fresh ones are used.
    ///
    /// # Errors
    /// [`GroundControlError`].
    pub async fn credentials(&self, account: Account<'_>) -> Result<StateConfig, GroundControlError> {
        let call = account.put_into(self.request(Method::POST, &["satellites", "credentials"])?);
        let body = self.send(call, "fresh credentials").await?;
        self.state_config(&body)
    }

    /// Attests to the built-in authority.
    ///
    /// # Errors
    /// [`GroundControlError`]; 400, 401 and 403 for a token that is not taken.
    pub async fn attest(&self, request: &AttestRequest) -> Result<SvidAnswer, GroundControlError> {
        let call = self.request(Method::POST, &["satellites", "attest"])?.json(request);
        self.parsed(call, "attestation").await
    }

    /// A nonce for [`Self::renew`].
    ///
    /// # Errors
    /// [`GroundControlError`].
    pub async fn renewal_nonce(&self) -> Result<RenewalNonce, GroundControlError> {
        self.parsed(self.request(Method::GET, &["satellites", "renew"])?, "renewal").await
    }

    /// Renews an SVID of the built-in authority.
    ///
    /// # Errors
    /// [`GroundControlError`]; 401 beyond the grace or for an identity that is gone, 403 for one that is revoked.
    pub async fn renew(&self, request: &RenewRequest) -> Result<SvidAnswer, GroundControlError> {
        let call = self.request(Method::POST, &["satellites", "renew"])?.json(request);
        self.parsed(call, "renewal").await
    }

    /// Sends a heartbeat; with `wait`, in seconds, its answer may come when there is something new, or after that time
    /// (RFC 7240 section 4.3).
    ///
    /// # Errors
    /// [`GroundControlError`].
    pub async fn heartbeat(
        &self,
        account: Account<'_>,
        heartbeat: &Heartbeat,
        wait: Option<u32>,
    ) -> Result<HeartbeatTaken, GroundControlError> {
        let mut call = account.put_into(self.request(Method::POST, &["satellites", "sync"])?).json(heartbeat);
        if let Some(seconds) = wait {
            let patience = Duration::from_secs(u64::from(seconds)) + BEYOND_WAIT;
            call = call.header("prefer", format!("wait={seconds}")).timeout(patience.max(TIMEOUT));
        }
        let (body, headers) = self.answer(call, "heartbeat").await?;
        let applied = headers.get_all("preference-applied").iter();
        let waits = applied.filter_map(|value| value.to_str().ok()).any(names_wait);
        // An answer that is taken but says nothing readable (a proxy's page, a newer form) is still taken.
        Ok(HeartbeatTaken { answer: HeartbeatAnswer::parse(&body).unwrap_or_default(), waits })
    }

    async fn parsed<T: DeserializeOwned>(
        &self,
        call: RequestBuilder,
        operation: &'static str,
    ) -> Result<T, GroundControlError> {
        let body = self.send(call, operation).await?;
        serde_json::from_slice(&body).map_err(|error| self.malformed(operation, position(&error)))
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, GroundControlError> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| GroundControlError::Configuration {
                url: self.shown.clone(),
                reason: "it is no base URL; write https://host[:port]".to_owned(),
            })?
            .pop_if_empty()
            .extend(path);
        Ok(self.http.request(method, url))
    }

    async fn send(
        &self,
        call: RequestBuilder,
        operation: &'static str,
    ) -> Result<Vec<u8>, GroundControlError> {
        self.answer(call, operation).await.map(|(body, _)| body)
    }

    async fn answer(
        &self,
        call: RequestBuilder,
        operation: &'static str,
    ) -> Result<(Vec<u8>, HeaderMap), GroundControlError> {
        // Both sides' logs name the request alike; its trace is told only where its spans are kept.
        let traced = otlp::is_traced();
        let own = TraceContext::root(traced);
        let span = tracing::info_span!(
            "request",
            otel.kind = "client",
            otel.sampled = traced,
            id = %own.trace,
            trace_id = %own.trace,
            span_id = %own.span,
            operation,
        );
        let call = call.header("x-request-id", own.trace.to_string());
        let call = if traced { call.header("traceparent", own.header()) } else { call };
        self.exchange(call, operation).instrument(span).await
    }

    async fn exchange(
        &self,
        call: RequestBuilder,
        operation: &'static str,
    ) -> Result<(Vec<u8>, HeaderMap), GroundControlError> {
        let unreachable = |error: reqwest::Error| GroundControlError::Unreachable {
            url: self.shown.clone(),
            // The path of the field's form holds the token.
            reason: chain(&error.without_url()),
        };
        let mut answer = call.send().await.map_err(unreachable)?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                if !status.is_success() {
                    break;
                }
                return Err(self.malformed(operation, format!("it is larger than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return Ok((body, std::mem::take(answer.headers_mut())));
        }
        Err(GroundControlError::Refused {
            url: self.shown.clone(),
            operation,
            status: status.as_u16(),
            message: message(status, &body),
            retry_after: retry_after(&answer),
        })
    }

    fn state_config(&self, body: &[u8]) -> Result<StateConfig, GroundControlError> {
        let operation = "registration";
        let config: StateConfig =
            serde_json::from_slice(body).map_err(|error| self.malformed(operation, position(&error)))?;
        if config.state.trim().is_empty() {
            return Err(self.malformed(operation, "it names no state document".to_owned()));
        }
        Ok(config)
    }

    fn malformed(&self, operation: &'static str, reason: String) -> GroundControlError {
        GroundControlError::Malformed { url: self.shown.clone(), operation, reason }
    }
}

/// The base of the requests, and the address as people see it.
fn address(url: &Url, allow_plain_http: bool) -> Result<(Url, String), GroundControlError> {
    let mut base = url.clone();
    base.set_query(None);
    base.set_fragment(None);
    let mut shown = base.clone();
    let hidden = shown.set_username("").and_then(|()| shown.set_password(None));
    let shown = if hidden.is_ok() { shown.to_string() } else { "(no host)".to_owned() };
    let fail = |reason: String| GroundControlError::Configuration { url: shown.clone(), reason };
    let host = base.host_str().ok_or_else(|| fail("it names no host".to_owned()))?;
    let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
    let endpoint: Endpoint = format!("{}://{host}{port}", base.scheme())
        .parse()
        .map_err(|e: registry_client::EndpointError| fail(e.reason))?;
    if endpoint.scheme() == Scheme::Http && !endpoint.is_loopback() && !allow_plain_http {
        return Err(fail(
            "plain HTTP beyond loopback is refused; use https, or set USE_UNSECURE=true to allow it".into(),
        ));
    }
    Ok((base, shown))
}

/// What is wrong with an answer. The decoder's own message would repeat it, secret included; the position is enough to
/// find the fault.
fn position(error: &serde_json::Error) -> String {
    let what = if error.is_data() { "a field is missing or has another type" } else { "it is no JSON" };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// Whether a `Preference-Applied` names the preference `wait`.
fn names_wait(applied: &str) -> bool {
    applied.split(',').any(|token| {
        token.split(['=', ';']).next().is_some_and(|name| name.trim().eq_ignore_ascii_case("wait"))
    })
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// What an error's body says: its `message` where it is JSON, else the beginning of its text.
fn message(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Error {
        #[serde(alias = "error")]
        message: String,
    }
    let text = match serde_json::from_slice::<Error>(body) {
        Ok(error) => error.message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect();
    if text.is_empty() { status.canonical_reason().unwrap_or("no reason given").to_owned() } else { text }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::names_wait;

    #[test]
    fn an_applied_preference_is_known_by_its_name() {
        for (applied, waits) in [
            ("wait=30", true),
            ("respond-async, Wait = 5", true),
            ("wait", true),
            ("respond-async", false),
            ("waiting=1", false),
            ("return=minimal; wait=3", false),
            ("", false),
        ] {
            assert_eq!(names_wait(applied), waits, "{applied}");
        }
    }
}
