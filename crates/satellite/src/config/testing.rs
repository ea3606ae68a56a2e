//! Configurations for tests.

use std::path::Path;
use std::time::Duration;

use oci::PlatformFilter;

use super::{IdentitySettings, Layer, Runtimes, Site};

/// A site that says nothing but where it lives.
pub(crate) fn site(config_dir: &Path) -> Site {
    site_with(config_dir, Layer::default())
}

/// A site that says `layer`.
pub(crate) fn site_with(config_dir: &Path, layer: Layer) -> Site {
    Site {
        token: None,
        identity: IdentitySettings::default(),
        config_dir: config_dir.to_owned(),
        registry_data_dir: config_dir.join("registry"),
        control_socket: config_dir.join("satellite.sock"),
        platforms: PlatformFilter::all(),
        json_logging: None,
        traces: None,
        shutdown_timeout: Duration::from_secs(1),
        scrub_interval: Duration::from_secs(3600),
        listen_unsecure: true,
        lan: None,
        local_namespaces: super::LocalNamespaces::default(),
        kept_namespaces: super::LocalNamespaces::default(),
        docker_mirror_listen: None,
        runtimes: Runtimes::default(),
        layer,
        warnings: Vec::new(),
    }
}
