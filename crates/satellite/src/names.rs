//! Under which names container runtimes know what the central registry holds.
//!
//! The inverse of what a mirror request does: there an upstream host and a path lead to a repository, here a repository
//! leads to the hosts and paths that mean it. An image that is put into a runtime without a pull has to bear these names, or
//! the pods that ask for it pull all the same.

use std::collections::BTreeMap;
use std::fmt;

use oci::{Digest, RepositoryName, Tag};

use crate::serve::namespaces;

/// Docker Hub.
const HUB: &str = "docker.io";

/// Whose name it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The central registry's, where the image comes from.
    Central,
    /// That of the registry which the central one has it from.
    Upstream,
}

/// A repository, as runtimes name it: with its host, and without abbreviations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// Whose name it is.
    pub origin: Origin,
    /// The registry (`docker.io`, `harbor.example.com:8443`), in small letters.
    pub host: String,
    /// The repository there (`library/busybox`).
    pub path: String,
}

impl ImageName {
    /// `host/path:tag`.
    #[must_use]
    pub fn tagged(&self, tag: &Tag) -> String {
        format!("{self}:{tag}")
    }

    /// `host/path@digest`.
    #[must_use]
    pub fn digested(&self, digest: &Digest) -> String {
        format!("{self}@{digest}")
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.host, self.path)
    }
}

/// Where the repositories of each host are, and with that, which names a repository has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    central: Vec<String>,
    /// By host, for those whose place is not their own name.
    places: BTreeMap<String, String>,
}

impl Naming {
    /// For a central registry with these hosts, and places that the configuration names (`mirror_paths`).
    #[must_use]
    pub fn new(central: &[String], explicit: &BTreeMap<String, String>) -> Self {
        let places = namespaces::places(central, explicit);
        let places = places.into_iter().map(|(host, prefix)| (canonical(&host), prefix)).collect();
        let mut hosts: Vec<String> = Vec::new();
        for host in central.iter().map(|host| canonical(host)) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Self { central: hosts, places }
    }

    /// The names of a repository: the central registry's first, then those of its upstream. docker.io and the central
    /// registry can share a path, and then both names hold; what is below another host's place is that host's only.
    #[must_use]
    pub fn of(&self, repository: &RepositoryName) -> Vec<ImageName> {
        let name = |origin, host: &str, prefix: &str| {
            let path = below(repository.as_str(), prefix).filter(|path| is_named(host, path))?;
            Some(ImageName { origin, host: host.to_owned(), path: path.to_owned() })
        };
        let place = |host: &String| self.places.get(host).map_or("", String::as_str);
        let mut names: Vec<ImageName> =
            self.central.iter().filter_map(|host| name(Origin::Central, host, place(host))).collect();

        let first = repository.as_str().split('/').next().unwrap_or_default();
        let of_its_own =
            Some(first).filter(|first| is_host(first) && !self.places.contains_key(&canonical(first)));
        let upstreams: Vec<(&str, &str)> = self
            .places
            .iter()
            .filter(|(host, _)| !self.central.contains(host))
            .map(|(host, prefix)| (host.as_str(), prefix.as_str()))
            // Below a host's name there is nothing of one whose repositories have no prefix.
            .filter(|(_, prefix)| !prefix.is_empty() || !is_host(first))
            .chain(of_its_own.map(|host| (host, host)))
            .filter(|(_, prefix)| below(repository.as_str(), prefix).is_some())
            .collect();
        let closest = upstreams.iter().map(|(_, prefix)| prefix.len()).max().unwrap_or_default();
        let closest = upstreams.into_iter().filter(|(_, prefix)| prefix.len() == closest);
        names.extend(closest.filter_map(|(host, prefix)| name(Origin::Upstream, host, prefix)));
        names
    }

    /// The name to ask a runtime for: the upstream's where there is one, which is what pods name as a rule.
    #[must_use]
    pub fn preferred(&self, repository: &RepositoryName) -> Option<ImageName> {
        let mut names = self.of(repository);
        let upstream = names.iter().position(|name| name.origin == Origin::Upstream).unwrap_or_default();
        (!names.is_empty()).then(|| names.swap_remove(upstream))
    }
}

/// Docker Hub's names are one host.
fn canonical(host: &str) -> String {
    match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// What of a repository's name is left below a prefix.
fn below<'r>(repository: &'r str, prefix: &str) -> Option<&'r str> {
    if prefix.is_empty() {
        return Some(repository);
    }
    repository.strip_prefix(prefix)?.strip_prefix('/').filter(|rest| !rest.is_empty())
}

/// Whether runtimes take the first part of a reference for a host; a repository's name holds no port.
fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains('.')
}

