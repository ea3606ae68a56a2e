//! Mirrors of the container runtimes, as flags and documents ask for them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use container_runtimes::plan::Peer;
use container_runtimes::{MirrorRequest, parse_mirrors};
use fleet_protocol::config::RegistryFallback;

/// What is mirrored where a document names nothing.
const DEFAULT_REGISTRY: &str = "docker.io";

/// The port on which a node's Spegel serves, as its chart has it.
const PEER_PORT: u16 = 30020;

/// A mirror of the cluster's nodes among each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorPeer {
    /// At this node's own address, port 30020.
    Auto,
    /// At this URL.
    At(String),
}

impl FromStr for MirrorPeer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "auto" => Ok(Self::Auto),
            url => {
                let peer = Peer::new(url, false).map_err(|error| error.to_string())?;
                Ok(Self::At(peer.url().to_owned()))
            }
        }
    }
}

impl MirrorPeer {
    /// The peer as a runtime is told of it.
    ///
    /// # Errors
    /// Where this machine's own address is not known, in words.
    pub(crate) fn resolve(&self) -> Result<Peer, String> {
        let (url, here) = match self {
            Self::At(url) => (url.clone(), false),
            Self::Auto => (format!("http://{}", SocketAddr::new(own_address()?, PEER_PORT)), true),
        };
        Peer::new(&url, here).map_err(|error| error.to_string())
    }
}

/// The address from which this machine reaches others. Nothing is sent: a route is looked up.
fn own_address() -> Result<IpAddr, String> {
    // RFC 5737 and RFC 3849: addresses of documentation, which are routed like any other.
    let towards = |local: (IpAddr, u16), remote: (IpAddr, u16)| {
        let socket = UdpSocket::bind(local)?;
        socket.connect(remote)?;
        Ok::<_, std::io::Error>(socket.local_addr()?.ip())
    };
    let v4 = || towards((Ipv4Addr::UNSPECIFIED.into(), 0), (Ipv4Addr::new(192, 0, 2, 1).into(), 9));
    let v6 = || {
        let documentation = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        towards((Ipv6Addr::UNSPECIFIED.into(), 0), (documentation.into(), 9))
    };
    v4().or_else(|_| v6()).map_err(|error| {
        format!("this machine's own address is not known ({error}); name the peer by its URL")
    })
}

/// The values of `--mirror-peer`; a variable holds several between semicolons.
pub(super) fn peers(values: &[String]) -> Result<Option<Vec<MirrorPeer>>, String> {
    let values = values.iter().flat_map(|value| value.split(';')).filter(|value| !value.trim().is_empty());
    let peers = values.map(str::parse).collect::<Result<Vec<MirrorPeer>, String>>()?;
    Ok((!peers.is_empty()).then_some(peers))
}

/// One value of `--peer`.
pub(crate) fn peer_flag(text: &str) -> Result<MirrorPeer, String> {
    text.parse()
}

/// What `registry_fallback` asks for: nothing said, nothing wanted, or these. An error begins with the key.
pub(super) fn of_document(fallback: &RegistryFallback) -> Result<Option<Vec<MirrorRequest>>, String> {
    match fallback.enabled {
        None => return Ok(None),
        Some(false) => return Ok(Some(Vec::new())),
        Some(true) => {}
    }
    let said = |list: &Option<Vec<String>>, default: &str| {
        let list: Vec<String> = list.iter().flatten().map(|text| text.trim().to_owned()).collect();
        if list.iter().all(String::is_empty) { vec![default.to_owned()] } else { list }
    };
    let registries = said(&fallback.registries, DEFAULT_REGISTRY);
    // So that what is wrong is told by its key.
    parse_mirrors(&[format!("auto:{}", registries.join(","))])
        .map_err(|error| format!("registries: {error}"))?;
    let mut values = Vec::new();
    for runtime in said(&fallback.runtimes, "auto") {
        // One list for all of them: Docker takes of it what it can mirror.
        let docker = runtime.eq_ignore_ascii_case("docker");
        match (docker, registries.iter().any(|registry| registry == DEFAULT_REGISTRY)) {
            (true, false) => {}
            (true, true) => values.push("docker:true".to_owned()),
            (false, _) => values.push(format!("{runtime}:{}", registries.join(","))),
        }
    }
    parse_mirrors(&values).map(Some).map_err(|error| format!("runtimes: {error}"))
}

