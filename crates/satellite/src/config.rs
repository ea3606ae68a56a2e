//! The configuration, parsed once into typed values.
//!
//! Precedence: flag > environment > `.env` in the working directory > config file > remote config > default. What the
//! site says ([`Site`]: flags, environment and config file) never changes while the program runs; what a remote config
//! says is one layer below it, so it can never wipe a flag. The two together are the [`Effective`] configuration,
//! recomputed whole whenever a remote config is taken.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use container_runtimes::MirrorRequest;
use fleet_protocol::schedule::Schedule;
use oci::PlatformFilter;
use secrecy::SecretString;
use url::Url;

mod delivery;
pub mod flags;
pub mod identity;
pub mod lan;
pub mod layer;
pub mod live;
pub mod load;
mod mirrors;
pub mod remote;
#[cfg(test)]
pub(crate) mod testing;

pub use self::delivery::{ImageFolder, ImagePlatforms};
pub use self::identity::{ExpectedServer, IdentitySettings, IdentitySource};
pub use lan::{CertificateFiles, LanSettings, LocalNamespaces};
pub use layer::Layer;
pub use live::LiveConfig;
pub use load::{ConfigError, Environment, Invocation};
pub use mirrors::MirrorPeer;
pub(crate) use mirrors::{peers, resolved_peers};
pub use remote::{Change, Refusal, RemoteConfig};

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Failures that need a person.
    Error,
    /// What a person should look at when there is time.
    Warn,
    /// What changed (the default).
    Info,
    /// How decisions were made.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name that flags, documents and the log use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl std::fmt::Display for LogLevel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::str::FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            // Deployed configs carry the levels of Go's loggers, which know two more.
            "error" | "fatal" | "panic" => Ok(Self::Error),
            "warn" | "warning" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err("must be one of error, warn, info, debug, trace".to_owned()),
        }
    }
}

/// Which of the machine's figures a heartbeat carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// The processor's load.
    pub cpu: bool,
    /// Resident memory of this process.
    pub memory: bool,
    /// Bytes that the store takes on the disk.
    pub storage: bool,
}

/// A registry of the site's own, into which artifacts are replicated instead of the local store.
#[derive(Debug, Clone)]
pub struct ByoRegistry {
    /// Where it is; a path is a prefix for every repository.
    pub url: Url,
    /// Who we are there; empty for anonymous.
    pub username: String,
    /// The password of `username`.
    pub password: SecretString,
}

impl PartialEq for ByoRegistry {
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret as _;
        self.url == other.url
            && self.username == other.username
            && self.password.expose_secret() == other.password.expose_secret()
    }
}

/// How certificates of Ground Control and of registries are checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsTrust {
    /// PEM file of further authorities to trust, beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// Check nothing (for laboratories; said loudly in the log).
    pub skip_verify: bool,
}

/// Where the local registry listens, and by whose word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// Whether the site allows more than loopback (`--registry-listen-unsecure`).
    pub unsecure: bool,
}

/// How the container runtimes of this machine are reached: the site's word alone, because it runs commands as root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtimes {
    /// Where the machine's root is.
    pub host_root: PathBuf,
    /// What reloads and restarts them where no known service manager does.
    pub restart_command: Option<String>,
    /// Their configuration is left alone, whatever is asked for.
    pub leave_alone: bool,
    /// Write their mirrors and end.
    pub only_mirrors: bool,
}

impl Default for Runtimes {
    fn default() -> Self {
        Self { host_root: PathBuf::from("/"), restart_command: None, leave_alone: false, only_mirrors: false }
    }
}

