//! What the device keeps secret, sealed to the device.
//!
//! One file, `<config-dir>/sealed.json`, holds everything that must not be read on another machine: the credentials that
//! Ground Control handed out, the claim of a registration that is under way, and the last good remote config. It is
//! opened once, after the local registry already serves, and every change replaces it in one durable step.

use fleet_protocol::config::ConfigDocument;
use fleet_protocol::registration::StateConfig;
use oci::Digest;
use serde::{Deserialize, Serialize};

/// The plaintext of the sealed file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceState {
    /// What registration answered; `None` until it succeeded.
    pub registration: Option<StateConfig>,
    /// The claim of a one-time token: made and kept before the first try, so that a lost answer can be asked for again.
    pub claim: Option<Claim>,
    /// The last remote config that was taken.
    pub remote_config: Option<KeptConfig>,
}

/// A registration under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claim {
    /// SHA-256 of the token, hexadecimal: tells one token from the next without keeping it.
    pub token_sha256: String,
    /// 32 hexadecimal characters that bind the answer to this device.
    pub nonce: String,
}

/// A remote config and where it came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptConfig {
    /// Digest of the state artifact's manifest.
    pub digest: Digest,
    /// The document.
    pub document: ConfigDocument,
}

/// The open sealed file. Clones share it; updates are serialised.
#[derive(Debug, Clone)]
pub struct Vault;

/// Why the sealed file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SealError {}

impl Vault {
    /// What it holds now.
    #[must_use]
    pub fn state(&self) -> std::sync::Arc<DeviceState> { todo!() }
    /// Changes what it holds; the change is on the disk when this returns.
    pub async fn update<F>(&self, change: F) -> Result<(), SealError>
    where F: FnOnce(&mut DeviceState) + Send + 'static { todo!() }
}
