//! What a program decides about its registry, apart from who may use it.

use std::sync::{Arc, PoisonError, RwLock};

use oci::RepositoryName;

use crate::events::Observer;

/// Settings of a router. `Options::default()` serves any client that sends no `?ns=`.
#[derive(Clone)]
pub struct Options {
    /// Upstream hosts for which this registry answers under `?ns=`.
    pub namespaces: Namespaces,
    /// The upstream host for which requests without a `?ns=` are meant: for clients that send none, on a listener of their
    /// own.
    pub assumed_namespace: Option<String>,
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
            assumed_namespace: None,
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
            .field("assumed_namespace", &self.assumed_namespace)
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
/// content under a trusted name. So every host is refused until it is listed, or else looked for below its own name; and
/// a place that belongs to one host is never reached by way of another. Clones share one list, which may change while the
/// registry serves: a satellite learns its central registry's host only when it registers.
#[derive(Debug, Clone, Default)]
pub struct Namespaces(Arc<RwLock<Places>>);

/// Where the repositories of upstream hosts are. Hosts are `host` or `host:port`, in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Hosts whose every repository has its own path here, whatever its name is: those from which this registry is filled.
    pub whole: Vec<String>,
    /// Hosts with the prefix of their repositories, which may be empty. They come before `whole`.
    pub prefixes: Vec<(String, String)>,
    /// Whether a host that is listed nowhere, and has no port, is looked for below its own name.
    pub others: bool,
    /// Prefixes below which there is nothing of any host.
    pub reserved: Vec<String>,
}

impl Namespaces {
    /// These hosts, whose every repository has its own path here.
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
        let whole = hosts.into_iter().map(|host| host.as_ref().to_owned()).collect();
        self.map(Places { whole, ..Places::default() });
    }

    /// Puts these places in the place of all earlier ones.
    pub fn map(&self, mut places: Places) {
        let all = places.whole.iter_mut().chain(places.prefixes.iter_mut().map(|(host, _)| host));
        all.for_each(|host| *host = normalized(host));
        for prefix in places.prefixes.iter_mut().map(|(_, prefix)| prefix).chain(&mut places.reserved) {
            *prefix = prefix.trim_matches('/').to_owned();
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// Where a repository of a host is; none where the host is refused, or where what is there is not that host's.
    pub fn place(&self, host: &str, repository: &RepositoryName) -> Option<RepositoryName> {
        let host = normalized(host);
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let place = match places.prefix(&host)? {
            Prefix::Whole => repository.clone(),
            Prefix::Below(prefix) => {
                let place = join(prefix, repository)?;
                // Whence this registry is filled shares its places with everybody.
                let others = places
                    .prefixes
                    .iter()
                    .filter(|(other, _)| *other != host && !places.whole.contains(other));
                let mut deeper = others.filter(|(_, other)| other.len() > prefix.len());
                let foreign = prefix.is_empty() && place.as_str().split('/').next().is_some_and(is_host)
                    || deeper.any(|(_, other)| place.as_str() != other && is_below(place.as_str(), other));
                if foreign && !places.whole.contains(&host) {
                    return None;
                }
                place
            }
        };
        (!places.reserved.iter().any(|reserved| is_below(place.as_str(), reserved))).then_some(place)
    }

    /// Whether requests for this host are answered at all.
    pub fn accepts(&self, host: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).prefix(&normalized(host)).is_some()
    }

    /// Whether everything that is here is this host's.
    pub fn is_whole(&self, host: &str) -> bool {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        matches!(places.prefix(&normalized(host)), Some(Prefix::Whole)) && places.reserved.is_empty()
    }
}

enum Prefix<'a> {
    Whole,
    Below(&'a str),
}

impl Places {
    /// Of a host in its normal form.
    fn prefix<'a>(&'a self, host: &'a str) -> Option<Prefix<'a>> {
        if let Some((_, prefix)) = self.prefixes.iter().rev().find(|(other, _)| other == host) {
            return Some(Prefix::Below(prefix));
        }
        if self.whole.iter().any(|other| other == host) {
            return Some(Prefix::Whole);
        }
        let own =
            self.others && is_host(host) && !host.contains('/') && host.parse::<RepositoryName>().is_ok();
        own.then_some(Prefix::Below(host))
    }
}

fn join(prefix: &str, repository: &RepositoryName) -> Option<RepositoryName> {
    if prefix.is_empty() { Some(repository.clone()) } else { format!("{prefix}/{repository}").parse().ok() }
}

/// Whether a path is a prefix, or below it, in whole segments.
fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/'))
}

/// Whether the first segment of an image's name is a registry's host, as clients tell it from a path.
fn is_host(segment: &str) -> bool {
    segment == "localhost" || segment.contains('.')
}

fn normalized(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    hub(&host).to_owned()
}

/// Docker Hub's names are one host: containerd asks for `docker.io`, older tools for the hosts behind it.
fn hub(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests;
