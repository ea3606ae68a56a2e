//! What has to happen before a runtime sees its changed files. Told, not done.

use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;

/// The least that makes a runtime read its configuration again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// It reads the file at every use.
    Nothing,
    /// SIGHUP, or the service manager's reload: containers go on.
    Reload,
    /// Only a restart of the service.
    Restart,
}

/// A runtime whose files have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// Which.
    pub runtime: Runtime,
    /// By which means.
    pub means: Means,
    /// Its services, whichever of them is there.
    pub services: Vec<String>,
}

/// What is due for a runtime after these files changed.
pub fn due(runtime: Runtime, changed: &[String]) -> Due {
    let means = match runtime {
        Runtime::Podman => Means::Nothing,
        // hosts.toml and certificates are read at every pull, config.toml at start.
        Runtime::Containerd if changed.iter().all(|path| path.contains("/certs.d/")) => Means::Nothing,
        Runtime::Docker | Runtime::Crio => Means::Reload,
        Runtime::Containerd | Runtime::K3s | Runtime::Rke2 => Means::Restart,
    };
    let services: &[&str] = match runtime {
        Runtime::Containerd => &["containerd"],
        Runtime::Docker => &["docker"],
        Runtime::Podman => &[],
        Runtime::Crio => &["crio"],
        Runtime::K3s => &["k3s", "k3s-agent"],
        Runtime::Rke2 => &["rke2-server", "rke2-agent"],
    };
    let means = if changed.is_empty() { Means::Nothing } else { means };
    Due { runtime, means, services: services.iter().map(|name| (*name).to_owned()).collect() }
}
