//! Registrations with an identity, and who is let in: register, revoke, enable, approve.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use fleet_protocol::api::{self, AttestationMethod, RegisterSatellite, RegisteredSatellite};
use fleet_protocol::{Region, SatelliteName};
use identity::{SpiffeId, TrustDomain};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::error::ApiError;
use super::extract::{Body, Segment};
use super::satellites::{MOST_GROUPS, RESERVED, shut_out};
use super::state::{Admin, AppState, SystemAdmin};
use crate::domain::identity::Enabling;
use crate::domain::secret::{self, Purpose};
use crate::domain::ztr::TOKEN_LIFETIME;
use crate::identity::{
    JOIN_TOKEN_LIFETIME, Membership, RegistrarError, RegistrationError, RegistrationRequest,
};

/// Selectors that one satellite may have.
const MOST_SELECTORS: usize = 32;
/// The longest selector, in bytes.
const LONGEST_SELECTOR: usize = 1024;
/// The longest life of a join token: it is the one secret that travels to an edge, and good for whoever finds it.
const LONGEST_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Why a satellite without a registration is not enabled where tokens open nothing.
const REGISTER_INSTEAD: &str = "the satellite has no identity, and the registry's pull account is given to satellites with an \
                                SVID only; POST /api/satellites/register gives it one and lets it in again";

impl From<RegistrationError> for ApiError {
    fn from(error: RegistrationError) -> Self {
        match error {
            RegistrationError::Store(error) => error.into(),
            RegistrationError::Registrar(error) => error.into(),
            RegistrationError::Off(_) | RegistrationError::Unsettled(_) => {
                Self::unavailable(error.to_string())
            }
            RegistrationError::Interrupted => Self::internal(error),
        }
    }
}

impl From<RegistrarError> for ApiError {
    fn from(error: RegistrarError) -> Self {
        match error {
            RegistrarError::Invalid(message) => Self::bad_request(message),
            RegistrarError::NotFound(message) => Self::new(http::StatusCode::NOT_FOUND, message),
            RegistrarError::Unavailable(message) => {
                tracing::warn!(%message, "whoever makes identities does not answer");
                Self::unavailable(message)
            }
        }
    }
}

/// `POST /api/satellites/register`: a satellite with a SPIFFE identity. All or nothing; a repetition brings the registration
/// up to date, and its join token takes the place of one that nobody used.
pub(crate) async fn register(
    State(state): State<AppState>,
    SystemAdmin(actor): SystemAdmin,
    Body(request): Body<RegisterSatellite>,
) -> Result<Json<RegisteredSatellite>, ApiError> {
    let Some(identities) = &state.identities else {
        return Err(RegistrationError::Off("SPIFFE is not enabled here; set SPIFFE_SERVER_ENABLED").into());
    };
    let (request, membership) = checked(&identities.trust_domain, request)?;
    let registered = state.lifecycle.through(actor.acting(&state)).register(request, membership).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, satellite = %registered.satellite, identity = %registered.spiffe_id, "satellite registered");
    Ok(Json(registered))
}

