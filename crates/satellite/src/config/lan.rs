//! What the site says of the registry towards its own network: the listener with TLS, and the namespaces that are the
//! site's own. Nothing of it can be said from afar, because it decides who gets in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use oci::RepositoryName;

use super::flags::lan::LanFlags;
use crate::serve::addresses::is_host_name;

/// The registry's listener for other machines of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Names and addresses for its certificate, beside those that the machine knows of.
    pub names: Vec<String>,
    /// The site's own certificate chain and key; without them the local authority signs one.
    pub certificate: Option<CertificateFiles>,
    /// Who may log in.
    pub accounts_file: Option<PathBuf>,
    /// The token of the site's node agents; without it there are none.
    pub site_token_file: Option<PathBuf>,
}

/// A certificate chain and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Beginnings of repositories' names, in whole segments, that belong to the site: nothing is replicated into them, and
/// nothing but what the site's people push is in them. Clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalNamespaces(Arc<[RepositoryName]>);

impl LocalNamespaces {
    /// Whether a repository is in one of them.
    #[must_use]
    pub fn holds(&self, repository: &RepositoryName) -> bool {
        self.0.iter().any(|namespace| {
            let rest = repository.as_str().strip_prefix(namespace.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of both.
    #[must_use]
    pub fn with(&self, others: impl IntoIterator<Item = RepositoryName>) -> Self {
        let mut names: Vec<RepositoryName> = self.0.iter().cloned().chain(others).collect();
        names.sort();
        names.dedup();
        Self(names.into())
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(RepositoryName::as_str)
    }
}

impl FromStr for LocalNamespaces {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut names = Vec::new();
        for name in list(text) {
            let parsed: RepositoryName = name
                .trim_end_matches('/')
                .parse()
                .map_err(|_| format!("`{name}` is no beginning of a repository's name"))?;
            // Below a host's name is what comes from that host.
            if parsed
                .as_str()
                .split('/')
                .next()
                .is_some_and(|first| first == "localhost" || first.contains('.'))
            {
                return Err(format!(
                    "`{name}` begins like the name of a registry, whose images are kept there"
                ));
            }
            if parsed.as_str().split('/').next() == Some("satellite") {
                return Err("`satellite` is where the central registry keeps states".to_owned());
            }
            names.push(parsed);
        }
        names.sort();
        names.dedup();
        Ok(Self(names.into()))
    }
}

/// The settings, and what has no effect.
type Said = (Option<LanSettings>, Vec<String>);

/// What flags say of it, and what of that has no effect; or the variable that is wrong, and why.
pub(super) fn settings(flags: LanFlags) -> Result<Said, (&'static str, String)> {
    let certificate = match (flags.lan_tls_cert_file, flags.lan_tls_key_file) {
        (Some(certificate), Some(key)) => Some(CertificateFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            return Err(("LAN_TLS_KEY_FILE", "is unset, and LAN_TLS_CERT_FILE needs it".to_owned()));
        }
        (None, Some(_)) => {
            return Err(("LAN_TLS_CERT_FILE", "is unset, and LAN_TLS_KEY_FILE needs it".to_owned()));
        }
    };
    let names: Vec<String> = flags.lan_name.iter().flat_map(|text| list(text)).map(str::to_owned).collect();
    let Some(listen) = flags.lan_listen else {
        let without = [
            ("LAN_NAME", !names.is_empty()),
            ("LAN_TLS_CERT_FILE", certificate.is_some()),
            ("LAN_ACCOUNTS_FILE", flags.lan_accounts_file.is_some()),
            ("SITE_TOKEN_FILE", flags.site_token_file.is_some()),
        ];
        let notes = without.into_iter().filter(|(_, given)| *given);
        return Ok((
            None,
            notes.map(|(name, _)| format!("{name} has no effect without LAN_LISTEN")).collect(),
        ));
    };
    let (accounts_file, site_token_file) = (flags.lan_accounts_file, flags.site_token_file);
    Ok((Some(LanSettings { listen, names, certificate, accounts_file, site_token_file }), Vec::new()))
}

/// Names for a certificate, between commas.
pub(super) fn names(text: &str) -> Result<String, String> {
    match list(text).find(|name| name.parse::<std::net::IpAddr>().is_err() && !is_host_name(name)) {
        Some(wrong) => Err(format!("`{wrong}` is neither a host's name nor an address")),
        None => Ok(text.to_owned()),
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';']).map(str::trim).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_whole_segments() {
        let local: LocalNamespaces = "dev, team/ci/".parse().unwrap();
        assert_eq!(local.names().collect::<Vec<_>>(), ["dev", "team/ci"]);
        for (repository, holds) in [
            ("dev", true),
            ("dev/app", true),
            ("dev/a/b", true),
            ("devil/app", false),
            ("team/ci/x", true),
            ("team/cid", false),
            ("team/other", false),
            ("library/dev", false),
        ] {
            assert_eq!(local.holds(&repository.parse().unwrap()), holds, "{repository}");
        }
        assert!("".parse::<LocalNamespaces>().unwrap().is_empty());
        for wrong in ["Dev", "a//b", "..", "quay.io", "quay.io/x", "localhost", "satellite", "satellite/x"] {
            assert!(wrong.parse::<LocalNamespaces>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_hosts_or_addresses() {
        assert!(names("site.example, 192.0.2.7,::1").is_ok());
        assert!(names("a b").is_err() && names("https://x").is_err());
    }
}
