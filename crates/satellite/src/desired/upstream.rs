//! The registries that desired state and artifacts come from, and who we are there.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use ::identity::Current;
use fleet_protocol::registration::StateConfig;
use registry_client::{Client, ClientOptions, Credentials, Endpoint, EndpointError, Scheme, TlsOptions};
use url::Url;

use crate::config::Effective;
use crate::identity::{EdgeIdentity, NoIdentity, same_address};

/// Registries that clients are kept for; a document that names more gets new ones again and again.
const MAX_CLIENTS: usize = 16;

/// Why a registry cannot be spoken to.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Its address makes no sense.
    #[error(transparent)]
    Address(#[from] EndpointError),
    /// The client cannot be set up.
    #[error(transparent)]
    Client(#[from] registry_client::Error),
    /// It is at the address of Ground Control, to which the satellite shows its SVID, and there is none.
    #[error("the registry at ground control cannot be asked: {0}")]
    Identity(#[from] NoIdentity),
}

/// Clients for the registries that the documents name. The credentials of registration go to the registries that
/// registration itself named, and to no other, whatever a document says. The SVID is shown to a registry at the address of
/// Ground Control, which is then checked by SPIFFE ID; every other one is checked as the settings say.
#[derive(Debug)]
pub struct Upstream {
    replacement: Option<Endpoint>,
    default: String,
    scheme: Scheme,
    ours: BTreeSet<String>,
    options: ClientOptions,
    clients: Mutex<HashMap<Endpoint, Client>>,
    identity: EdgeIdentity,
    ground_control: Option<Url>,
    /// The client at the address of Ground Control, and the SVID that its connections were opened with.
    home: Mutex<Option<(Arc<Current>, Client)>>,
}

impl Upstream {
    /// With the credentials of registration and the settings in force.
    ///
    /// # Errors
    /// [`UpstreamError::Address`] where registration or the settings name an unusable registry.
    pub fn new(
        state_config: &StateConfig,
        config: &Effective,
        identity: &EdgeIdentity,
    ) -> Result<Self, UpstreamError> {
        let replacement = config.harbor_registry_url.as_ref().map(endpoint_of_url).transpose()?;
        let auth_url = state_config.auth.url.trim().trim_end_matches('/');
        let state = state_config.state.trim();
        let scheme_of = |text: &str| text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let scheme = match scheme_of(auth_url).or_else(|| scheme_of(state)).as_deref() {
            Some("http") => Scheme::Http,
            _ => Scheme::Https,
        };
        let mut upstream = Self {
            replacement,
            default: String::new(),
            scheme,
            ours: BTreeSet::new(),
            options: client_options(config),
            clients: Mutex::new(HashMap::new()),
            identity: identity.clone(),
            ground_control: config.ground_control_url.clone().filter(|_| identity.is_used()),
            home: Mutex::new(None),
        };
        let state_host = upstream.endpoint(host_part(state))?;
        let home = if auth_url.is_empty() { state_host.clone() } else { upstream.endpoint(auth_url)? };
        upstream.ours = BTreeSet::from([home.host(), state_host.host()]);
        upstream.default = home.to_string();
        upstream.options.credentials = match state_config.auth.username.as_str() {
            "" => Credentials::Anonymous,
            username => Credentials::Basic {
                username: username.to_owned(),
                password: state_config.auth.password.clone(),
            },
        };
        Ok(upstream)
    }

    /// The registry that registration named; documents without a scheme get its.
    #[must_use]
    pub fn default_registry(&self) -> &str {
        &self.default
    }

    /// The user name of the account that registration gave; `None` where everybody may read.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match &self.options.credentials {
            Credentials::Basic { username, .. } => Some(username),
            Credentials::Anonymous => None,
        }
    }

    /// Whether the registry that registration named takes that account. `false` is no proof that it is void.
    ///
    /// # Errors
    /// [`UpstreamError`] where the registry could not be asked.
    pub async fn check_credentials(&self) -> Result<bool, UpstreamError> {
        let client = self.client(&self.endpoint(&self.default)?)?;
        Ok(client.check_credentials().await?)
    }

    /// The registry that a document means by `registry`, with or without a scheme; whatever follows the host is left
    /// out. Where the site set a replacement, it is always that one.
    ///
    /// # Errors
    /// [`EndpointError`].
    pub fn endpoint(&self, registry: &str) -> Result<Endpoint, UpstreamError> {
        if let Some(replacement) = &self.replacement {
            return Ok(replacement.clone());
        }
        let registry = registry.trim();
        let host = host_part(registry);
        let endpoint = if host.contains("://") { host.parse()? } else { Endpoint::new(self.scheme, host)? };
        Ok(endpoint)
    }

    /// The client for a registry.
    ///
    /// # Errors
    /// [`UpstreamError::Client`], for example for plain HTTP that is not allowed.
    pub fn client(&self, endpoint: &Endpoint) -> Result<Client, UpstreamError> {
        if self.is_home(endpoint) {
            return self.home_client(endpoint);
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(endpoint) {
            return Ok(client.clone());
        }
        let client = Client::new(endpoint.clone(), self.options_for(endpoint))?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(endpoint.clone(), client.clone());
        Ok(client)
    }
}

impl Upstream {
    fn options_for(&self, endpoint: &Endpoint) -> ClientOptions {
        let mut options = self.options.clone();
        if !self.ours.contains(&endpoint.host()) {
            options.credentials = Credentials::Anonymous;
        }
        options
    }

    /// Whether scheme, host and port are those of Ground Control, which is shown an SVID.
    fn is_home(&self, endpoint: &Endpoint) -> bool {
        self.ground_control.as_ref().is_some_and(|url| same_address(url, endpoint.url()))
    }

    /// Made anew with each SVID. Transfers under way keep the client that they began with: its new connections show the
    /// present SVID, too.
    fn home_client(&self, endpoint: &Endpoint) -> Result<Client, UpstreamError> {
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(current) = self.identity.current() else {
            // Open connections were made under an identity that is no more.
            *home = None;
            return Err(NoIdentity::Absent.into());
        };
        if let Some((opened_with, client)) = home.as_ref()
            && Arc::ptr_eq(&current, opened_with)
        {
            return Ok(client.clone());
        }
        let mut options = self.options_for(endpoint);
        options.tls.own_origin = Some(self.identity.client_config()?);
        let client = Client::new(endpoint.clone(), options)?;
        *home = Some((current, client.clone()));
        Ok(client)
    }
}

/// `[scheme://]host[:port]` of a URL or an image reference.
fn host_part(text: &str) -> &str {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text.get(start..).and_then(|rest| rest.find('/')).map_or(text.len(), |at| start + at);
    text.get(..end).unwrap_or(text)
}

fn endpoint_of_url(url: &Url) -> Result<Endpoint, EndpointError> {
    host_part(url.as_str()).parse()
}

/// The settings that every client of a registry has; anonymous.
pub(crate) fn client_options(config: &Effective) -> ClientOptions {
    ClientOptions {
        tls: TlsOptions {
            ca_file: config.tls.ca_file.clone(),
            skip_verify: config.tls.skip_verify,
            own_origin: None,
        },
        allow_plain_http: config.use_unsecure,
        ..ClientOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use fleet_protocol::registration::RegistryCredentials;
    use secrecy::SecretString;

    use super::*;
    use crate::config::{Layer, testing};

    fn upstream(auth: &str, state: &str, replacement: Option<&str>) -> Upstream {
        let auth = RegistryCredentials {
            url: auth.to_owned(),
            username: "robot$edge-01".to_owned(),
            password: SecretString::from("secret"),
        };
        let layer =
            Layer { harbor_registry_url: replacement.map(|url| url.parse().unwrap()), ..Layer::default() };
        let site = testing::site_with(std::path::Path::new("/nonexistent"), layer);
        let config = Effective::of(&site, &Layer::default());
        Upstream::new(&StateConfig { auth, state: state.to_owned() }, &config, &EdgeIdentity::none()).unwrap()
    }

    #[test]
    fn an_address_without_a_scheme_has_that_of_registration() {
        let upstream = upstream("http://127.0.0.1:5000", "127.0.0.1:5000/satellite/x/state:latest", None);
        assert_eq!(
            upstream.endpoint("127.0.0.1:5000/a/b:latest").unwrap().to_string(),
            "http://127.0.0.1:5000"
        );
        assert_eq!(upstream.endpoint("https://h.example.com/").unwrap().to_string(), "https://h.example.com");
        assert_eq!(upstream.default_registry(), "http://127.0.0.1:5000");
    }

    #[test]
    fn a_replacement_stands_for_every_registry() {
        let upstream = upstream(
            "https://harbor.example.com",
            "harbor.example.com/s/state",
            Some("https://cache.site:8443"),
        );
        for registry in ["https://harbor.example.com", "http://other", "h:1/x:latest"] {
            assert_eq!(upstream.endpoint(registry).unwrap().to_string(), "https://cache.site:8443");
        }
        assert!(upstream.ours.contains("cache.site:8443"), "and is who the credentials are for");
    }

    #[test]
    fn credentials_are_for_the_registries_of_registration_only() {
        let upstream = upstream("https://harbor.example.com", "https://state.example.com/s/state", None);
        assert_eq!(Vec::from_iter(&upstream.ours), ["harbor.example.com", "state.example.com"]);
    }

    #[test]
    fn the_host_is_found_in_urls_and_references() {
        for (text, host) in [
            ("https://h.example.com:5000/a/b:latest", "https://h.example.com:5000"),
            ("h.example.com/a/b:latest", "h.example.com"),
            ("h.example.com:5000/a", "h.example.com:5000"),
            ("http://127.0.0.1:80", "http://127.0.0.1:80"),
            ("h", "h"),
        ] {
            assert_eq!(host_part(text), host);
        }
    }
}
