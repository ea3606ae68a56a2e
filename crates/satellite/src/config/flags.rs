//! The command line. This is where every setting is documented: `satellite --help` is the reference.
//!
//! Each flag's variable is its name in capitals with `_` for `-` (`--config-dir` is `CONFIG_DIR`), which the help text
//! shows; there is no setting that only one of the two can give. An empty value is an unset one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use fleet_protocol::schedule::{Schedule, parse_go_duration};
use oci::PlatformFilter;
use secrecy::SecretString;
use url::Url;

use super::{ExpectedServer, ImagePlatforms, LogLevel};

pub mod export;
pub mod lan;
pub mod mirrors;
pub mod node_agent;

/// Keeps the artifacts of its groups whole at the edge and serves them with the cloud gone.
///
/// Precedence: flag, environment, .env in the working directory, <config-dir>/config.json, configuration from Ground
/// Control, default. Durations are written as 30s, 10m, 1h30m; schedules as `@every 30s` or five cron fields.
#[derive(Debug, Parser)]
#[command(name = "satellite", version, max_term_width = 110)]
pub struct Cli {
    /// What to do; without a command the satellite runs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings.
    #[command(flatten)]
    pub flags: Flags,
}

/// What can be done besides running.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Questions to a satellite that runs.
    #[command(flatten)]
    Ask(Question),
    /// Configure mirrors in the container runtimes of this machine, by hand. No satellite need run here.
    Mirrors {
        /// What to do.
        #[command(subcommand)]
        action: Box<mirrors::MirrorsAction>,
    },
    /// This satellite's own authority for the LAN.
    Ca {
        /// What to do.
        #[command(subcommand)]
        action: lan::CaAction,
    },
    /// Write images that the satellite holds into one file, from which a container runtime takes them.
    ///
    /// The running satellite is asked; where none runs, its store is opened. Exit code 0: the file is complete; 1: an image
    /// is not here, or the file cannot be written; 2: the command line is wrong; 3: there is neither a satellite nor a store.
    Export(Box<export::Export>),
    /// Accounts for the LAN.
    Accounts {
        /// What to do.
        #[command(subcommand)]
        action: lan::AccountsAction,
    },
    /// Run on a node of a cluster: have its container runtime hold what the site's satellite holds.
    NodeAgent(Box<node_agent::AgentFlags>),
}

