//! Where a registry is: scheme, host and port, and whether plain HTTP may be spoken to it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

/// How a registry is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP: for loopback, and beyond it only where it was allowed.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The address of one registry: scheme, host and port. It never holds a user name or a password.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    url: Url,
}

/// Why a text is not the address of a registry.
#[derive(Clone, Debug, thiserror::Error)]
#[error("registry address {address:?} is not usable: {reason}; write https://host[:port]")]
pub struct EndpointError {
    /// The address, without any user name and password.
    pub address: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Endpoint {
    /// From a scheme and a `host[:port]`, as [`oci::ImageReference`] holds them.
    pub fn new(scheme: Scheme, host: &str) -> Result<Self, EndpointError> {
        let fail = |reason: &str| EndpointError { address: redacted(host), reason: reason.to_owned() };
        if host.is_empty() {
            return Err(fail("the host is missing"));
        }
        let url = Url::parse(&format!("{}://{host}/", scheme.as_str())).map_err(|e| fail(&e.to_string()))?;
        Self::from_url(url)
    }

    /// From a URL, which may hold neither credentials nor a path, query or fragment.
    pub fn from_url(url: Url) -> Result<Self, EndpointError> {
        let fail =
            |reason: &str| EndpointError { address: redacted(url.as_str()), reason: reason.to_owned() };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fail("the scheme is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(fail("credentials do not belong into a URL"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(fail("a registry has no path"));
        }
        if url.host().is_none() {
            return Err(fail("the host is missing"));
        }
        Ok(Self { url })
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        if self.url.scheme() == "https" { Scheme::Https } else { Scheme::Http }
    }

    /// `host` or `host:port`, as it stands in an image reference; a default port is left out.
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Whether the registry is on this machine (`localhost`, 127.0.0.0/8, `::1`).
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// The URL of the root, ending in a slash.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme().as_str(), self.host())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `http(s)://host[:port]`; without a scheme it is `https`.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if !text.contains("://") {
            return Self::new(Scheme::Https, text.trim_end_matches('/'));
        }
        match Url::parse(text) {
            Ok(url) => Self::from_url(url),
            Err(e) => Err(EndpointError { address: redacted(text), reason: e.to_string() }),
        }
    }
}

/// Whether the URL's host is this machine. A name other than `localhost` is never taken for it: what it
/// resolves to is decided by others.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).to_canonical().is_loopback(),
        None => false,
    }
}

/// The text without what stands before an `@`: a password must not come back in an error.
pub(crate) fn redacted(text: &str) -> String {
    let Some((head, tail)) = text.rsplit_once('@') else { return text.to_owned() };
    match head.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://…@{tail}"),
        None => format!("…@{tail}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_addresses() {
        for (text, shown) in [
            ("https://harbor.example.com", "https://harbor.example.com"),
            ("harbor.example.com/", "https://harbor.example.com"),
            ("http://127.0.0.1:8585/", "http://127.0.0.1:8585"),
            ("http://[::1]:5000", "http://[::1]:5000"),
            ("HTTPS://Harbor.Example.com:443", "https://harbor.example.com"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refuses_what_is_no_address_and_never_repeats_a_password() {
        for text in ["", "ftp://host", "https://", "https://host/path", "https://host?x=1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?} was taken");
        }
        let error = "https://user:hunter2@host".parse::<Endpoint>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let error = "user:hunter2@host:x".parse::<Endpoint>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn knows_loopback() {
        for (text, loopback) in [
            ("http://localhost:5000", true),
            ("http://127.8.8.8", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.1]", true),
            ("http://127.0.0.1.example.com", false),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
