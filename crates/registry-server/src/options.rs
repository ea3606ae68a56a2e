//! What a program decides about its registry, apart from who may use it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use oci::RepositoryName;

use crate::events::Observer;

/// Settings of a router. `Options::default()` serves any client that sends no `?ns=`.
#[derive(Clone)]
pub struct Options {
    /// Upstream hosts for which this registry answers under `?ns=`.
    pub namespaces: Namespaces,
    /// The largest manifest taken, in bytes. OCI Distribution asks for at least 4 MiB.
    pub manifest_limit: usize,
    /// The largest page of tags, repositories or referrers in one answer; more is told by a `Link` header.
    pub page_limit: usize,
    /// Told to uploaders as `OCI-Chunk-Min-Length`, in bytes; smaller chunks are taken all the same.
    pub chunk_min_length: Option<u64>,
    /// Told what was pulled, pushed, deleted and missed.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            namespaces: Namespaces::default(),
            manifest_limit: 4 * 1024 * 1024,
            page_limit: 1000,
            chunk_min_length: None,
            observer: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("namespaces", &self.namespaces)
            .field("manifest_limit", &self.manifest_limit)
            .field("page_limit", &self.page_limit)
            .field("chunk_min_length", &self.chunk_min_length)
            .field("observer", &self.observer.is_some())
            .finish()
    }
}

/// The registry hosts that this registry stands in for (OCI Distribution, "Registry Proxying", query `ns`), and where it
/// keeps the repositories of each.
///
/// A mirror that answered `?ns=quay.io` with an image of the same name from elsewhere would hand out foreign
/// content under a trusted name; so every host is refused until it is listed, or else looked for below its own name, where
/// nothing but its own can be. Clones share one list, which may change while the registry serves: a satellite learns its
/// central registry's host only when it registers.
#[derive(Debug, Clone, Default)]
pub struct Namespaces(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Host and the prefix of its repositories, which may be empty.
    prefixes: BTreeMap<String, String>,
    /// Whether a host that is not listed is looked for below its name.
    others: bool,
}

impl Namespaces {
    /// A list of these hosts (`host` or `host:port`, any case), whose repositories have their own path here.
    pub fn new<I, S>(hosts: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        let namespaces = Namespaces::default();
        namespaces.replace(hosts);
        namespaces
    }

    /// Puts these hosts in the place of all earlier ones.
    pub fn replace<I, S>(&self, hosts: I)
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        self.map(hosts.into_iter().map(|host| (host.as_ref().to_owned(), String::new())), false);
    }

    /// Puts these hosts, each with the prefix of its repositories, in the place of all earlier ones. With `others`, a
    /// host without a port that is not among them has its own name for a prefix.
    pub fn map<I>(&self, prefixes: I, others: bool)
    where
        I: IntoIterator<Item = (String, String)>,
    {
        let prefixes = prefixes
            .into_iter()
            .map(|(host, prefix)| (hub(&host.to_ascii_lowercase()).to_owned(), prefix))
            .collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Known { prefixes, others };
    }

    /// Below which prefix the repositories of a host are, which may be empty; none where the host is refused.
    pub fn prefix(&self, host: &str) -> Option<String> {
        let host = host.to_ascii_lowercase();
        let host = hub(&host);
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = || {
            (known.others && !host.contains('/') && host.parse::<RepositoryName>().is_ok()).then_some(host)
        };
        known.prefixes.get(host).map(String::as_str).or_else(own).map(str::to_owned)
    }

    /// Whether requests for this host are answered.
    pub fn accepts(&self, host: &str) -> bool {
        self.prefix(host).is_some()
    }
}

/// Docker Hub's names are one host: containerd asks for `docker.io`, older tools for the hosts behind it.
fn hub(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_hosts_are_accepted() {
        let namespaces = Namespaces::new(["Harbor.example.com", "127.0.0.1:5000", "docker.io"]);
        for (host, accepted) in [
            ("harbor.example.com", true),
            ("HARBOR.example.com", true),
            ("127.0.0.1:5000", true),
            ("127.0.0.1", false),
            ("registry-1.docker.io", true),
            ("quay.io", false),
            ("", false),
        ] {
            assert_eq!(namespaces.accepts(host), accepted, "{host}");
        }
        let shared = namespaces.clone();
        shared.replace(["quay.io"]);
        assert!(namespaces.accepts("quay.io"));
        assert!(!namespaces.accepts("docker.io"));
    }

    #[test]
    fn each_host_has_a_place_of_its_own() {
        let namespaces = Namespaces::default();
        let map = [("docker.io", ""), ("Quay.io:443", "mirror/quay")];
        namespaces.map(map.map(|(host, prefix)| (host.to_owned(), prefix.to_owned())), true);
        for (host, prefix) in [
            ("registry-1.docker.io", Some("")),
            ("quay.io:443", Some("mirror/quay")),
            ("quay.io", Some("quay.io")),
            ("GHCR.io", Some("ghcr.io")),
            ("ghcr.io:5000", None),
            ("a/b", None),
            ("..", None),
            ("", None),
        ] {
            assert_eq!(namespaces.prefix(host).as_deref(), prefix, "{host}");
        }
    }
}