/// A host, and the prefix of its repositories here.
pub(super) fn place(host: &str, prefix: &str) -> Result<(String, String), String> {
    let prefix = prefix.trim_matches('/');
    if host.trim().is_empty() || host.contains(['/', ' ']) {
        return Err(format!("`{host}` is no registry host"));
    }
    if !prefix.is_empty() && prefix.parse::<oci::RepositoryName>().is_err() {
        return Err(format!("`{prefix}` is no beginning of a repository's name"));
    }
    Ok((host.trim().to_ascii_lowercase(), prefix.to_owned()))
}

/// The values of `--mirror-path`; a variable holds several between semicolons.
pub(super) fn places(values: &[String]) -> Result<BTreeMap<String, String>, String> {
    values
        .iter()
        .flat_map(|value| value.split(';'))
        .filter(|value| !value.trim().is_empty())
        .map(place_flag)
        .collect()
}

/// `HOST=PREFIX`.
pub(crate) fn place_flag(text: &str) -> Result<(String, String), String> {
    let (host, prefix) = text.split_once('=').ok_or("must be HOST=PREFIX")?;
    place(host, prefix)
}

/// The values of `--mirrors`; a variable holds several between semicolons.
pub(super) fn of_flags(values: &[String]) -> Result<Option<Vec<MirrorRequest>>, String> {
    let values: Vec<&str> = values
        .iter()
        .flat_map(|value| value.split(';'))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect();
    if values.is_empty() {
        return Ok(None);
    }
    parse_mirrors(&values).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use container_runtimes::{Runtime, RuntimeChoice};
    use serde_json::json;

    use super::*;

    fn wanted(document: serde_json::Value) -> Result<Option<Vec<MirrorRequest>>, String> {
        of_document(&serde_json::from_value(document).unwrap())
    }

    #[test]
    fn a_document_asks_for_one_list_in_each_runtime() {
        assert_eq!(wanted(json!({})), Ok(None));
        assert_eq!(wanted(json!({"enabled": false, "registries": ["quay.io"]})), Ok(Some(Vec::new())));
        let all =
            wanted(json!({"enabled": true, "registries": ["docker.io"], "runtimes": []})).unwrap().unwrap();
        assert_eq!(
            (all[0].runtime, all[0].registries.as_slice()),
            (RuntimeChoice::Auto, ["docker.io".to_owned()].as_slice())
        );
        let some = json!({"enabled": true, "registries": ["docker.io", "quay.io"], "runtimes": ["containerd", "docker"]});
        let some = wanted(some).unwrap().unwrap();
        assert_eq!(some[0].registries, ["docker.io", "quay.io"]);
        assert_eq!(
            (some[1].runtime, some[1].registries.as_slice()),
            (RuntimeChoice::One(Runtime::Docker), ["docker.io".to_owned()].as_slice())
        );
        assert_eq!(
            wanted(json!({"enabled": true, "registries": ["quay.io"], "runtimes": ["docker"]})),
            Ok(Some(Vec::new()))
        );
        for (document, key) in [
            (json!({"enabled": true, "registries": ["https://quay.io"]}), "registries:"),
            (json!({"enabled": true, "runtimes": ["rkt"]}), "runtimes:"),
        ] {
            assert!(wanted(document).unwrap_err().starts_with(key));
        }
    }

    #[test]
    fn a_place_is_a_host_and_a_prefix() {
        assert_eq!(place_flag("Quay.io=mirror/quay/"), Ok(("quay.io".to_owned(), "mirror/quay".to_owned())));
        assert_eq!(place_flag("h:5000="), Ok(("h:5000".to_owned(), String::new())));
        for text in ["quay.io", "=x", "a/b=x", "h=UP", "h=a//b"] {
            assert!(place_flag(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_variable_holds_several() {
        let values = ["containerd:docker.io,quay.io; podman:docker.io".to_owned()];
        assert_eq!(of_flags(&values).unwrap().unwrap().len(), 2);
        assert_eq!(of_flags(&[]), Ok(None));
        assert!(of_flags(&["x".to_owned()]).is_err());
    }
}
