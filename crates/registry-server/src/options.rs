//! What a program decides about its registry, apart from who may use it.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

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

/// The registry hosts that this registry stands in for (OCI Distribution, "Registry Proxying", query `ns`).
///
/// A mirror that answered `?ns=quay.io` with an image of the same name from elsewhere would hand out foreign
/// content under a trusted name; so every host is refused until it is listed. Clones share one list, which may
/// change while the registry serves: a satellite learns its central registry's host only when it registers.
#[derive(Debug, Clone, Default)]
pub struct Namespaces(Arc<RwLock<BTreeSet<String>>>);

impl Namespaces {
    /// A list of these hosts (`host` or `host:port`, any case).
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
        let hosts = hosts.into_iter().map(|host| host.as_ref().to_ascii_lowercase()).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = hosts;
    }

    /// Whether requests for this host are answered. Docker Hub's names are one host.
    pub fn accepts(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let hosts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        hosts.contains(&host) || hosts.iter().any(|known| same_hub(known, &host))
    }
}

/// containerd asks for `docker.io`, older tools for the hosts behind it.
fn same_hub(a: &str, b: &str) -> bool {
    const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    HUB.contains(&a) && HUB.contains(&b)
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
}
