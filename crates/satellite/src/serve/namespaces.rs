//! The upstream hosts that the local registry stands in for (`?ns=`), and where it keeps the repositories of each: those
//! of the central registry and of docker.io under their own path, those of any other host under the host's name, unless
//! the configuration says otherwise.
//!
//! The central registry's names are learnt from registration, which is sealed; so that a start answers under them before
//! the seal is open, they are kept outside it, too. A host name is no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use blob_store::durable;
use fleet_protocol::registration::StateConfig;
use registry_server::{Namespaces, Places};

use crate::config::{Effective, LiveConfig, LocalNamespaces};
use crate::sealed::Vault;

/// Docker Hub.
const HUB: &str = "docker.io";
const KEPT_FILE: &str = "upstream-hosts.json";
/// A registration names three hosts at most.
const MOST: usize = 16;

/// The hosts of the last run.
#[must_use]
pub fn kept(config_dir: &Path) -> Vec<String> {
    let read = std::fs::read(config_dir.join(KEPT_FILE)).ok();
    let hosts: Vec<String> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    hosts.into_iter().take(MOST).collect()
}

/// The names under which clients may ask for what the central registry holds.
#[must_use]
pub fn of(registration: &StateConfig, config: &Effective) -> Vec<String> {
    let hosts: BTreeSet<String> = [registration.auth.url.as_str(), registration.state.as_str()]
        .into_iter()
        .chain(config.harbor_registry_url.as_ref().map(url::Url::as_str))
        .filter_map(host)
        .collect();
    hosts.into_iter().collect()
}

/// Where the repositories of each host are; later entries come first.
pub(crate) fn places(central: &[String], explicit: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let same_path = central.iter().map(String::as_str).chain([HUB]);
    let explicit = explicit.iter().map(|(host, prefix)| (host.clone(), prefix.clone()));
    same_path.map(|host| (host.to_owned(), String::new())).chain(explicit).collect()
}

/// The same for the registry that answers: what is the site's own is no host's.
pub(crate) fn answered(
    central: &[String],
    explicit: &BTreeMap<String, String>,
    local: &LocalNamespaces,
) -> Places {
    let hub = (!central.iter().any(|host| host == HUB)).then(|| (HUB.to_owned(), String::new()));
    let explicit = explicit.iter().map(|(host, prefix)| (host.clone(), prefix.clone()));
    Places {
        whole: central.to_vec(),
        prefixes: hub.into_iter().chain(explicit).collect(),
        others: true,
        reserved: local.names().map(str::to_owned).collect(),
    }
}

/// Keeps `hosts` in step with registration and configuration, for as long as it is polled.
pub(crate) async fn follow(config: LiveConfig, vault: Vault, hosts: Namespaces, local: LocalNamespaces) {
    let mut configs = config.subscribe();
    let mut states = vault.subscribe();
    loop {
        let state = states.borrow_and_update().clone();
        let effective = configs.borrow_and_update().clone();
        if let Some(registration) = &state.registration {
            let now = of(registration, &effective);
            hosts.map(answered(&now, &effective.mirror_paths, &local));
            let config_dir = vault.config_dir().to_owned();
            drop(tokio::task::spawn_blocking(move || keep(&config_dir, &now)).await);
        }
        let gone = tokio::select! {
            changed = configs.changed() => changed.is_err(),
            changed = states.changed() => changed.is_err(),
        };
        if gone {
            return;
        }
    }
}

fn keep(config_dir: &Path, hosts: &[String]) {
    if kept(config_dir) == hosts {
        return;
    }
    let path = config_dir.join(KEPT_FILE);
    let written = serde_json::to_vec(hosts)
        .map_err(std::io::Error::other)
        .and_then(|bytes| durable::write_file(&path, &bytes, durable::PRIVATE_FILE));
    if let Err(error) = written {
        // The next start learns them a moment later, when the seal is open.
        tracing::debug!(path = %path.display(), %error, "upstream hosts not kept");
    }
}

/// `host[:port]` of a URL or of a reference without a scheme.
fn host(reference: &str) -> Option<String> {
    let rest = reference.split_once("://").map_or(reference, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;
    use crate::config::testing::site_with;

    fn registration(url: &str, state: &str) -> StateConfig {
        serde_json::from_value(
            serde_json::json!({"auth": {"url": url, "username": "u", "password": "p"}, "state": state}),
        )
        .unwrap()
    }

    #[test]
    fn each_name_of_the_central_registry_counts_once() {
        let layer = Layer {
            harbor_registry_url: Some("http://proxy.site:5000".parse().unwrap()),
            ..Layer::default()
        };
        let site = site_with(Path::new("/c"), layer);
        let config = Effective::of(&site, &Layer::default());
        for (url, state) in [
            ("https://Harbor.example.com", "https://harbor.example.com/satellite/s:latest"),
            ("harbor.example.com", "harbor.example.com/satellite/s:latest"),
            ("", "https://harbor.example.com/satellite/s:latest"),
        ] {
            assert_eq!(of(&registration(url, state), &config), ["harbor.example.com", "proxy.site:5000"]);
        }
    }

    #[test]
    fn what_the_configuration_says_comes_before_what_is_usual() {
        let explicit = BTreeMap::from([("docker.io".to_owned(), "hub".to_owned())]);
        let namespaces = Namespaces::default();
        namespaces.map(answered(&["h.example".to_owned()], &explicit, &"dev".parse().unwrap()));
        let place = |host: &str, name: &str| {
            namespaces.place(host, &name.parse().unwrap()).map(|place| place.to_string())
        };
        assert_eq!(place("docker.io", "library/x").as_deref(), Some("hub/library/x"));
        assert_eq!(place("h.example", "quay.io/x").as_deref(), Some("quay.io/x"));
        assert_eq!(place("quay.io", "x").as_deref(), Some("quay.io/x"));
        assert_eq!(place("h.example", "dev/x"), None);
        // A site that is filled from Docker Hub itself.
        namespaces.map(answered(&["docker.io".to_owned()], &BTreeMap::new(), &LocalNamespaces::default()));
        assert!(namespaces.is_whole("docker.io"));
    }

    #[test]
    fn they_are_there_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        assert!(kept(folder.path()).is_empty());
        keep(folder.path(), &["h:5000".to_owned()]);
        assert_eq!(kept(folder.path()), ["h:5000"]);
        durable::write_file(&folder.path().join(KEPT_FILE), b"{", 0o600).unwrap();
        assert!(kept(folder.path()).is_empty());
    }
}
