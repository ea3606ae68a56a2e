//! Where the mirror is, and how one gets in.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Hidden;

/// Where the mirror is, as runtimes of this machine reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) url: String,
    /// Where Docker finds docker.io and nothing else, where that is another address of the same machine.
    pub docker: Option<String>,
    /// CA certificates that it is checked by, in PEM; where none are given, those of the system.
    pub ca: Option<String>,
    /// The account there.
    pub login: Option<Login>,
    /// The certificate to show there.
    pub client: Option<ClientCertificate>,
    /// How long containerd from 2.1 on tries to reach it, in milliseconds.
    pub dial_timeout: u32,
    /// Whether it may be named beyond loopback to runtimes that wait long for one that is silent: containerd before 2.1,
    /// Docker, Podman, CRI-O.
    pub may_block: bool,
    /// What nodes of a cluster serve each other (Spegel): containerd asks there before it asks here, by digest alone, so
    /// that a tag that moved is known from here.
    pub peers: Vec<Peer>,
    /// Under which path it keeps the repositories of a registry, for runtimes that do not send the registry's name; those
    /// not named here under none.
    pub paths: BTreeMap<String, String>,
}

/// A mirror of the cluster's own, without TLS or credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub(crate) url: String,
    /// Whether it is at this machine's own address, which refuses where nobody listens and is never silent.
    pub(crate) here: bool,
}

impl Peer {
    /// The peer at a URL: scheme, host and port. `here` says that the address is this machine's.
    ///
    /// # Errors
    /// [`EndpointError::Shape`].
    pub fn new(url: &str, here: bool) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::new(url)?;
        let here = here || endpoint.is_loopback();
        Ok(Self { url: endpoint.url, here })
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: Hidden,
}

/// A certificate to show, and its key; both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: Hidden,
}

/// Why a mirror is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not of the form.
    #[error("`{0}` is no URL of a mirror; write http://HOST:PORT or https://HOST:PORT, without a path")]
    Shape(String),
    /// Credentials in clear over a network.
    #[error("{0} is plain HTTP beyond loopback, and the password would travel in clear; use https")]
    PasswordInClear(String),
    /// Certificates without TLS.
    #[error("{0} is plain HTTP, so certificates mean nothing there; use https")]
    NoTls(String),
    /// A name that the header cannot hold.
    #[error("a user name cannot hold a colon")]
    Username,
}

impl Login {
    /// `user:password` in base64 (RFC 7617).
    pub(crate) fn basic(&self) -> Hidden {
        Hidden::new(STANDARD.encode(format!("{}:{}", self.username, self.password.reveal())))
    }

    /// The header line with it.
    pub(crate) fn header(&self) -> (String, Hidden) {
        ("Authorization".to_owned(), Hidden::new(format!("Basic {}", self.basic().reveal())))
    }
}

impl Endpoint {
    /// The mirror at a URL: scheme, host and port.
    pub fn new(url: &str) -> Result<Self, EndpointError> {
        let bad = || EndpointError::Shape(url.to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest).to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        if !matches!(scheme, "http" | "https") || !authority.chars().all(allowed) {
            return Err(bad());
        }
        let (host, port) = match authority.strip_prefix('[').map(|rest| rest.split_once(']')) {
            Some(Some((address, port))) => {
                address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
                (address, port)
            }
            Some(None) => return Err(bad()),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port_is_good = port.is_empty()
            || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
        if host.is_empty() || host.contains(['[', ']']) || !port_is_good {
            return Err(bad());
        }
        Ok(Self {
            url: format!("{scheme}://{authority}"),
            docker: None,
            ca: None,
            login: None,
            client: None,
            dial_timeout: 300,
            may_block: false,
            peers: Vec::new(),
            paths: BTreeMap::new(),
        })
    }

    /// What holds for its parts together.
    pub fn check(self) -> Result<Self, EndpointError> {
        if self.is_plain() {
            if self.ca.is_some() || self.client.is_some() {
                return Err(EndpointError::NoTls(self.url));
            }
            if self.login.is_some() && !self.is_loopback() {
                return Err(EndpointError::PasswordInClear(self.url));
            }
        }
        if self.login.as_ref().is_some_and(|login| login.username.contains(':')) {
            return Err(EndpointError::Username);
        }
        Ok(self)
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest)
    }

    /// Whether it is spoken to without TLS.
    pub fn is_plain(&self) -> bool {
        self.url.starts_with("http://")
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        let authority = self.authority();
        if let Some(address) = authority.strip_prefix('[') {
            return address.starts_with("::1]");
        }
        let host = authority.split_once(':').map_or(authority, |(host, _)| host);
        host == "localhost" || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_scheme_host_and_port() {
        for (url, there, loopback) in [
            ("http://127.0.0.1:8585", "127.0.0.1:8585", true),
            ("https://Site.Example:443/", "site.example:443", false),
            ("http://[::1]:80", "[::1]:80", true),
            ("https://[fe80::1]", "[fe80::1]", false),
            ("http://localhost:1", "localhost:1", true),
            ("http://127.evil.example:1", "127.evil.example:1", false),
        ] {
            let endpoint = Endpoint::new(url).unwrap();
            assert_eq!((endpoint.authority(), endpoint.is_loopback()), (there, loopback), "{url}");
        }
        for url in [
            "127.0.0.1:8585",
            "ftp://h",
            "http://",
            "http://h/path",
            "http://u:p@h",
            "http://h:0",
            "http://h:99999",
            "http://h:",
            "http://a b",
            "http://h\"",
            "http://[::1",
            "http://[x]:1",
            "http://[::1]x",
            "http://h]",
        ] {
            assert_eq!(Endpoint::new(url), Err(EndpointError::Shape(url.to_owned())));
        }
    }

    #[test]
    fn credentials_do_not_travel_in_clear_and_are_not_printed() {
        let login = Login { username: "u".to_owned(), password: Hidden::new("hunter2") };
        let with = |url: &str| Endpoint { login: Some(login.clone()), ..Endpoint::new(url).unwrap() };
        assert!(with("http://127.0.0.1:1").check().is_ok() && with("https://h").check().is_ok());
        assert!(matches!(with("http://h:1").check(), Err(EndpointError::PasswordInClear(_))));
        let printed = format!("{:?} {:?}", with("https://h"), login.header());
        assert!(!printed.contains("hunter2") && !printed.contains(login.basic().reveal()), "{printed}");
        let certified = Endpoint { ca: Some("x".to_owned()), ..Endpoint::new("http://127.0.0.1:1").unwrap() };
        assert!(matches!(certified.check(), Err(EndpointError::NoTls(_))));
    }
}
