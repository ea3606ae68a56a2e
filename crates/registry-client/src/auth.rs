//! The credentials of a registry and the tokens that they buy.
//!
//! A registry says with its challenge what it wants; what it wanted last is remembered, so that a further
//! repository costs one token and no refused request. Tokens are kept per scope until shortly before they
//! expire; many requests that need the same token wait for one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use oci::RepositoryName;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use crate::challenge::Challenge;
use crate::endpoint::is_loopback;

/// A token answer is small; whatever is larger is none.
pub(crate) const MAX_TOKEN_BYTES: u64 = 256 * 1024;
/// The specification's default where `expires_in` is absent.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token is not used in its last moments: the request has to arrive, too.
const EXPIRY_MARGIN: Duration = Duration::from_secs(15);
/// Scopes kept at most; the field's registries hand out tokens of a few kilobytes.
const MAX_SCOPES: usize = 256;

/// What a registry is told about who asks.
///
/// A password is sent to the registry's own origin, when it challenges with `Basic`, and to the realm of a
/// `Bearer` challenge under these rules: the realm is an absolute `http` or `https` URL without credentials
/// of its own; over `https` it may be on any host, since registries keep their token service elsewhere and
/// the challenge came over the registry's own connection; over plain `http` it must be on the host of a
/// registry that is spoken to in plain HTTP itself, or on loopback, unless plain HTTP was allowed. It never
/// follows a redirect.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody in particular; a token is asked for without credentials.
    #[default]
    Anonymous,
    /// A user name and a password or robot secret.
    Basic {
        /// User name, for example `robot$edge-01`.
        username: String,
        /// Password or robot secret.
        password: SecretString,
    },
}

impl Credentials {
    /// A user name and a password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Basic { username: username.into(), password: SecretString::from(password.into()) }
    }

    pub(crate) fn basic_header(&self) -> Option<HeaderValue> {
        let Self::Basic { username, password } = self else { return None };
        let pair = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
        sensitive(&format!("Basic {pair}"))
    }
}

pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What a request wants to do, as the token service names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Nothing in particular: `GET /v2/`.
    None,
    Pull(RepositoryName),
    Push(RepositoryName),
    Delete(RepositoryName),
    /// Push into the first, pull from the second.
    Mount(RepositoryName, RepositoryName),
}

impl Scope {
    /// One `scope` parameter for each element.
    pub(crate) fn parameters(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Pull(name) => vec![format!("repository:{name}:pull")],
            Self::Push(name) => vec![format!("repository:{name}:pull,push")],
            Self::Delete(name) => vec![format!("repository:{name}:delete,pull")],
            Self::Mount(to, from) => {
                vec![format!("repository:{to}:pull,push"), format!("repository:{from}:pull")]
            }
        }
    }
}

/// A token and when it stops being used.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) expires: Instant,
}

/// The place of one scope's token. Whoever holds the lock fetches; the others wait and find it.
pub(crate) type TokenSlot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// What the registry asked for last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Unknown,
    Basic,
    Bearer { realm: String, service: Option<String> },
}

/// The changing part of a client.
pub(crate) struct AuthState {
    credentials: RwLock<Credentials>,
    shared: Mutex<Shared>,
}

struct Shared {
    mode: Mode,
    tokens: HashMap<Scope, TokenSlot>,
}

