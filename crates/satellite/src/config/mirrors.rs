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

/// Says that there shall be no such mirror.
const NO_PEER: &str = "none";

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
    /// The peer as a runtime is told of it. `own` is this machine's address, where that was said.
    fn resolve(&self, own: Option<IpAddr>) -> Result<Peer, String> {
        let (url, here) = match self {
            Self::At(url) => (url.clone(), false),
            Self::Auto => {
                let own = own.map_or_else(own_address, Ok)?;
                (format!("http://{}", SocketAddr::new(own, PEER_PORT)), true)
            }
        };
        Peer::new(&url, here).map_err(|error| error.to_string())
    }
}

/// The peers as runtimes are told of them. Where nothing is said, a cluster's node has its own, and any other machine none:
/// there nobody would ever answer.
///
/// # Errors
/// Where this machine's own address is asked for and not known, in words.
pub(crate) fn resolved_peers(
    said: Option<&[MirrorPeer]>,
    of_a_cluster: bool,
    own: Option<IpAddr>,
) -> Result<Vec<Peer>, String> {
    match said {
        Some(peers) => peers.iter().map(|peer| peer.resolve(own)).collect(),
        None if of_a_cluster => Ok(MirrorPeer::Auto.resolve(own).map_or_else(
            |why| {
                tracing::debug!(why, "no peer named to the runtimes");
                Vec::new()
            },
            |peer| vec![peer],
        )),
        None => Ok(Vec::new()),
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

/// The values of `--mirror-peer` and `--peer`; a variable holds several between semicolons. None where nothing is said; an
/// empty list for `none`.
pub(crate) fn peers(values: &[String]) -> Result<Option<Vec<MirrorPeer>>, String> {
    let values = values.iter().flat_map(|value| value.split(';')).map(str::trim);
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.is_empty() { Ok(None) } else { peer_list(&values).map(Some) }
}

/// The list of a document.
pub(super) fn peer_list<S: AsRef<str>>(values: &[S]) -> Result<Vec<MirrorPeer>, String> {
    match values {
        [one] if one.as_ref().trim() == NO_PEER => Ok(Vec::new()),
        all if all.iter().any(|value| value.as_ref().trim() == NO_PEER) => {
            Err(format!("`{NO_PEER}` stands alone or not at all"))
        }
        all => all.iter().map(|value| value.as_ref().parse()).collect(),
    }
}

/// One value of such a flag.
pub(crate) fn peer_flag(text: &str) -> Result<String, String> {
    peers(&[text.to_owned()]).map(|_| text.to_owned())
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
pub(crate) fn places(values: &[String]) -> Result<BTreeMap<String, String>, String> {
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
    fn a_node_of_a_cluster_has_a_peer_unless_it_is_told_otherwise() {
        let own = Some("192.0.2.7".parse().unwrap());
        let urls = |values: &[&str], of_a_cluster| -> Vec<String> {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            let said = peers(&values).unwrap();
            let peers = resolved_peers(said.as_deref(), of_a_cluster, own).unwrap();
            peers.iter().map(|peer| peer.url().to_owned()).collect()
        };
        let default = ["http://192.0.2.7:30020"];
        assert_eq!(urls(&[], true), default);
        assert_eq!(urls(&[], false), <[&str; 0]>::default());
        assert_eq!(urls(&["auto"], false), default);
        assert_eq!(urls(&["none"], true), <[&str; 0]>::default());
        assert_eq!(urls(&[" ;"], true), default, "an empty variable says nothing");
        assert_eq!(urls(&["auto;http://10.0.0.7:1"], true), [default[0], "http://10.0.0.7:1"]);
        assert!(peers(&["none".to_owned(), "auto".to_owned()]).is_err());
        let six = resolved_peers(None, true, Some("2001:db8::7".parse().unwrap())).unwrap();
        assert_eq!(six[0].url(), "http://[2001:db8::7]:30020");
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