/// What can be said of a registration by its text alone.
fn checked(
    trust_domain: &TrustDomain,
    request: RegisterSatellite,
) -> Result<(RegistrationRequest, Membership), ApiError> {
    let bad = |message: String| ApiError::bad_request(message);
    // The database holds new names to fewer characters than those that deployed fleets have.
    let name: SatelliteName =
        request.satellite_name.parse().map_err(|error| bad(format!("satellite_name: {error}")))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(bad(format!("the satellite name \"{name}\" is reserved")));
    }
    let region: Region = match request.region.as_deref().filter(|region| !region.is_empty()) {
        Some(region) => region.parse().map_err(|error| bad(format!("region: {error}")))?,
        None => Region::default(),
    };
    let mut selectors = request.selectors;
    if selectors.len() > MOST_SELECTORS {
        return Err(bad(format!("selectors: at most {MOST_SELECTORS} are taken")));
    }
    for selector in &selectors {
        if !is_selector(selector) {
            return Err(bad(format!("selectors: {selector:?} is none; type:value is wanted, as unix:uid:0")));
        }
    }
    selectors.sort();
    selectors.dedup();
    let ttl = match request.ttl_seconds {
        None => JOIN_TOKEN_LIFETIME,
        Some(seconds) => Duration::from_secs(seconds.into()),
    };
    if ttl.is_zero() || ttl > LONGEST_TTL {
        return Err(bad(format!("ttl_seconds: must be between 1 and {}", LONGEST_TTL.as_secs())));
    }
    let parent_agent_id = match request.parent_agent_id.as_deref().filter(|id| !id.is_empty()) {
        None => None,
        Some(text) => {
            let id: SpiffeId = text.parse().map_err(|error| bad(format!("parent_agent_id: {error}")))?;
            if id.trust_domain() != trust_domain || id.path().is_empty() {
                return Err(bad(format!(
                    "parent_agent_id: {id} is no agent of the trust domain {trust_domain}"
                )));
            }
            Some(id)
        }
    };
    match (request.attestation_method, &parent_agent_id) {
        (AttestationMethod::Sshpop, None) => {
            return Err(ApiError::bad_request(
                "parent_agent_id: needed with sshpop, whose agents show nothing to find them by; it is \
                 spiffe://<trust domain>/spire/agent/sshpop/<fingerprint of the host certificate>",
            ));
        }
        (AttestationMethod::JoinToken, Some(id)) if *id != SpiffeId::agent(trust_domain, &name) => {
            return Err(ApiError::bad_request(
                "parent_agent_id: with join_token the token makes the agent; leave it out",
            ));
        }
        _ => {}
    }
    let mut groups = request.groups.unwrap_or_default();
    groups.sort();
    groups.dedup();
    if groups.len() > MOST_GROUPS {
        return Err(bad(format!("groups: a satellite starts in at most {MOST_GROUPS}")));
    }
    let config_name = request.config_name.filter(|name| !name.is_empty());
    let request = RegistrationRequest {
        spiffe_id: SpiffeId::satellite(trust_domain, &region, &name),
        name,
        region,
        method: request.attestation_method,
        selectors,
        ttl,
        parent_agent_id,
    };
    Ok((request, Membership { groups, config_name }))
}

fn is_selector(text: &str) -> bool {
    text.len() <= LONGEST_SELECTOR
        && !text.chars().any(char::is_control)
        && text.split_once(':').is_some_and(|(kind, value)| {
            !kind.is_empty() && !value.is_empty() && !kind.contains(char::is_whitespace)
        })
}

/// `POST /api/satellites/{s}/revoke`: refused from the next request on.
pub(crate) async fn revoke(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    actor.acting(&state).revoke_satellite(&name, Timestamp::now()).await?;
    state.publisher.wake();
    state.lifecycle.wake();
    tracing::info!(actor = %actor.username, satellite = %name, "satellite revoked");
    Ok(Json(shut_out(&state, &name)))
}

/// `POST /api/satellites/{s}/enable`: pending again, and what it needs to come back: what `register` answers where it was
/// registered with an identity, a one-time token otherwise.
pub(crate) async fn enable(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(name): Segment,
) -> Result<Response, ApiError> {
    let answer = match state.lifecycle.through(actor.acting(&state)).enable(&name).await? {
        Some(registered) => Json(registered).into_response(),
        None => {
            let tokens = state.registry.issuer.serves_tokens();
            // One that introduced itself where nobody here makes identities has its SVID from elsewhere, and no use for a
            // token; every other one is registered instead.
            if state.identities.as_ref().is_none_or(|all| all.registrar.is_some()) {
                tokens.as_ref().map_err(|_| ApiError::conflict(REGISTER_INSTEAD))?;
            }
            let (token, now) = (secret::generate(), Timestamp::now());
            let how = Enabling::Token {
                token: state.hash_key.hash(Purpose::ZtrToken, token.expose_secret()),
                expires_at: now.checked_add(TOKEN_LIFETIME).unwrap_or(Timestamp::MAX),
            };
            actor.acting(&state).enable_satellite(&name, how, now).await?;
            let token = tokens.map(|()| token.expose_secret().to_owned()).unwrap_or_default();
            Json(api::NewSatelliteAnswer { token }).into_response()
        }
    };
    state.publisher.wake();
    tracing::info!(actor = %actor.username, satellite = %name, "satellite enabled");
    Ok(answer)
}

