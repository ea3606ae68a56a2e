//! Settings of identities by SPIFFE: which provider, which trust domain, which registrar.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use identity::TrustDomain;
use identity::authority::rotation::MAX_GRACE;
use identity::workload_api::{Endpoint, EndpointError};

use super::ConfigError;
use super::flags::IdentityFlags;
use crate::domain::identity::AutoRegister;
use crate::identity::Provider;

/// Where SPIRE's agent puts its socket unless told otherwise.
const ENDPOINT: &str = "unix:///run/spire/sockets/agent.sock";
/// The port of a SPIRE server unless told otherwise.
const SPIRE_PORT: u16 = 8081;
/// An edge that was away for this long still renews its SVID.
const GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Identities by SPIFFE.
#[derive(Debug, Clone)]
pub struct SpiffeConfig {
    /// The one trust domain that is trusted.
    pub trust_domain: TrustDomain,
    /// Where our own SVID comes from.
    pub source: IdentitySource,
    /// What becomes of a valid identity that nobody registered.
    pub auto_register: AutoRegister,
}

/// Where our own SVID comes from, and what belongs to that.
#[derive(Debug, Clone)]
pub enum IdentitySource {
    /// The Workload API.
    Sidecar {
        /// Its address.
        endpoint: Endpoint,
        /// SPIRE's server.
        spire: Spire,
    },
    /// Files that something else renews.
    Static {
        /// Chain, PEM.
        certificate: PathBuf,
        /// Private key, PEM.
        key: PathBuf,
        /// Authorities of the trust domain, PEM.
        bundle: PathBuf,
        /// SPIRE's server.
        spire: Spire,
    },
    /// The built-in authority.
    Builtin {
        /// For how long after its end an SVID still renews.
        renewal_grace: Duration,
        /// Address of the listener for agents; port 0 is one that the system chooses.
        agents: SocketAddr,
        /// Whether that port was asked for; one that nobody asked for may be taken already.
        agents_asked_for: bool,
        /// The host under which agents reach it; `None`: the address that it listens on.
        agents_host: Option<String>,
    },
}

/// A SPIRE server beside us.
#[derive(Debug, Clone, Default)]
pub struct Spire {
    /// How satellites are registered with it, if at all.
    pub admin: Option<SpireAdmin>,
    /// What registrants are told: host and port.
    pub public: Option<(String, u16)>,
}

/// The admin API of a SPIRE server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpireAdmin {
    /// Over its own socket, where every caller is an administrator.
    Socket(PathBuf),
    /// Over TCP with our own SVID.
    Tcp(String, u16),
}

impl SpiffeConfig {
    /// The provider's name.
    #[must_use]
    pub fn provider(&self) -> Provider {
        match self.source {
            IdentitySource::Sidecar { .. } => Provider::Sidecar,
            IdentitySource::Static { .. } => Provider::Static,
            IdentitySource::Builtin { .. } => Provider::Builtin,
        }
    }

