//! Settings of the listeners: addresses, certificates, and the URLs that are handed out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::ConfigError;
use super::value::AdminListen;

/// The operators' port on loopback.
const ADMIN_PORT: u16 = 9090;

/// The files of a TLS listener.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Authorities of client certificates, PEM.
    pub client_authorities: Option<PathBuf>,
}

/// The listener for all that know no SPIFFE, beside one that shows an SVID.
#[derive(Debug, Clone)]
pub struct WebListener {
    /// The address to bind; port 0 is one that the system chooses.
    pub listen: SocketAddr,
    /// `WEB_PUBLIC_URL` as given, without a slash at the end.
    pub public_url: Option<String>,
}

/// The operators' listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminListener {
    /// The address to bind; port 0 is one that the system chooses.
    pub listen: SocketAddr,
    /// Whether somebody named it: then a start without it is a failure.
    pub asked_for: bool,
}

/// What comes of `ADMIN_LISTEN`; `None` where it is turned off.
pub(super) fn admin(setting: Option<AdminListen>, warnings: &mut Vec<String>) -> Option<AdminListener> {
    match setting {
        Some(AdminListen::Off) => None,
        Some(AdminListen::At(listen)) => {
            if !listen.ip().is_loopback() {
                warnings.push(format!(
                    "ADMIN_LISTEN: {listen} is beyond loopback, and whoever reaches it reads metrics and changes the log \
                     without a login"
                ));
            }
            Some(AdminListener { listen, asked_for: true })
        }
        None => {
            let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ADMIN_PORT);
            Some(AdminListener { listen, asked_for: false })
        }
    }
}

/// What was set.
pub(super) struct Settings {
    pub(super) listen: Option<SocketAddr>,
    pub(super) port: Option<u16>,
    pub(super) public_registry_url: Option<String>,
    pub(super) web_listen: Option<SocketAddr>,
    pub(super) web_public_url: Option<String>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) client_authorities: Option<PathBuf>,
    pub(super) unsecure: bool,
    pub(super) spiffe: bool,
    /// The central registry is not ours: documents hold its URL.
    pub(super) registry_elsewhere: bool,
}

/// What comes of it.
pub(super) struct Listeners {
    pub(super) listen: SocketAddr,
    pub(super) public_registry_url: Option<String>,
    pub(super) tls: Option<TlsFiles>,
    pub(super) web: Option<WebListener>,
}

/// The rules between the settings.
pub(super) fn check(settings: Settings, warnings: &mut Vec<String>) -> Result<Listeners, ConfigError> {
    let listen = match (settings.listen, settings.port) {
        (Some(listen), port) => {
            if port.is_some() {
                warnings.push("PORT has no effect beside LISTEN".to_owned());
            }
            listen
        }
        (None, Some(port)) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        (None, None) => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
    };
    let tls = tls_files(&settings)?;
    let web = web(&settings, tls.is_some())?;
    if settings.spiffe && tls.is_some() && web.is_none() {
        return Err(ConfigError::of(
            "TLS_CERT_FILE",
            "with SPIFFE_SERVER_ENABLED, LISTEN shows the SVID; set WEB_LISTEN for those who know no SPIFFE, which \
             shows this certificate, or leave it out",
        ));
    }
    let secure = settings.spiffe || tls.is_some();
    let public_registry_url = match settings.public_registry_url {
        given if settings.registry_elsewhere => {
            if given.is_some() {
                warnings.push("PUBLIC_REGISTRY_URL has no effect beside OCI_REGISTRY_URL".to_owned());
            }
            None
        }
        Some(text) => Some(public_url("PUBLIC_REGISTRY_URL", &text, settings.unsecure)?),
        None if listen.ip().is_unspecified() => {
            return Err(ConfigError::of(
                "PUBLIC_REGISTRY_URL",
                format!(
                    "needed, because satellites cannot be sent to the wildcard address {listen}; set it to the URL \
                     under which they reach this server"
                ),
            ));
        }
        None if !secure && !listen.ip().is_loopback() && !settings.unsecure => {
            return Err(ConfigError::of(
                "USE_UNSECURE",
                format!(
                    "{listen} is beyond loopback and without TLS; set TLS_CERT_FILE and TLS_KEY_FILE, or \
                     PUBLIC_REGISTRY_URL to an https URL of a proxy in front, or USE_UNSECURE=true to send \
                     passwords in the clear"
                ),
            ));
        }
        None => None,
    };
    if !secure && !listen.ip().is_loopback() {
        warnings.push(format!(
            "LISTEN: {listen} is beyond loopback and without TLS; only a proxy with TLS should reach it"
        ));
    }
    Ok(Listeners { listen, public_registry_url, tls, web })
}

fn tls_files(settings: &Settings) -> Result<Option<TlsFiles>, ConfigError> {
    let client_authorities = settings.client_authorities.clone();
    match (settings.certificate.clone(), settings.key.clone()) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key, client_authorities })),
        (Some(_), None) => Err(ConfigError::of("TLS_KEY_FILE", "needed beside TLS_CERT_FILE")),
        (None, Some(_)) => Err(ConfigError::of("TLS_CERT_FILE", "needed beside TLS_KEY_FILE")),
        (None, None) if client_authorities.is_some() => Err(ConfigError::of(
            "TLS_CA_FILE",
            "client certificates need TLS: set TLS_CERT_FILE and TLS_KEY_FILE too",
        )),
        (None, None) => Ok(None),
    }
}

fn web(settings: &Settings, tls: bool) -> Result<Option<WebListener>, ConfigError> {
    let Some(listen) = settings.web_listen else {
        return match settings.web_public_url {
            Some(_) => Err(ConfigError::of("WEB_LISTEN", "needed beside WEB_PUBLIC_URL")),
            None => Ok(None),
        };
    };
    if !settings.spiffe {
        return Err(ConfigError::of(
            "WEB_LISTEN",
            "has a use only beside SPIFFE_SERVER_ENABLED=true; without it LISTEN serves everybody",
        ));
    }
    if !tls && !listen.ip().is_loopback() {
        return Err(ConfigError::of(
            "WEB_LISTEN",
            format!("{listen} is beyond loopback and without TLS; set TLS_CERT_FILE and TLS_KEY_FILE"),
        ));
    }
    let public_url = match &settings.web_public_url {
        Some(text) => Some(public_url("WEB_PUBLIC_URL", text, settings.unsecure)?),
        None if listen.ip().is_unspecified() => {
            return Err(ConfigError::of(
                "WEB_PUBLIC_URL",
                format!("needed, because clients cannot be sent to the wildcard address {listen}"),
            ));
        }
        None => None,
    };
    Ok(Some(WebListener { listen, public_url }))
}

/// Checks a URL to be handed out: scheme, host, perhaps a port, and nothing more.
fn public_url(name: &str, text: &str, unsecure: bool) -> Result<String, ConfigError> {
    let wanted = "a URL of scheme, host and port is wanted, as https://gc.example.com";
    let url = url::Url::parse(text).map_err(|error| ConfigError::of(name, format!("{error}; {wanted}")))?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let Some(host) = url.host().filter(|_| bare && url.username().is_empty() && url.password().is_none())
    else {
        return Err(ConfigError::of(name, wanted));
    };
    let loopback = match &host {
        url::Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    match url.scheme() {
        "https" => {}
        "http" if loopback || unsecure => {}
        "http" => {
            return Err(ConfigError::of(
                name,
                "http beyond loopback needs USE_UNSECURE=true; better is an https URL",
            ));
        }
        other => return Err(ConfigError::of(name, format!("the scheme {other} is neither https nor http"))),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
