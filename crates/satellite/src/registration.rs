//! Registration, by one-time token or by SVID.
//!
//! A lost answer must not brick a device: the nonce that binds the claim to this device is made once and is on the disk
//! before the token is sent for the first time, so that the same question can be asked again, also after a power cut.
//! Ground Control answers it again until the first heartbeat. Credentials that are held are never given up here: an
//! answer of 401 may be an outage.

use std::time::Duration;

use fleet_protocol::registration::{StateConfig, ZtrRequest};
use oci::{Algorithm, Digest};
use rand::Rng as _;
use secrecy::{ExposeSecret, SecretString};

use crate::ground_control::{GroundControl, GroundControlError};
use crate::sealed::{Claim, DeviceState, SealError, Vault};

/// Why registration did not succeed this time.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Ground Control knows the token no more, or not yet, or has revoked the satellite.
    #[error("{0}; a token is good once and for 24 hours: make a new one and start the satellite with it")]
    TokenRefused(GroundControlError),
    /// Ground Control does not want this SVID: unknown, revoked, or not approved yet.
    #[error(
        "{0}; an administrator has to register, enable or approve this satellite, it is tried on by itself"
    )]
    Refused(GroundControlError),
    /// Ground Control could not be asked, or answered nonsense.
    #[error(transparent)]
    GroundControl(#[from] GroundControlError),
    /// What must be kept could not be written.
    #[error("registration cannot be kept on disk: {0}")]
    NotKept(#[from] SealError),
}

impl RegistrationError {
    /// When Ground Control wants to be asked again, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TokenRefused(error) | Self::Refused(error) | Self::GroundControl(error) => {
                error.retry_after()
            }
            Self::NotKept(_) => None,
        }
    }
}

/// Whether there is something to register: no credentials are held, or a token was given that is not the one that they
/// came from (after an administrator enabled or made this satellite anew). Credentials that came without a token of ours
/// are good as they are.
#[must_use]
pub fn is_due(state: &DeviceState, token: Option<&SecretString>) -> bool {
    if state.registered_as.is_some() && token.is_some() {
        // The site has turned from an SVID to a token.
        return true;
    }
    let Some(claim) = state.claim.as_ref().filter(|_| state.registration.is_some()) else {
        return state.registration.is_none();
    };
    token.is_some_and(|token| claim.token_sha256 != fingerprint(token) || !claim.nonce.is_empty())
}

fn fingerprint(token: &SecretString) -> String {
    Digest::of(Algorithm::Sha256, token.expose_secret().as_bytes()).hex()
}

/// Asks once, and keeps the answer. Credentials that are held stay until there are new ones.
///
/// # Errors
/// [`RegistrationError`]; asking again later asks the same question.
pub async fn register(
    ground_control: &GroundControl,
    token: &SecretString,
    vault: &Vault,
) -> Result<StateConfig, RegistrationError> {
    let claim = claim(token, vault).await?;
    let request = ZtrRequest { token: token.clone(), nonce: SecretString::from(claim.nonce.clone()) };
    let answer = match ground_control.register(&request).await {
        // A deployed Ground Control does not know this route: it takes the token in the path.
        Err(error) if matches!(error.status(), Some(404 | 405)) => {
            tracing::debug!(
                "ground control does not know registration with a nonce, asking in the older form"
            );
            ground_control.register_by_path(token).await
        }
        answer => answer,
    };
    let state_config = answer.map_err(|error| match error.status() {
        Some(400 | 401 | 403) => RegistrationError::TokenRefused(error),
        _ => RegistrationError::GroundControl(error),
    })?;
    let kept = state_config.clone();
    vault
        .update(move |state| {
            state.registration = Some(kept);
            state.registered_as = None;
            // Without a nonce it is done; it stays to tell this token from the next.
            state.claim = Some(Claim { nonce: String::new(), ..claim });
        })
        .await?;
    Ok(state_config)
}

