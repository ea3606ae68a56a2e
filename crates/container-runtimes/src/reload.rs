//! What has to happen before a runtime sees its changed files. [`crate::service`] does it.

use serde::{Deserialize, Serialize};

use crate::runtime::Runtime;

/// The least that makes a runtime read its configuration again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
        _ if changed.iter().all(|path| is_read_at_pull(path)) => Means::Nothing,
        Runtime::Docker | Runtime::Crio => Means::Reload,
        Runtime::Containerd | Runtime::K3s | Runtime::Rke2 => Means::Restart,
    };
    let means = if changed.is_empty() { Means::Nothing } else { means };
    Due { runtime, means, services: services(runtime) }
}

/// Mirrors of containerd, certificates and accounts are read at every pull; the configuration itself at start.
fn is_read_at_pull(path: &str) -> bool {
    path.ends_with("/hosts.toml") || path.ends_with("/auth.json") || path.contains(crate::plan::CERTIFICATE)
}

/// The services of a runtime, whichever of them is there.
pub(crate) fn services(runtime: Runtime) -> Vec<String> {
    let services: &[&str] = match runtime {
        Runtime::Containerd => &["containerd"],
        Runtime::Docker => &["docker"],
        Runtime::Podman => &[],
        Runtime::Crio => &["crio"],
        Runtime::K3s => &["k3s", "k3s-agent"],
        Runtime::Rke2 => &["rke2-server", "rke2-agent"],
    };
    services.iter().map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_restarted_without_need() {
        let means = |runtime, files: &[&str]| {
            due(runtime, &files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>()).means
        };
        assert_eq!(means(Runtime::Containerd, &["/x/quay.io/hosts.toml"]), Means::Nothing);
        assert_eq!(
            means(Runtime::Containerd, &["/x/hosts.toml", "/etc/containerd/config.toml"]),
            Means::Restart
        );
        assert_eq!(means(Runtime::Docker, &["/etc/docker/daemon.json"]), Means::Reload);
        assert_eq!(means(Runtime::Docker, &["/etc/docker/certs.d/m:1/satellite-mirror.crt"]), Means::Nothing);
        assert_eq!(means(Runtime::Containerd, &["/x/m:1/satellite-mirror.crt"]), Means::Nothing);
        assert_eq!(means(Runtime::Crio, &["/root/.config/containers/auth.json"]), Means::Nothing);
        assert_eq!(means(Runtime::Podman, &["/etc/containers/registries.conf"]), Means::Nothing);
        assert_eq!(means(Runtime::K3s, &["/etc/rancher/k3s/registries.yaml"]), Means::Restart);
        assert_eq!(means(Runtime::Rke2, &[]), Means::Nothing);
    }
}
