//! Zero-touch registration by token.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// What `POST /satellites/ztr` asks with. The field's form, `GET /satellites/ztr/{token}`, has no nonce.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ZtrRequest {
    /// The one-time token: 32 hex digits.
    #[serde(serialize_with = "exposed")]
    pub token: SecretString,
    /// Made once by the device and kept: the same nonce is answered again until the first authenticated heartbeat, so
    /// that a lost answer bricks nobody. 32 hex digits.
    #[serde(serialize_with = "exposed")]
    pub nonce: SecretString,
}

/// What a registered satellite works with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StateConfig {
    /// The account at the central registry, which is also the one for heartbeats.
    pub auth: RegistryCredentials,
    /// Reference of the satellite's own state document.
    #[serde(default)]
    pub state: String,
}

/// An account at a registry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegistryCredentials {
    /// URL of the registry.
    #[serde(default)]
    pub url: String,
    /// `robot$<name>`.
    #[serde(default)]
    pub username: String,
    /// The robot's secret.
    #[serde(serialize_with = "exposed")]
    pub password: SecretString,
}

pub(crate) fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_config_round_trips_and_hides_its_secret() {
        let text = r#"{"auth":{"url":"https://h","username":"robot$edge-01","password":"s3cret"},"state":"https://h/satellite/satellite-state/edge-01/state:latest"}"#;
        let config: StateConfig = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