/// On Docker Hub a name of one part means another repository: that below `library/`.
fn is_named(host: &str, path: &str) -> bool {
    host != HUB || path.contains('/')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use registry_server::Namespaces;

    use super::*;
    use crate::config::LocalNamespaces;

    fn naming(central: &[&str], explicit: &[(&str, &str)]) -> Naming {
        let central: Vec<String> = central.iter().map(|&host| host.to_owned()).collect();
        Naming::new(&central, &map(explicit))
    }

    fn map(explicit: &[(&str, &str)]) -> BTreeMap<String, String> {
        explicit.iter().map(|&(host, prefix)| (host.to_owned(), prefix.to_owned())).collect()
    }

    fn names(naming: &Naming, repository: &str) -> Vec<String> {
        naming.of(&repository.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_repository_has_its_names() {
        let usual = naming(&["Harbor.example.com:8443"], &[]);
        for (repository, expected) in [
            (
                "library/busybox",
                &["harbor.example.com:8443/library/busybox", "docker.io/library/busybox"][..],
            ),
            ("team/app/web", &["harbor.example.com:8443/team/app/web", "docker.io/team/app/web"]),
            ("quay.io/foo/bar", &["harbor.example.com:8443/quay.io/foo/bar", "quay.io/foo/bar"]),
            ("quay.io/foo", &["harbor.example.com:8443/quay.io/foo", "quay.io/foo"]),
            // Docker Hub's repositories are found under their own path, not here.
            ("docker.io/library/busybox", &["harbor.example.com:8443/docker.io/library/busybox"]),
            ("index.docker.io/library/busybox", &["harbor.example.com:8443/index.docker.io/library/busybox"]),
            // docker.io/busybox would be another repository.
            ("busybox", &["harbor.example.com:8443/busybox"]),
            ("quay.io", &["harbor.example.com:8443/quay.io"]),
        ] {
            assert_eq!(names(&usual, repository), expected, "{repository}");
        }
    }

    #[test]
    fn the_configuration_moves_hosts() {
        let moved = naming(
            &["h.example", "h.example", "proxy.site:5000"],
            &[
                ("docker.io", "hub"),
                ("ghcr.io", "mirror"),
                ("quay.io", "mirror/quay"),
                ("localhost:5000", "lab"),
            ],
        );
        let both = |path: &str| [format!("h.example/{path}"), format!("proxy.site:5000/{path}")];
        for (repository, upstream) in [
            ("library/busybox", None),
            ("hub/library/busybox", Some("docker.io/library/busybox")),
            ("mirror/a/b", Some("ghcr.io/a/b")),
            ("mirror/quay/a", Some("quay.io/a")),
            ("mirror/quayside/a", Some("ghcr.io/quayside/a")),
            ("quay.io/a", None),
            ("lab/x", Some("localhost:5000/x")),
            ("gcr.io/a", Some("gcr.io/a")),
        ] {
            let mut expected = both(repository).to_vec();
            expected.extend(upstream.map(str::to_owned));
            assert_eq!(names(&moved, repository), expected, "{repository}");
        }
        let preferred = |repository: &str| moved.preferred(&repository.parse().unwrap()).unwrap().to_string();
        assert_eq!(preferred("mirror/quay/a"), "quay.io/a");
        assert_eq!(preferred("library/busybox"), "h.example/library/busybox");
        assert_eq!(Naming::default().preferred(&"busybox".parse().unwrap()), None);
    }

    #[test]
    fn a_name_takes_a_tag_or_a_digest() {
        let name = naming(&["h.example"], &[]).preferred(&"library/busybox".parse().unwrap()).unwrap();
        assert_eq!(name.tagged(&"1.36".parse().unwrap()), "docker.io/library/busybox:1.36");
        let digest = Digest::sha256(b"x");
        assert_eq!(name.digested(&digest), format!("docker.io/library/busybox@{digest}"));
    }

    fn host() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "docker.io",
            "Index.docker.io",
            "quay.io",
            "ghcr.io",
            "h.example",
            "h.example:8443",
            "localhost:5000",
            "registry.k8s.io",
        ])
        .prop_map(str::to_owned)
    }

    fn path() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            "library",
            "busybox",
            "quay.io",
            "docker.io",
            "ghcr.io",
            "mirror",
            "hub",
            "h.example",
            "localhost",
            "a",
            "v1.2",
        ]);
        prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
    }

    proptest! {
        /// What a name says, a mirror request of that name finds again at the same repository.
        #[test]
        fn names_lead_back(
            central in prop::collection::vec(host(), 0..3),
            explicit in prop::collection::btree_map(host(), prop_oneof![Just(String::new()), path()], 0..4),
            repository in path(),
        ) {
            let explicit: BTreeMap<String, String> =
                explicit.into_iter().map(|(host, prefix)| (host.to_ascii_lowercase(), prefix)).collect();
            let namespaces = Namespaces::default();
            namespaces.map(namespaces::answered(&central, &explicit, &LocalNamespaces::default()));
            let names = Naming::new(&central, &explicit).of(&repository.parse().unwrap());
            for name in &names {
                let found = namespaces.place(&name.host, &name.path.parse().unwrap());
                prop_assert_eq!(found.as_ref().map(RepositoryName::as_str), Some(repository.as_str()), "{}", name);
            }
            let mut texts: Vec<String> = names.iter().map(ToString::to_string).collect();
            texts.sort();
            texts.dedup();
            prop_assert_eq!(texts.len(), names.len(), "no name twice");
            // Another host's are never Docker Hub's.
            let foreign = names.iter().any(|name| name.origin == Origin::Upstream && name.host != HUB);
            let hub = explicit.iter().all(|(host, prefix)| canonical(host) != HUB || prefix.is_empty());
            if hub && foreign && !explicit.values().any(String::is_empty) {
                prop_assert!(!names.iter().any(|name| name.origin == Origin::Upstream && name.host == HUB));
            }
        }
    }
}
