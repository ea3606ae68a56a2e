//! containerd: `config.toml`, which names the folder of registry hosts, and one `hosts.toml` for each registry in it.

pub mod config;
pub mod hosts;

use serde::{Deserialize, Serialize};

/// The folder that is set where the operator has set none.
pub const CERTS_D: &str = "/etc/containerd/certs.d";
/// Where containerd is configured.
pub const CONFIG_TOML: &str = "/etc/containerd/config.toml";

/// A version of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Patch.
    pub patch: u32,
}

impl Version {
    /// A version by its three numbers.
    pub fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }

    /// Whether it takes `config_path` for a list of folders. 2.2.0 and 2.2.1 pass it on unsplit, so that nothing is found.
    pub fn splits_folders(self) -> bool {
        !(self == Self::new(2, 2, 0) || self == Self::new(2, 2, 1))
    }

    /// Whether hosts.toml knows `dial_timeout`.
    pub fn has_dial_timeout(self) -> bool {
        self >= Self::new(2, 1, 0)
    }

    /// The `version` of a configuration file written for it.
    pub fn config_version(self) -> u32 {
        if self.major >= 2 { 3 } else { 2 }
    }
}