/// What can be asked of a satellite that runs.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Question {
    /// Show how the running satellite is: registration, schedulers, transfers, failures, conflicts.
    ///
    /// Exit code 0: healthy; 1: it runs, and something needs a person; 3: it does not run.
    Status(Output),
    /// List the artifacts that the running satellite holds or tries to hold.
    ///
    /// Exit code 0: all are there; 1: some failed; 3: it does not run.
    Images(Output),
    /// Make the running satellite look at its desired state now.
    Sync,
    /// Give the running satellite a new one-time token, read from the standard input.
    Token,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Output {
    /// Print the document as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The settings, as they can be given.
#[derive(Debug, Args)]
pub struct Flags {
    /// Base URL of Ground Control. Without it nothing is registered, and what is held is served.
    #[arg(long, value_name = "URL", value_parser = http_url, help_heading = "Control plane")]
    pub ground_control_url: Option<Url>,
    /// One-time token to register with. As a flag it shows in the process list: prefer the variable.
    #[arg(long, value_name = "TOKEN", value_parser = secret, help_heading = "Control plane")]
    pub token: Option<SecretString>,
    /// Replaces scheme and host of every registry URL that Ground Control hands out (a proxy or a site-local name).
    #[arg(long, value_name = "URL", value_parser = registry_url, help_heading = "Control plane")]
    pub harbor_registry_url: Option<Url>,
    /// Allow plain HTTP to registries and Ground Control beyond loopback. Never turns certificate checks off.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Control plane")]
    pub use_unsecure: Option<bool>,
    /// PEM file of certificate authorities to trust beside the public ones.
    #[arg(long, value_name = "FILE", help_heading = "Control plane")]
    pub tls_ca_file: Option<PathBuf>,
    /// Check no certificates at all. For laboratories.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Control plane")]
    pub tls_skip_verify: Option<bool>,
    /// Identify by an X.509-SVID of the SPIFFE Workload API instead of a token.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Identity")]
    pub spiffe_enabled: Option<bool>,
    /// Where the Workload API is: unix:///path or tcp://address:port [default: unix:///run/spire/sockets/agent.sock]
    #[arg(long, value_name = "URI", value_parser = super::identity::endpoint, help_heading = "Identity")]
    pub spiffe_endpoint_socket: Option<String>,
    /// The SPIFFE ID that Ground Control must show, or `any` for anybody of the trust domain [default:
    /// spiffe://<own trust domain>/gc/main]
    #[arg(long, value_name = "ID", value_parser = super::identity::expected_server, help_heading = "Identity")]
    pub spiffe_expected_server_id: Option<ExpectedServer>,
    /// File with a one-time join token of the authority that is built into Ground Control. A new one is taken without a
    /// restart. Needs no SPIFFE_ENABLED.
    #[arg(long, value_name = "FILE", help_heading = "Identity")]
    pub join_token_file: Option<PathBuf>,
    /// PEM file of the trust bundle that Ground Control's certificate is checked against at first. Needed once; the
    /// satellite then keeps what it is told.
    #[arg(long, value_name = "FILE", help_heading = "Identity")]
    pub trust_bundle_file: Option<PathBuf>,
    /// When registration is tried until it succeeds [default: @every 30s]
    #[arg(long, value_name = "SCHEDULE", value_parser = schedule, help_heading = "Control plane")]
    pub register_satellite_interval: Option<Schedule>,
    /// When the heartbeat is sent [default: @every 30s]
    #[arg(long, value_name = "SCHEDULE", value_parser = schedule, help_heading = "Control plane")]
    pub heartbeat_interval: Option<Schedule>,

    /// When the desired state is read and replicated [default: @every 10s]
    #[arg(long, value_name = "SCHEDULE", value_parser = schedule, help_heading = "Replication")]
    pub state_replication_interval: Option<Schedule>,
    /// How often signatures and other referrers of an unchanged digest are looked for again [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Replication")]
    pub referrers_interval: Option<Duration>,
    /// Platforms to replicate, as linux/amd64,linux/arm64/v8 [default: all]
    #[arg(long, value_name = "LIST", value_parser = platforms, help_heading = "Replication")]
    pub platforms: Option<PlatformFilter>,
    /// Replicate into a registry of the site's own instead of the local store.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Replication")]
    pub byo_registry: Option<bool>,
    /// URL of that registry; a path is a prefix for every repository.
    #[arg(long, value_name = "URL", value_parser = registry_url, help_heading = "Replication")]
    pub registry_url: Option<Url>,
    /// Account at that registry.
    #[arg(long, value_name = "NAME", help_heading = "Replication")]
    pub registry_username: Option<String>,
    /// Its password. As a flag it shows in the process list: prefer the variable.
    #[arg(long, value_name = "PASSWORD", value_parser = secret, help_heading = "Replication")]
    pub registry_password: Option<SecretString>,

    /// Address and port of the local registry, plain and open to everybody of this machine [default: 127.0.0.1:8585]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen, help_heading = "Local registry")]
    pub registry_listen: Option<SocketAddr>,
    /// The registry towards the site's own network.
    #[command(flatten)]
    pub lan: lan::LanFlags,
    /// Where the artifacts are kept [default: <config-dir>/registry]
    #[arg(long, value_name = "DIR", help_heading = "Local registry")]
    pub registry_data_dir: Option<PathBuf>,
    /// How long a blob that nothing names any more is kept [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Local registry")]
    pub gc_grace: Option<Duration>,
    /// Time between two garbage collections [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Local registry")]
    pub gc_interval: Option<Duration>,
    /// Time between two scrubs, which read every stored byte and check its digest [default: 168h]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Local registry")]
    pub scrub_interval: Option<Duration>,

    /// Where configuration, identity and the status socket are [default: $XDG_CONFIG_HOME/satellite or
    /// ~/.config/satellite]. Made with mode 0700.
    #[arg(long, value_name = "DIR", global = true, help_heading = "Process")]
    pub config_dir: Option<PathBuf>,
    /// The local status socket [default: <config-dir>/satellite.sock]
    #[arg(long, value_name = "PATH", global = true, help_heading = "Process")]
    pub control_socket: Option<PathBuf>,
    /// How much is logged: error, warn, info, debug, trace [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Process")]
    pub log_level: Option<LogLevel>,
    /// Log as JSON lines [default: true; on a terminal false]
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Process")]
    pub json_logging: Option<bool>,
    /// Collector (OTLP/HTTP) that gets spans of what is asked of Ground Control, as https://collector.example.com:4318
    #[arg(long, value_name = "URL", help_heading = "Process")]
    pub otel_exporter_otlp_endpoint: Option<Url>,
    /// How long pulls in progress may take to end at SIGTERM or SIGINT [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Process")]
    pub shutdown_timeout: Option<Duration>,

    /// Container runtimes that pull from here first, as containerd:docker.io,quay.io (repeatable; in the variable between
    /// semicolons). Runtimes: containerd, docker (docker.io only; also docker:true), podman, crio, k3s, rke2, and auto for
    /// all that are installed. Needs root; beside a satellite without it, `satellite mirrors apply` does the same.
    #[arg(long, value_name = "RUNTIME:HOSTS", value_parser = mirrors_value, help_heading = "Container runtimes")]
    pub mirrors: Vec<String>,
    /// Where the local registry keeps the repositories of an upstream host, as quay.io=mirror/quay (repeatable; in the
    /// variable between semicolons) [default: docker.io and the central registry under their own path, any other host under
    /// its name]
    #[arg(long, value_name = "HOST=PREFIX", value_parser = places_value, help_heading = "Container runtimes")]
    pub mirror_path: Vec<String>,
    /// Mirror of the cluster's nodes among each other (Spegel) that containerd asks before the satellite, by digest: its
    /// URL, auto for this node's own address and port 30020, or none (repeatable; in the variable between semicolons)
    /// [default: auto where a kubelet runs on this machine, else none]
    #[arg(long, value_name = "URL", value_parser = super::mirrors::peer_flag, help_heading = "Container runtimes")]
    pub mirror_peer: Vec<String>,
    /// Leave the container runtimes' configuration alone, whatever else asks for mirrors.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Container runtimes")]
    pub no_registry_fallback: Option<bool>,
    /// Write the container runtimes' mirrors and exit.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Container runtimes")]
    pub fallback_only: Option<bool>,
    /// Where the machine's root is mounted, as seen from here: /host in a container [default: /]
    #[arg(long, value_name = "DIR", help_heading = "Container runtimes")]
    pub host_root: Option<PathBuf>,
    /// Shell command that reloads or restarts a runtime where neither systemd nor OpenRC does: $1 is the runtime, $2 is
    /// reload or restart.
    #[arg(long, value_name = "COMMAND", help_heading = "Container runtimes")]
    pub restart_command: Option<String>,

    /// Write an archive of each image into the folder from which k3s and RKE2 import images, and remove it again with the
    /// image. What they imported stays in the runtime.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Container runtimes")]
    pub direct_delivery: Option<bool>,
    /// The folder for those archives, as this machine names it [default: /var/lib/rancher/{k3s,rke2}/agent/images, where
    /// that is installed]
    #[arg(long, value_name = "DIR", value_parser = super::delivery::image_dir, help_heading = "Container runtimes")]
    pub image_dir: Option<PathBuf>,
    /// What of an image for several platforms gets into its archive: all that are here, or this machine's own alone
    /// [default: all]
    #[arg(long, value_name = "all|own", value_parser = image_platforms, help_heading = "Container runtimes")]
    pub image_platforms: Option<ImagePlatforms>,

    /// Keep keys in a PARSEC service. Not supported yet.
    #[arg(long, value_name = "BOOL", value_parser = boolean, num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Not supported yet")]
    pub parsec_enabled: Option<bool>,
    /// That service's socket; without PARSEC it has no effect.
    #[arg(long, value_name = "PATH", help_heading = "Not supported yet")]
    pub parsec_socket: Option<String>,
}

impl Flags {
    /// The first setting that asks for a part that is not built yet, by its flag.
    #[must_use]
    pub fn not_supported_yet(&self) -> Option<&'static str> {
        [("parsec-enabled", self.parsec_enabled == Some(true))]
            .into_iter()
            .find_map(|(flag, asked)| asked.then_some(flag))
    }

    /// Settings that are given and have no effect by themselves, by their flags.
    pub(super) fn without_effect(&self) -> impl Iterator<Item = &'static str> {
        self.parsec_socket.is_some().then_some("parsec-socket").into_iter()
    }
}

