//! The deployed satellite's file, read once to take over its identity and configuration.
//!
//! `{"version":1,"salt":"<base64, 16 bytes>","data":"<base64 of nonce, ciphertext, tag>"}`; AES-256-GCM under
//! Argon2id(t=3, m=64 MiB, p=4) of the hexadecimal SHA-256 of `machine-id|first MAC|first disk serial`, where a missing
//! part is left out. The content is a config document. The same document may also stand there in the clear.

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use fleet_protocol::config::ConfigDocument;
use fleet_protocol::registration::StateConfig;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::envelope::{Cost, decode, derive};
use super::{DeviceState, KeptConfig, OpenFailure};
use crate::device::DeviceFacts;

/// Its name in the configuration directory; a plain one that an operator wrote is the config file.
pub const CONFIG_FILE: &str = "config.json";
const COST: Cost = Cost { m: 65_536, t: 3, p: 4 };

#[derive(Deserialize)]
struct Envelope {
    version: u32,
    salt: String,
    data: String,
}

/// Whether `bytes` is a file that a deployed satellite wrote (sealed, or in the clear with an identity in it), rather
/// than a config file that an operator wrote.
#[must_use]
pub fn is_deployed(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Envelope>(bytes).is_ok() || plain_identity(bytes).is_some()
}

/// What is to be taken over; `None` when the file is an operator's.
///
/// # Errors
/// [`OpenFailure`] when it is a sealed file that does not open here.
pub fn import(bytes: &[u8], facts: &DeviceFacts) -> Result<Option<DeviceState>, OpenFailure> {
    let document = match serde_json::from_slice::<Envelope>(bytes) {
        Ok(envelope) => open(&envelope, facts)?,
        Err(_) => match plain_identity(bytes) {
            Some(document) => document,
            None => return Ok(None),
        },
    };
    Ok(Some(DeviceState {
        registration: identity(&document),
        remote_config: Some(KeptConfig { digest: None, document: without_secrets(document) }),
        ..DeviceState::default()
    }))
}

fn open(envelope: &Envelope, facts: &DeviceFacts) -> Result<ConfigDocument, OpenFailure> {
    if envelope.version != 1 {
        return Err(OpenFailure::TooNew(envelope.version));
    }
    let salt = decode("salt", &envelope.salt)?;
    let data = decode("data", &envelope.data)?;
    let (nonce, data) = data
        .split_first_chunk::<12>()
        .ok_or_else(|| OpenFailure::Damaged("its data is too short".to_owned()))?;
    let key = derive(&fingerprint(facts), &salt, COST).map_err(OpenFailure::Damaged)?;
    let plain = Aes256Gcm::new(&(*key).into())
        .decrypt(&Nonce::from(*nonce), data)
        .map(Zeroizing::new)
        // A wrong key and a changed file cannot be told apart in this format.
        .map_err(|_| OpenFailure::OtherHardware)?;
    serde_json::from_slice(&plain).map_err(|error| OpenFailure::Damaged(format!("its content: {error}")))
}

fn fingerprint(facts: &DeviceFacts) -> Zeroizing<String> {
    let parts = [&facts.machine_id, &facts.field.first_mac, &facts.field.first_serial];
    let joined: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    Zeroizing::new(hex::encode(Sha256::digest(joined.join("|"))))
}

/// A document in the clear that holds an identity: only a deployed satellite writes that.
fn plain_identity(bytes: &[u8]) -> Option<ConfigDocument> {
    let document: ConfigDocument = serde_json::from_slice(bytes).ok()?;
    identity(&document).is_some().then_some(document)
}

fn identity(document: &ConfigDocument) -> Option<StateConfig> {
    let config: StateConfig = serde_json::from_value(document.state_config.clone()?).ok()?;
    let complete = !config.state.is_empty() && !config.auth.username.is_empty();
    complete.then_some(config)
}

/// The document as Ground Control would publish it: secrets have places of their own.
fn without_secrets(mut document: ConfigDocument) -> ConfigDocument {
    document.state_config = None;
    if let Some(registry) = document.app_config.as_mut().and_then(|app| app.local_registry.as_mut()) {
        registry.password = None;
    }
    document
}
