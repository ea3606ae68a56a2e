//! The runtimes by name, and the `--mirrors` flag.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A container runtime whose configuration can name mirrors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// containerd 1.x and 2.x.
    Containerd,
    /// Docker Engine; mirrors of docker.io only.
    Docker,
    /// Podman, and with it buildah and skopeo.
    Podman,
    /// CRI-O.
    Crio,
    /// k3s, which configures a containerd of its own.
    K3s,
    /// RKE2, likewise.
    Rke2,
}

impl Runtime {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Containerd, Self::Docker, Self::Podman, Self::Crio, Self::K3s, Self::Rke2];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Crio => "crio",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "cri-o" => Some(Self::Crio),
            _ => Self::ALL.into_iter().find(|runtime| runtime.name() == name),
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The runtime of a `--mirrors` value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuntimeChoice {
    /// This one, whether it was found or not.
    One(Runtime),
    /// Each one that is installed.
    Auto,
}

/// One `--mirrors` value: a runtime and the registries to mirror in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorRequest {
    /// Which runtime.
    pub runtime: RuntimeChoice,
    /// Registry hosts (`docker.io`, `registry.example.com:5000`), in order, each once; never empty.
    pub registries: Vec<String>,
}

/// What is wrong with a `--mirrors` value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No `runtime:` part.
    #[error("`{0}` names no runtime; write RUNTIME:HOST,HOST such as containerd:docker.io,quay.io")]
    NoRuntime(String),
    /// Not a runtime that can be configured.
    #[error(
        "`{0}` is no runtime that can be configured; known are containerd, docker, podman, crio, k3s, rke2 and auto"
    )]
    UnknownRuntime(String),
    /// No registry after the colon.
    #[error("`{0}` names no registry; write RUNTIME:HOST,HOST such as containerd:docker.io,quay.io")]
    NoRegistry(String),
    /// Not a registry host.
    #[error("`{0}` is no registry host; write a host, or host:port, without scheme or path")]
    BadRegistry(String),
    /// Docker mirrors nothing but docker.io.
    #[error("Docker can have mirrors of docker.io only, not of {0}; write docker:docker.io or docker:true")]
    DockerOnlyHub(String),
}

/// Reads `--mirrors` values: `containerd:docker.io,quay.io`, `podman:docker.io`, and for Docker also `docker:true`.
///
/// Several values for one runtime are joined. `docker:false` asks for nothing. Order is kept.
pub fn parse_mirrors<S: AsRef<str>>(values: &[S]) -> Result<Vec<MirrorRequest>, SpecError> {
    let mut requests: Vec<MirrorRequest> = Vec::new();
    for value in values {
        let value = value.as_ref().trim();
        let (name, hosts) = value.split_once(':').ok_or_else(|| SpecError::NoRuntime(value.to_owned()))?;
        let runtime = match name.trim().to_ascii_lowercase().as_str() {
            "" => return Err(SpecError::NoRuntime(value.to_owned())),
            "auto" => RuntimeChoice::Auto,
            name => RuntimeChoice::One(
                Runtime::from_name(name).ok_or_else(|| SpecError::UnknownRuntime(name.to_owned()))?,
            ),
        };
        let docker = runtime == RuntimeChoice::One(Runtime::Docker);
        let hosts = match hosts.trim() {
            "true" if docker => "docker.io",
            "false" if docker => continue,
            hosts => hosts,
        };
        let mut registries = Vec::new();
        for host in hosts.split(',').map(str::trim).filter(|host| !host.is_empty()) {
            let host = registry_host(host)?;
            if docker && host != "docker.io" {
                return Err(SpecError::DockerOnlyHub(host));
            }
            registries.push(host);
        }
        if registries.is_empty() {
            return Err(SpecError::NoRegistry(value.to_owned()));
        }
        if !requests.iter().any(|request| request.runtime == runtime) {
            requests.push(MirrorRequest { runtime, registries: Vec::new() });
        }
        for request in requests.iter_mut().filter(|request| request.runtime == runtime) {
            for host in &registries {
                if !request.registries.contains(host) {
                    request.registries.push(host.clone());
                }
            }
        }
    }
    Ok(requests)
}

fn registry_host(host: &str) -> Result<String, SpecError> {
    let bad = || SpecError::BadRegistry(host.to_owned());
    let lower = host.to_ascii_lowercase();
    let (name, port) =
        lower.split_once(':').map_or((lower.as_str(), None), |(name, port)| (name, Some(port)));
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(bad());
    }
    if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
        return Err(bad());
    }
    // A word without dot or port is a repository of docker.io to every runtime, never a registry.
    if !name.contains('.') && port.is_none() && name != "localhost" {
        return Err(bad());
    }
    Ok(match lower.as_str() {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => "docker.io".to_owned(),
        _ => lower,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(runtime: Runtime, hosts: &[&str]) -> MirrorRequest {
        MirrorRequest {
            runtime: RuntimeChoice::One(runtime),
            registries: hosts.iter().map(|host| (*host).to_owned()).collect(),
        }
    }

    #[test]
    fn the_documented_forms() {
        assert_eq!(
            parse_mirrors(&["containerd:docker.io,quay.io", "podman:docker.io", "docker:true"]).unwrap(),
            [
                one(Runtime::Containerd, &["docker.io", "quay.io"]),
                one(Runtime::Podman, &["docker.io"]),
                one(Runtime::Docker, &["docker.io"]),
            ],
        );
        assert_eq!(
            parse_mirrors(&["crio:quay.io", "crio:quay.io,registry.example.com:5000"]).unwrap(),
            [one(Runtime::Crio, &["quay.io", "registry.example.com:5000"])],
        );
        assert_eq!(parse_mirrors(&["docker:false"]).unwrap(), []);
        assert_eq!(parse_mirrors(&["auto:docker.io"]).unwrap()[0].runtime, RuntimeChoice::Auto);
        assert_eq!(parse_mirrors::<&str>(&[]).unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (value, error) in [
            ("docker.io", SpecError::NoRuntime("docker.io".into())),
            (":docker.io", SpecError::NoRuntime(":docker.io".into())),
            ("rkt:docker.io", SpecError::UnknownRuntime("rkt".into())),
            ("containerd:", SpecError::NoRegistry("containerd:".into())),
            ("containerd:true", SpecError::BadRegistry("true".into())),
            ("containerd:https://quay.io", SpecError::BadRegistry("https://quay.io".into())),
            ("containerd:quay.io/x", SpecError::BadRegistry("quay.io/x".into())),
            ("containerd:quay.io:0", SpecError::BadRegistry("quay.io:0".into())),
            ("docker:quay.io", SpecError::DockerOnlyHub("quay.io".into())),
        ] {
            assert_eq!(parse_mirrors(&[value]), Err(error), "{value}");
        }
    }
}