/// The variable of a flag.
#[must_use]
pub fn variable(flag: &str) -> String {
    flag.to_ascii_uppercase().replace('-', "_")
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "on" => Ok(true),
        "false" | "f" | "0" | "no" | "off" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A URL of a service: `http` or `https`, with a host, without credentials.
pub(super) fn http_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("is no URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("must be an http:// or https:// URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold credentials; a URL ends up in logs".to_owned());
    }
    Ok(url)
}

/// A registry's URL; without a scheme it is `https`.
pub(super) fn registry_url(text: &str) -> Result<Url, String> {
    if text.contains("://") { http_url(text) } else { http_url(&format!("https://{text}")) }
}

/// An address and a port; `localhost` is the IPv4 loopback.
pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    let text =
        text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    text.parse().map_err(|_| "must be address:port, like 127.0.0.1:8585 or [::]:8585".to_owned())
}

pub(super) fn schedule(text: &str) -> Result<Schedule, String> {
    text.parse::<Schedule>().map_err(|error| error.to_string())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_go_duration(text)?;
    if duration < Duration::from_millis(1) {
        return Err("must be longer than nothing".to_owned());
    }
    Ok(duration)
}

pub(super) fn mirrors_value(text: &str) -> Result<String, String> {
    super::mirrors::of_flags(&[text.to_owned()]).map(|_| text.to_owned())
}

pub(super) fn places_value(text: &str) -> Result<String, String> {
    super::mirrors::places(&[text.to_owned()]).map(|_| text.to_owned())
}

fn image_platforms(text: &str) -> Result<ImagePlatforms, String> {
    text.parse()
}

fn platforms(text: &str) -> Result<PlatformFilter, String> {
    text.parse::<PlatformFilter>().map_err(|error| error.to_string())
}

fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text.trim().to_owned()))
}