/// `POST /api/satellites/{s}/approve`: one that introduced itself is let in.
pub(crate) async fn approve(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    actor.acting(&state).approve_satellite(&name, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, satellite = %name, "satellite approved");
    Ok(Json(json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> RegisterSatellite {
        RegisterSatellite { satellite_name: "edge-01".into(), ..RegisterSatellite::default() }
    }

    fn check(request: RegisterSatellite) -> Result<(RegistrationRequest, Membership), ApiError> {
        checked(&TrustDomain::default(), request)
    }

    #[test]
    fn the_defaults_are_filled_in() {
        let (request, membership) =
            check(RegisterSatellite { region: Some(String::new()), ..request() }).unwrap();
        assert_eq!(
            request.spiffe_id.to_string(),
            "spiffe://harbor-satellite.local/satellite/region/default/edge-01"
        );
        assert_eq!(request.ttl, Duration::from_secs(600));
        assert_eq!(request.parent_agent_id, None);
        assert!(membership.groups.is_empty() && membership.config_name.is_none());
    }

    #[test]
    fn what_can_never_be_right_is_refused() {
        let text = |text: &str| text.to_owned();
        let bad = [
            RegisterSatellite { satellite_name: text("Edge"), ..request() },
            RegisterSatellite { satellite_name: text("active"), ..request() },
            RegisterSatellite { region: Some(text("US")), ..request() },
            RegisterSatellite { selectors: vec![text("unix")], ..request() },
            RegisterSatellite { selectors: vec![text(":0")], ..request() },
            RegisterSatellite { selectors: vec![text("unix:uid:0"); 33], ..request() },
            RegisterSatellite { ttl_seconds: Some(0), ..request() },
            RegisterSatellite { ttl_seconds: Some(u32::MAX), ..request() },
            RegisterSatellite { parent_agent_id: Some(text("edge")), ..request() },
            RegisterSatellite {
                parent_agent_id: Some(text("spiffe://harbor-satellite.local/agent/other")),
                ..request()
            },
            RegisterSatellite {
                attestation_method: AttestationMethod::X509pop,
                parent_agent_id: Some(text("spiffe://elsewhere/spire/agent/x509pop/1")),
                ..request()
            },
            RegisterSatellite { attestation_method: AttestationMethod::Sshpop, ..request() },
            RegisterSatellite { groups: Some((0..300).map(|n| format!("g{n}")).collect()), ..request() },
        ];
        for request in bad {
            let shown = format!("{request:?}");
            assert_eq!(check(request).unwrap_err().status(), 400, "{shown}");
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        let agent = "spiffe://harbor-satellite.local/spire/agent/sshpop/abc";
        let (request, _) = check(RegisterSatellite {
            attestation_method: AttestationMethod::Sshpop,
            parent_agent_id: Some(agent.into()),
            region: Some("us-east".into()),
            selectors: vec![
                "unix:uid:0".into(),
                "docker:label:service:satellite".into(),
                "unix:uid:0".into(),
            ],
            ttl_seconds: Some(1),
            ..request()
        })
        .unwrap();
        assert_eq!(request.parent_agent_id.unwrap().to_string(), agent);
        assert_eq!(request.selectors, ["docker:label:service:satellite", "unix:uid:0"]);
    }
}
