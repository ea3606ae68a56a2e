//! `satellite node-agent`: what runs on each node of a cluster. It reads none of the satellite's settings.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use url::Url;

use super::mirrors::Wish;
use super::{boolean, duration, http_url, mirrors_value, places_value};
use crate::config::LogLevel;
use crate::config::mirrors::places;

/// The settings of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AgentFlags {
    /// The site's satellite as this node reaches it: https://satellite.site:8586
    #[arg(long, value_name = "URL", value_parser = site)]
    pub site: Url,
    /// File with the site's token.
    #[arg(long, value_name = "FILE")]
    pub site_token_file: PathBuf,
    /// PEM file of the authority that signs the satellite's certificate (`satellite ca export`) [default: the public ones]
    #[arg(long, value_name = "FILE")]
    pub site_ca: Option<PathBuf>,
    /// The runtime's CRI socket, unix:///run/containerd/containerd.sock; auto takes the first that answers of those of k3s
    /// and RKE2, containerd and CRI-O.
    #[arg(long, value_name = "URI", default_value = "auto", value_parser = endpoint)]
    pub runtime_endpoint: RuntimeEndpoint,
    /// What this node is called at the site [default: the host's name]
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    pub node_name: Option<String>,
    /// Where the list of own images is kept; it has to outlive restarts of the agent.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/harbor-satellite/node-agent")]
    pub state_dir: PathBuf,
    /// Time between two looks at the node's images; changes of the plan are seen at once.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub interval: Duration,
    /// The longest that one pull may take.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub pull_timeout: Duration,
    /// Where the machine's root is mounted, as seen from here: /host in a container.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub host_root: PathBuf,
    /// Shell command that has a runtime read its configuration again where neither systemd nor OpenRC does: $1 is crio or
    /// docker, $2 is reload.
    #[arg(long, value_name = "COMMAND")]
    pub restart_command: Option<String>,
    /// Runtimes of this node and the registries to mirror in them, as containerd:docker.io,quay.io (repeatable; in the
    /// variable between semicolons): the agent keeps their mirrors, and with them the satellite, in their configuration. It
    /// restarts none, and reloads where that suffices. Without it what it wrote goes, and anything else is left alone.
    #[arg(long, value_name = "RUNTIME:HOSTS", value_parser = mirrors_value, help_heading = "Mirrors")]
    pub mirrors: Vec<String>,
    /// The satellite's registry as this node's runtimes reach it [default: the site]
    #[arg(long, value_name = "URL", value_parser = super::mirrors::endpoint, help_heading = "Mirrors")]
    pub mirror_endpoint: Option<String>,
    /// PEM file of the authority that the registry's certificate is checked by [default: the site's]
    #[arg(long, value_name = "FILE", help_heading = "Mirrors")]
    pub mirror_ca: Option<PathBuf>,
    /// Account at the registry. A registry for the LAN lets nobody in without one.
    #[arg(long, value_name = "NAME", requires = "mirror_password_file", help_heading = "Mirrors")]
    pub mirror_username: Option<String>,
    /// File with that account's password. It is read again when the mirrors are looked at.
    #[arg(long, value_name = "FILE", requires = "mirror_username", help_heading = "Mirrors")]
    pub mirror_password_file: Option<PathBuf>,
    /// Where the registry keeps another one's repositories, as quay.io=mirror/quay (repeatable; in the variable between
    /// semicolons). Only CRI-O and Podman need it.
    #[arg(long, value_name = "HOST=PREFIX", value_parser = places_value, help_heading = "Mirrors")]
    pub mirror_path: Vec<String>,
    /// Mirror of the nodes among each other (Spegel) that containerd asks before the satellite, by digest: its URL, auto for
    /// this node's address and port 30020, or none (repeatable; in the variable between semicolons) [default: auto]
    #[arg(long, value_name = "URL", value_parser = crate::config::mirrors::peer_flag, help_heading = "Mirrors")]
    pub mirror_peer: Vec<String>,
    /// This node's address, for the peer; a pod has another one [default: the one from which others are reached]
    #[arg(long, value_name = "ADDRESS", help_heading = "Mirrors")]
    pub node_address: Option<IpAddr>,
    /// Also give a mirror beyond loopback to runtimes that wait long for one that is silent: containerd before 2.1, Podman,
    /// CRI-O.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Mirrors")]
    pub allow_slow_fallback: Option<bool>,
    /// How much is logged: error, warn, info, debug, trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log_level: LogLevel,
    /// Log as JSON lines [default: true; on a terminal false]
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub json_logging: Option<bool>,
}

impl AgentFlags {
    /// The mirrors that are asked for, as by hand.
    pub(crate) fn mirror_wish(&self) -> Wish {
        let each = |values: &[String]| -> Vec<String> {
            let values = values.iter().flat_map(|value| value.split(';')).map(str::trim);
            values.filter(|value| !value.is_empty()).map(str::to_owned).collect()
        };
        let endpoint = self.mirror_endpoint.clone().unwrap_or_else(|| self.site.to_string());
        let site_ca = self.site_ca.clone().filter(|_| endpoint.starts_with("https://"));
        Wish {
            mirrors: each(&self.mirrors),
            docker_endpoint: None,
            ca: self.mirror_ca.clone().or(site_ca),
            username: self.mirror_username.clone(),
            password_file: self.mirror_password_file.clone(),
            client_cert: None,
            client_key: None,
            // Each was parsed when it was given.
            paths: places(&self.mirror_path).unwrap_or_default().into_iter().collect(),
            peers: each(&self.mirror_peer),
            allow_slow_fallback: self.allow_slow_fallback == Some(true),
            keep_legacy: false,
            endpoint,
        }
    }
}

/// Which socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEndpoint {
    /// The first that answers.
    Auto,
    /// This one.
    Socket(PathBuf),
}

fn endpoint(text: &str) -> Result<RuntimeEndpoint, String> {
    if text == "auto" {
        return Ok(RuntimeEndpoint::Auto);
    }
    let path = PathBuf::from(text.strip_prefix("unix://").unwrap_or(text));
    if !path.is_absolute() {
        return Err("must be auto or unix:///path/of/a.sock".to_owned());
    }
    Ok(RuntimeEndpoint::Socket(path))
}

/// The token travels there: plain HTTP on loopback only.
fn site(text: &str) -> Result<Url, String> {
    let url = http_url(text)?;
    let loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() != "https" && !loopback {
        return Err("must be an https:// URL: the token would travel in clear".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("must name a host and a port, without a path".to_owned());
    }
    Ok(url)
}

fn node_name(text: &str) -> Result<String, String> {
    if crate::site::wire::is_node_name(text) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 253 letters, digits, dots, hyphens and underscores".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_does_not_travel_in_clear() {
        for good in
            ["https://s:8586", "https://s", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1/"]
        {
            assert!(site(good).is_ok(), "{good}");
        }
        for bad in ["http://s:8586", "s:8586", "https://s/path", "https://u:p@s", "https://s?x", "unix:///x"]
        {
            assert!(site(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_runtime_is_a_socket() {
        let socket = RuntimeEndpoint::Socket(PathBuf::from("/run/c.sock"));
        assert_eq!(endpoint("unix:///run/c.sock"), Ok(socket.clone()));
        assert_eq!(endpoint("/run/c.sock"), Ok(socket));
        assert_eq!(endpoint("auto"), Ok(RuntimeEndpoint::Auto));
        assert!(endpoint("tcp://127.0.0.1:1").is_err() && endpoint("unix://c.sock").is_err());
    }
}