    /// The rules between the settings; `None` where SPIFFE is off.
    pub(super) fn check(
        flags: IdentityFlags,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, ConfigError> {
        if !flags.spiffe_server_enabled.unwrap_or(false) {
            for name in given(&flags) {
                warnings.push(format!("{name} has no effect without SPIFFE_SERVER_ENABLED"));
            }
            return Ok(None);
        }
        let trust_domain = match (&flags.spiffe_trust_domain, &flags.spire_trust_domain) {
            (Some(one), Some(other)) if one != other => {
                return Err(ConfigError::of(
                    "SPIRE_TRUST_DOMAIN",
                    format!(
                        "{other} contradicts SPIFFE_TRUST_DOMAIN={one}; set one of them, or both the same"
                    ),
                ));
            }
            (one, other) => one.as_ref().or(other.as_ref()).cloned().unwrap_or_default(),
        };
        let auto_register = flags.auto_register.unwrap_or_default();
        let source = match provider(&flags)? {
            Provider::Sidecar => {
                let endpoint = match &flags.spiffe_endpoint_socket {
                    Some(endpoint) => endpoint.clone(),
                    None => ENDPOINT
                        .parse()
                        .map_err(|error: EndpointError| ConfigError::of("SPIFFE_ENDPOINT_SOCKET", error))?,
                };
                IdentitySource::Sidecar { endpoint, spire: spire(&flags, warnings) }
            }
            Provider::Static => {
                let need = |file: &Option<PathBuf>, variable: &str| {
                    let missing = || ConfigError::of(variable, "needed by SPIFFE_PROVIDER=static");
                    file.clone().ok_or_else(missing)
                };
                IdentitySource::Static {
                    certificate: need(&flags.spiffe_cert_file, "SPIFFE_CERT_FILE")?,
                    key: need(&flags.spiffe_key_file, "SPIFFE_KEY_FILE")?,
                    bundle: need(&flags.spiffe_bundle_file, "SPIFFE_BUNDLE_FILE")?,
                    spire: spire(&flags, warnings),
                }
            }
            Provider::Builtin => builtin(&flags)?,
        };
        let config = Self { trust_domain, source, auto_register };
        let provider = config.provider();
        for (name, of) in FOREIGN {
            if *of != provider && given(&flags).contains(name) {
                warnings.push(format!("{name} has no effect with SPIFFE_PROVIDER={}", provider.as_str()));
            }
        }
        Ok(Some(config))
    }
}

/// Settings that only one provider knows.
const FOREIGN: &[(&str, Provider)] = &[
    ("SPIFFE_ENDPOINT_SOCKET", Provider::Sidecar),
    ("SPIFFE_CERT_FILE", Provider::Static),
    ("SPIFFE_KEY_FILE", Provider::Static),
    ("SPIFFE_BUNDLE_FILE", Provider::Static),
    ("SPIRE_BIND_ADDRESS", Provider::Builtin),
    ("SVID_RENEWAL_GRACE", Provider::Builtin),
];

/// The names of what was set.
fn given(flags: &IdentityFlags) -> Vec<&'static str> {
    [
        ("SPIFFE_TRUST_DOMAIN", flags.spiffe_trust_domain.is_some()),
        ("SPIRE_TRUST_DOMAIN", flags.spire_trust_domain.is_some()),
        ("SPIFFE_PROVIDER", flags.spiffe_provider.is_some()),
        ("SPIFFE_ENDPOINT_SOCKET", flags.spiffe_endpoint_socket.is_some()),
        ("SPIFFE_CERT_FILE", flags.spiffe_cert_file.is_some()),
        ("SPIFFE_KEY_FILE", flags.spiffe_key_file.is_some()),
        ("SPIFFE_BUNDLE_FILE", flags.spiffe_bundle_file.is_some()),
        ("AUTO_REGISTER", flags.auto_register.is_some()),
        ("SVID_RENEWAL_GRACE", flags.svid_renewal_grace.is_some()),
        ("SPIRE_SERVER_SOCKET", flags.spire_server_socket.is_some()),
        ("SPIRE_SERVER_ADDRESS", flags.spire_server_address.is_some()),
        ("SPIRE_SERVER_PORT", flags.spire_server_port.is_some()),
        ("SPIRE_BIND_ADDRESS", flags.spire_bind_address.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect()
}

/// The provider that was named, or the one that the other settings ask for.
fn provider(flags: &IdentityFlags) -> Result<Provider, ConfigError> {
    if let Some(named) = flags.spiffe_provider {
        if named == Provider::Builtin && flags.spire_server_socket.is_some() {
            return Err(ConfigError::of(
                "SPIRE_SERVER_SOCKET",
                "contradicts SPIFFE_PROVIDER=builtin, which needs no SPIRE; leave one of them out",
            ));
        }
        return Ok(named);
    }
    match (&flags.spiffe_endpoint_socket, &flags.spiffe_cert_file) {
        (Some(_), Some(_)) => Err(ConfigError::of(
            "SPIFFE_PROVIDER",
            "both SPIFFE_ENDPOINT_SOCKET and SPIFFE_CERT_FILE are set: say sidecar or static",
        )),
        (None, Some(_)) => Ok(Provider::Static),
        (Some(_), None) => Ok(Provider::Sidecar),
        (None, None) if flags.spire_server_socket.is_some() || flags.spire_server_address.is_some() => {
            Ok(Provider::Sidecar)
        }
        (None, None) => Ok(Provider::Builtin),
    }
}

fn spire(flags: &IdentityFlags, warnings: &mut Vec<String>) -> Spire {
    let port = flags.spire_server_port.unwrap_or(SPIRE_PORT);
    let public = flags.spire_server_address.clone().map(|host| (host, port));
    if public.is_none() && flags.spire_server_port.is_some() {
        warnings.push("SPIRE_SERVER_PORT has no effect without SPIRE_SERVER_ADDRESS".to_owned());
    }
    let admin = match (&flags.spire_server_socket, &public) {
        (Some(path), _) => Some(SpireAdmin::Socket(path.clone())),
        (None, Some((host, port))) => Some(SpireAdmin::Tcp(host.clone(), *port)),
        (None, None) => None,
    };
    Spire { admin, public }
}

fn builtin(flags: &IdentityFlags) -> Result<IdentitySource, ConfigError> {
    let address = flags.spire_bind_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if address.is_unspecified() && flags.spire_server_address.is_none() {
        return Err(ConfigError::of(
            "SPIRE_SERVER_ADDRESS",
            format!("needed, because agents cannot be sent to the wildcard address {address}"),
        ));
    }
    let renewal_grace = flags.svid_renewal_grace.unwrap_or(GRACE);
    // An authority must outlive all that it signed, and that by the grace.
    if renewal_grace > MAX_GRACE.unsigned_abs() {
        let days = MAX_GRACE.as_hours() / 24;
        return Err(ConfigError::of("SVID_RENEWAL_GRACE", format!("must be at most {days}d")));
    }
    Ok(IdentitySource::Builtin {
        renewal_grace,
        agents: SocketAddr::new(address, flags.spire_server_port.unwrap_or(SPIRE_PORT)),
        agents_asked_for: flags.spire_server_port.is_some(),
        agents_host: flags.spire_server_address.clone(),
    })
}