/// Asks once with the SVID of this client, which is that of `id`, and keeps the answer. Credentials that are held stay
/// until there are new ones. A lost answer costs nothing: the same question is answered again.
///
/// # Errors
/// [`RegistrationError`].
pub async fn register_by_svid(
    ground_control: &GroundControl,
    id: String,
    vault: &Vault,
) -> Result<StateConfig, RegistrationError> {
    let state_config = ground_control.register_by_svid().await.map_err(|error| match error.status() {
        Some(401 | 403) => RegistrationError::Refused(error),
        _ => RegistrationError::GroundControl(error),
    })?;
    let kept = state_config.clone();
    vault
        .update(move |state| {
            state.registration = Some(kept);
            state.registered_as = Some(id);
            state.claim = None;
        })
        .await?;
    Ok(state_config)
}

/// The claim of this token: the one that was begun, else a new one, on the disk when this returns.
async fn claim(token: &SecretString, vault: &Vault) -> Result<Claim, SealError> {
    let token_sha256 = fingerprint(token);
    let begun = |claim: &&Claim| claim.token_sha256 == token_sha256 && !claim.nonce.is_empty();
    if let Some(claim) = vault.state().claim.as_ref().filter(begun) {
        return Ok(claim.clone());
    }
    let mut nonce = [0_u8; 16];
    rand::rng().fill_bytes(&mut nonce);
    let claim = Claim { token_sha256, nonce: hex::encode(nonce) };
    let kept = claim.clone();
    vault.update(move |state| state.claim = Some(kept)).await?;
    Ok(claim)
}

/// The satellite's name as the answer tells it: from its state document's place, else from its robot's name.
#[must_use]
pub fn satellite_name(config: &StateConfig) -> Option<String> {
    let from_state = config
        .state
        .split_once("/satellite-state/")
        .and_then(|(_, rest)| rest.split_once("/state"))
        .map(|(name, _)| name.to_owned());
    from_state
        .or_else(|| config.auth.username.strip_prefix("robot$").map(str::to_owned))
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use fleet_protocol::registration::RegistryCredentials;

    use super::*;

    fn config(state: &str, username: &str) -> StateConfig {
        let auth = RegistryCredentials {
            url: "https://harbor.example.com".to_owned(),
            username: username.to_owned(),
            password: SecretString::from("secret"),
        };
        StateConfig { auth, state: state.to_owned() }
    }

    #[test]
    fn only_another_token_is_a_reason_to_register_again() {
        let token = SecretString::from("one");
        let mut state = DeviceState::default();
        assert!(is_due(&state, Some(&token)) && is_due(&state, None));
        state.registration = Some(config("h/satellite/satellite-state/e/state", "robot$e"));
        assert!(!is_due(&state, Some(&token)), "credentials that were taken over are good");
        state.claim = Some(Claim { token_sha256: fingerprint(&token), nonce: String::new() });
        assert!(!is_due(&state, Some(&token)), "the same token in the environment of the next start");
        assert!(!is_due(&state, None));
        let other = SecretString::from("two");
        assert!(is_due(&state, Some(&other)));
        state.registered_as = Some("spiffe://td/satellite/e".to_owned());
        assert!(is_due(&state, Some(&token)), "an SVID brought what is held");
        assert!(!is_due(&state, None));
        state.registered_as = None;
        state.claim = Some(Claim { token_sha256: fingerprint(&other), nonce: "begun".to_owned() });
        assert!(is_due(&state, Some(&other)), "a claim that was begun goes on after a restart");
    }

    #[test]
    fn the_name_is_in_the_state_documents_place_or_the_robots_name() {
        for (state, username, name) in [
            ("https://h/satellite/satellite-state/edge-01/state:latest", "robot$other", Some("edge-01")),
            ("h:5000/satellite/satellite-state/edge.02/state", "", Some("edge.02")),
            ("h/elsewhere/state:latest", "robot$edge-03", Some("edge-03")),
            ("h/elsewhere/state:latest", "admin", None),
        ] {
            assert_eq!(satellite_name(&config(state, username)).as_deref(), name, "{state} {username}");
        }
    }
}
