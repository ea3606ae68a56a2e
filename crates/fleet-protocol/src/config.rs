//! The config document: what a satellite is told to work with.
//!
//! Every field may be absent, which means *not said*: it never wipes what a flag or an earlier document set. The default
//! document says everything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod defaults;
mod validate;

pub use defaults::default_document;
pub use validate::validate;

/// Keys that the reader does not know, kept aside so that they can be named.
pub type Unknown = BTreeMap<String, Value>;

/// A config document, as it is published and as a satellite keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigDocument {
    /// Where the state comes from. Never filled by Ground Control; part of the file that deployed satellites keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_config: Option<Value>,
    /// The satellite's own settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_config: Option<AppConfig>,
    /// The local registry's settings, under the name that the field gives them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zot_config: Option<RegistryConfig>,
    /// What this reader does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The satellite's own settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the documentation that the field has")]
pub struct AppConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ground_control_url: Option<String>,
    /// `trace`, `debug`, `info`, `warn`, `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// Plain HTTP beyond loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_unsecure: Option<bool>,
    /// A schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_replication_interval: Option<String>,
    /// A schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub register_satellite_interval: Option<String>,
    /// A schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<String>,
    /// When the referrers of an unchanged digest are looked at again: a schedule. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referrers_interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bring_own_registry: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_registry: Option<LocalRegistry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe: Option<Spiffe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypt_config: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_fallback: Option<RegistryFallback>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub harbor_registry_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_delivery: Option<DirectDelivery>,
    /// Settings of the audit log, which has an `enabled` like the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Value>,
    /// What this reader does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Which figures the heartbeat carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Metrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collect_cpu: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collect_memory: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collect_storage: Option<bool>,
}

/// The registry that workloads pull from: ours, or with `bring_own_registry` the site's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LocalRegistry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Never in a published document, where anybody who may read it would see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// TLS of connections that the satellite makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_verify: Option<bool>,
}

/// SPIFFE at the edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Spiffe {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_socket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_server_id: Option<String>,
}

/// Mirrors of the container runtimes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RegistryFallback {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registries: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<Vec<String>>,
    /// Upstream host and the prefix under which the local registry keeps its repositories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<BTreeMap<String, String>>,
    /// Mirrors of the cluster's nodes among each other (Spegel) that containerd asks first: URLs, or `auto` for the node's
    /// own address and port 30020. Absent: `auto` on a node of a cluster; empty or `none`: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<String>>,
    /// What this reader does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Image archives in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct DirectDelivery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// One of [`RANCHER_IMAGE_DIRS`], or empty for those that are installed; any other folder is the site's own decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_dir: Option<String>,
    /// `all` or `own`. Ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platforms: Option<String>,
}

/// The folders from which k3s and RKE2 import images by themselves.
pub const RANCHER_IMAGE_DIRS: [&str; 2] =
    ["/var/lib/rancher/k3s/agent/images", "/var/lib/rancher/rke2/agent/images"];

/// The local registry's settings. The names are those of the registry that deployed satellites embed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are the documentation that the field has")]
pub struct RegistryConfig {
    #[serde(rename = "distSpecVersion", skip_serializing_if = "Option::is_none")]
    pub dist_spec_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<RegistryStorage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<RegistryHttp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<RegistryLog>,
    /// What this reader does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Where the local registry keeps its files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names say it")]
pub struct RegistryStorage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_directory: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc: Option<bool>,
    /// A Go duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc_delay: Option<String>,
    /// A Go duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gc_interval: Option<String>,
    /// What this reader does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Where the local registry listens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RegistryHttp {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// A number, or a number in quotes as the field has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Value>,
    /// What this reader does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A port as documents write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Port {
    /// `"8585"`.
    Text(String),
    /// `8585`.
    Number(u16),
}

impl Port {
    /// The number, `None` where the text is none.
    pub fn number(&self) -> Option<u16> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Number(number) => Some(*number),
        }
    }
}

/// The local registry's log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RegistryLog {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// What this reader does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}
