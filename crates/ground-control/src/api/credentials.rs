//! Registry credentials of satellites that can show who they are: at registration by SVID, and when they are renewed.

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use fleet_protocol::{RegistryCredentials, StateConfig};
use jiff::Timestamp;

use super::caller::{Admitted, Proof, SatelliteCaller, SatelliteSvid};
use super::error::ApiError;
use super::satellites::RESERVED;
use super::state::AppState;
use crate::central::IssueError;
use crate::domain::SatelliteId;
use crate::domain::audit::Actor;
use crate::domain::document::DocumentKey;
use crate::domain::identity::{AutoRegister, AutoRegistered};
use crate::domain::satellite::SatelliteState;
use crate::identity::Identities;

/// What a satellite of this name works with, and these credentials.
pub(super) fn state_config(state: &AppState, name: String, auth: RegistryCredentials) -> StateConfig {
    StateConfig { auth, state: DocumentKey::satellite(name).reference(&state.registry.url) }
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::NotAdmitted => Self::forbidden("the satellite is not admitted; ask an administrator"),
            IssueError::Outdated => Self::unauthorized(),
            IssueError::IdentityNeeded(reason) => Self::conflict(reason),
            IssueError::NotYet(reason) => Self::unavailable(reason),
            IssueError::Preparing { what, seconds } => Self::unavailable_for(what, seconds),
            IssueError::Store(error) => error.into(),
        }
    }
}

/// `GET /satellites/spiffe-ztr`: registration by SVID, with nothing else. Every answer brings a fresh secret, and the one
/// in use stays good until that is used: a lost answer costs nothing.
pub(crate) async fn register_by_svid(
    State(state): State<AppState>,
    parts: Parts,
) -> Result<Json<StateConfig>, ApiError> {
    let now = Timestamp::now();
    let Some(identities) = state.identities.clone() else {
        return Err(ApiError::unauthorized_because("identities by SPIFFE are not enabled here"));
    };
    let svid = SatelliteSvid::of(&parts, &identities, now)?
        .ok_or_else(|| ApiError::unauthorized_because("an X.509-SVID of the satellite is needed"))?;
    let admitted = match svid.admitted(&state, now).await? {
        Some(admitted) => admitted,
        None => introduce(&state, &identities, &svid, now).await?,
    };
    let config = grant(&state, svid.actor.clone(), &admitted.satellite, admitted.name, now).await?;
    tracing::info!(satellite = %svid.name, region = %svid.region, "satellite registered by its svid");
    Ok(config)
}

/// Makes a satellite known that nobody registered, if the policy says so.
async fn introduce(
    state: &AppState,
    identities: &Identities,
    svid: &SatelliteSvid,
    now: Timestamp,
) -> Result<Admitted, ApiError> {
    let (name, region, policy) = (svid.name.as_str(), svid.region.as_str(), identities.auto_register);
    if policy == AutoRegister::Deny {
        tracing::info!(satellite = name, region, "unknown satellite refused");
        return Err(ApiError::forbidden("the satellite is not registered; ask an administrator"));
    }
    if RESERVED.contains(&name) {
        return Err(ApiError::forbidden(format!("the satellite name \"{name}\" is reserved")));
    }
    match state.store.acting_for(svid.actor.clone()).auto_register(name, region, policy, now).await? {
        AutoRegistered::Created(satellite) => {
            state.publisher.wake();
            tracing::info!(satellite = name, region, state = %satellite.state, "satellite introduced itself");
            if satellite.state == SatelliteState::AwaitingApproval {
                return Err(ApiError::forbidden("the satellite waits for an administrator's approval"));
            }
            Ok(Admitted { satellite: satellite.id, name: satellite.name })
        }
        // Another request of it, or an administrator, was quicker.
        AutoRegistered::Exists => svid
            .admitted(state, now)
            .await?
            .ok_or_else(|| ApiError::unavailable("the satellite is being registered, try again in a moment")),
    }
}

/// `POST /satellites/credentials`: fresh credentials of the registry; those in use stay good until these are used, where
/// the satellite has an account of its own.
pub(crate) async fn renew(
    State(state): State<AppState>,
    caller: SatelliteCaller,
) -> Result<Json<StateConfig>, ApiError> {
    let now = Timestamp::now();
    let SatelliteCaller { satellite, name, proof, actor } = caller;
    let issuer = &state.registry.issuer;
    let auth = match proof {
        Proof::Svid => issuer.renew(actor, &satellite, &name, now).await?,
        Proof::Secret(_, presented) => issuer.rotate(actor, satellite, &name, presented, now).await?,
    };
    tracing::info!(satellite = %name, "registry credentials renewed");
    Ok(Json(state_config(&state, name, auth)))
}

async fn grant(
    state: &AppState,
    by: Actor,
    satellite: &SatelliteId,
    name: String,
    now: Timestamp,
) -> Result<Json<StateConfig>, ApiError> {
    let auth = state.registry.issuer.grant(by, satellite, &name, now).await?;
    Ok(Json(state_config(state, name, auth)))
}