impl AuthState {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials: RwLock::new(credentials),
            shared: Mutex::new(Shared { mode: Mode::Unknown, tokens: HashMap::new() }),
        }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the credentials; tokens bought with the old ones are forgotten.
    pub(crate) fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials;
        self.shared().tokens.clear();
    }

    pub(crate) fn mode(&self) -> Mode {
        self.shared().mode.clone()
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.shared().mode = mode;
    }

    pub(crate) fn slot(&self, scope: &Scope) -> TokenSlot {
        let mut shared = self.shared();
        if shared.tokens.len() >= MAX_SCOPES && !shared.tokens.contains_key(scope) {
            let now = Instant::now();
            shared.tokens.retain(|_, slot| match slot.try_lock() {
                Ok(token) => token.as_ref().is_some_and(|t| t.expires > now),
                Err(_) => true,
            });
            if shared.tokens.len() >= MAX_SCOPES {
                shared.tokens.clear();
            }
        }
        shared.tokens.entry(scope.clone()).or_default().clone()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks the realm of a challenge by the rules of [`Credentials`] and adds what is asked of it.
pub(crate) fn token_url(
    registry: &Url,
    allow_plain_http: bool,
    realm: &str,
    service: Option<&str>,
    scopes: &[String],
) -> Result<Url, String> {
    let mut url = Url::parse(realm).map_err(|e| format!("it is no absolute URL ({e})"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds credentials".to_owned());
    }
    match url.scheme() {
        "https" => {}
        "http" => {
            let same_host = registry.scheme() == "http" && url.host() == registry.host();
            if !(same_host || is_loopback(&url) && is_loopback(registry) || allow_plain_http) {
                return Err("it is plain HTTP on another host than the registry's".to_owned());
            }
        }
        other => return Err(format!("its scheme is {other}")),
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    Ok(url)
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

/// Reads the token service's answer; `token` wins over `access_token`, which may be there and empty.
pub(crate) fn read_token(body: &[u8], now: Instant) -> Result<Token, String> {
    let answer: TokenAnswer =
        serde_json::from_slice(body).map_err(|e| format!("its answer is no token JSON ({e})"))?;
    let text = [answer.token, answer.access_token]
        .into_iter()
        .flatten()
        .find(|t| !t.is_empty())
        .ok_or("its answer holds neither token nor access_token")?;
    let header =
        sensitive(&format!("Bearer {text}")).ok_or("its token holds characters that no header can carry")?;
    let lifetime = match answer.expires_in {
        Some(seconds) if seconds > 0.0 && seconds.is_finite() => {
            Duration::from_secs_f64(seconds.min(86_400.0))
        }
        _ => DEFAULT_LIFETIME,
    };
    // Of a short life at least half is used, else each request would buy a token.
    let usable = lifetime.saturating_sub(EXPIRY_MARGIN).max(lifetime / 2);
    Ok(Token { header, expires: now + usable })
}

/// The mode that a list of challenges puts us into; a token is preferred, since it is what the registry
/// means where it offers both.
pub(crate) fn mode_of(challenges: &[Challenge]) -> Option<(Mode, Option<String>)> {
    let bearer = challenges.iter().find_map(|challenge| match challenge {
        Challenge::Bearer { realm, service, scope } => {
            Some((Mode::Bearer { realm: realm.clone(), service: service.clone() }, scope.clone()))
        }
        Challenge::Basic => None,
    });
    bearer.or_else(|| challenges.contains(&Challenge::Basic).then_some((Mode::Basic, None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn realm_rules() {
        let check =
            |registry: &str, realm: &str, plain| token_url(&url(registry), plain, realm, None, &[]).is_ok();
        assert!(check("https://r.example.com/", "https://auth.example.org/token", false));
        assert!(!check("https://r.example.com/", "http://r.example.com/token", false));
        assert!(check("https://r.example.com/", "http://r.example.com/token", true));
        assert!(check("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", false));
        assert!(check("http://127.0.0.1:5000/", "http://localhost:5001/token", false));
        assert!(!check("http://127.0.0.1:5000/", "http://10.0.0.1/token", false));
        assert!(check("http://10.0.0.1:5000/", "http://10.0.0.1/token", true));
        assert!(!check("https://r.example.com/", "http://evil.example.net/token", false));
        for realm in ["ftp://x/", "/service/token", "", "https://u:p@x/", "file:///etc/passwd"] {
            assert!(!check("https://r.example.com/", realm, true), "{realm}");
        }
    }

    #[test]
    fn token_request_keeps_the_realms_own_query() {
        let scopes = ["repository:a:pull".to_owned(), "repository:b:pull".to_owned()];
        let made = token_url(&url("https://r/"), false, "https://t/x?a=1", Some("harbor-registry"), &scopes)
            .unwrap();
        assert_eq!(
            made.as_str(),
            "https://t/x?a=1&service=harbor-registry&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull"
        );
        assert_eq!(
            token_url(&url("https://r/"), false, "https://t/x", None, &[]).unwrap().as_str(),
            "https://t/x"
        );
    }

    #[test]
    fn reads_tokens() {
        let now = Instant::now();
        let token = read_token(br#"{"token":"abc","access_token":"","expires_in":1800}"#, now).unwrap();
        assert_eq!(token.header, "Bearer abc");
        assert!(token.header.is_sensitive());
        assert_eq!(token.expires - now, Duration::from_secs(1785));
        let token = read_token(br#"{"access_token":"x"}"#, now).unwrap();
        assert_eq!(token.expires - now, Duration::from_secs(45));
        let token = read_token(br#"{"token":"x","expires_in":10}"#, now).unwrap();
        assert_eq!(token.expires - now, Duration::from_secs(5));
        for bad in [&b"{}"[..], b"<html>", br#"{"token":""}"#, br#"{"token":"a\nb"}"#] {
            assert!(read_token(bad, now).is_err());
        }
    }
}