/// What the site alone decides; fixed for the life of the process.
#[derive(Debug, Clone)]
pub struct Site {
    /// One-time registration token, if one was given.
    pub token: Option<SecretString>,
    /// By what it identifies itself, and to whom.
    pub identity: IdentitySettings,
    /// Where configuration, identity and the status socket live (mode 0700).
    pub config_dir: PathBuf,
    /// Where the store lives.
    pub registry_data_dir: PathBuf,
    /// The local status socket.
    pub control_socket: PathBuf,
    /// Platforms to replicate; the default takes all.
    pub platforms: PlatformFilter,
    /// JSON log lines rather than text; `None` lets a terminal decide.
    pub json_logging: Option<bool>,
    /// The collector that gets spans.
    pub traces: Option<Url>,
    /// How long running pulls may take to end at shutdown.
    pub shutdown_timeout: Duration,
    /// Time between two scrubs (every stored byte is read and its digest checked).
    pub scrub_interval: Duration,
    /// Whether the site allows the open registry beyond loopback.
    pub listen_unsecure: bool,
    /// The registry's listener for other machines of the site.
    pub lan: Option<LanSettings>,
    /// What of the registry is the site's own.
    pub local_namespaces: LocalNamespaces,
    /// The same, with those of earlier runs that something is still in: nothing is replicated into them or removed.
    pub kept_namespaces: LocalNamespaces,
    /// Where Docker finds docker.io and nothing else, where the site says so.
    pub docker_mirror_listen: Option<SocketAddr>,
    /// How the container runtimes are reached.
    pub runtimes: Runtimes,
    /// What flags, environment and the config file say of the settings that a remote config may also set.
    pub layer: Layer,
    /// Things said during parsing that belong into the log once there is one.
    pub warnings: Vec<String>,
}

/// The configuration in force: the site's word over the remote config over the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// Ground Control's base URL; without it nothing is registered, and what is held is served.
    pub ground_control_url: Option<Url>,
    /// By what the satellite identifies itself; the site's word alone.
    pub identity: IdentitySettings,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Plain HTTP to registries and Ground Control beyond loopback is allowed.
    pub use_unsecure: bool,
    /// When the desired state is read and reconciled.
    pub state_replication_interval: Schedule,
    /// When registration is tried, until it succeeds.
    pub register_satellite_interval: Schedule,
    /// When the heartbeat is sent.
    pub heartbeat_interval: Schedule,
    /// How often referrers of an unchanged digest are looked at again.
    pub referrer_interval: Duration,
    /// What the heartbeat measures.
    pub metrics: Metrics,
    /// A registry of the site's own is asked for, whether or not it is named.
    pub byo_wanted: bool,
    /// Replicate into this registry instead of the local store (a change needs a restart).
    pub byo_registry: Option<ByoRegistry>,
    /// Certificate checks.
    pub tls: TlsTrust,
    /// Replaces scheme and host of every registry URL that is handed out.
    pub harbor_registry_url: Option<Url>,
    /// Where the local registry listens (a change needs a restart).
    pub listen: Listen,
    /// Whether the store collects garbage by itself.
    pub gc: bool,
    /// How long a blob that nothing names is kept (a change needs a restart).
    pub gc_grace: Duration,
    /// Time between two garbage collections.
    pub gc_interval: Duration,
    /// Platforms to replicate.
    pub platforms: PlatformFilter,
    /// What of the local registry is the site's own; the site's word alone.
    pub kept_namespaces: LocalNamespaces,
    /// Mirrors for the container runtimes of this machine; none where they are left alone.
    pub mirrors: Option<Vec<MirrorRequest>>,
    /// Where the local registry keeps the repositories of upstream hosts, for those that are named.
    pub mirror_paths: BTreeMap<String, String>,
    /// Mirrors of the cluster's nodes among each other, which containerd asks first; none where the machine decides: a
    /// cluster's node has its own.
    pub mirror_peers: Option<Vec<MirrorPeer>>,
    /// Write archives into an image folder.
    pub image_folder: Option<ImageFolder>,
}

impl Effective {
    /// Puts the layers together: `site` wins over `remote`, which wins over the defaults.
    #[must_use]
    pub fn of(site: &Site, remote: &Layer) -> Self {
        layer::merge(site, remote)
    }
}

/// A shared, immutable view of the configuration in force.
pub type Shared = Arc<Effective>;
