//! The satellites' side: registration by one-time token, and heartbeats.

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use fleet_protocol::{Heartbeat, HeartbeatAnswer, RegistryCredentials, StateConfig, ZtrRequest};
use http::StatusCode;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;

use super::error::ApiError;
use super::extract::{Body, Segment};
use super::state::AppState;
use crate::auth::{Credentials, RobotError, source_of};
use crate::domain::document::DocumentKey;
use crate::domain::heartbeat::{HeartbeatOutcome, HeartbeatRecord};
use crate::domain::satellite::robot_name;
use crate::domain::secret::{self, Purpose};
use crate::domain::ztr::{ClaimAttempt, ClaimRefusal, Claimant};

/// Characters of a token and of a nonce: 128 bits in hexadecimal.
const HEX: usize = 32;

/// `POST /satellites/ztr`: the token and a nonce of the device, in the body and not in a URL.
pub(crate) async fn register(
    State(state): State<AppState>,
    Body(request): Body<ZtrRequest>,
) -> Result<Json<StateConfig>, ApiError> {
    let nonce = request.nonce.expose_secret();
    if !is_hex(nonce) {
        return Err(ApiError::bad_request(
            "nonce must be 32 hexadecimal digits, made once and kept by the device",
        ));
    }
    let claimant = Claimant::Nonce(state.hash_key.hash(Purpose::ZtrNonce, nonce));
    claim(&state, request.token.expose_secret(), claimant).await
}

/// `GET /satellites/ztr/{token}`: the form of deployed satellites, which have no nonce; answered again for ten
/// minutes to the same address.
pub(crate) async fn register_by_path(
    State(state): State<AppState>,
    Segment(token): Segment,
    parts: Parts,
) -> Result<Json<StateConfig>, ApiError> {
    claim(&state, &token, Claimant::Source(source_of(&parts.extensions))).await
}

async fn claim(state: &AppState, token: &str, claimant: Claimant) -> Result<Json<StateConfig>, ApiError> {
    let unknown = || ApiError::bad_request("the token is not known; ask an administrator for a new one");
    if !is_hex(token) {
        return Err(unknown());
    }
    let secret = secret::generate();
    let attempt = ClaimAttempt {
        token: state.hash_key.hash(Purpose::ZtrToken, token),
        claimant,
        new_secret: state.robots.hash(&secret),
    };
    let grant = match state.store.claim_token(attempt, Timestamp::now()).await? {
        Ok(grant) => grant,
        Err(refusal) => {
            tracing::info!(reason = %refusal, "registration refused");
            return Err(match refusal {
                ClaimRefusal::Unknown => unknown(),
                ClaimRefusal::Expired => ApiError::unauthorized_because(
                    "the token has expired; ask an administrator for a new one",
                ),
                ClaimRefusal::Used => ApiError::unauthorized_because(
                    "the token has been used; ask an administrator for a new one",
                ),
                ClaimRefusal::NotAdmitted => {
                    ApiError::forbidden("the satellite is not admitted; ask an administrator")
                }
            });
        }
    };
    state.publisher.wake();
    tracing::info!(satellite = %grant.satellite_name, again = grant.again, "satellite registered");
    let registry = &state.settings.registry_url;
    Ok(Json(StateConfig {
        auth: RegistryCredentials {
            url: registry.clone(),
            username: robot_name(&grant.satellite_name),
            password: secret,
        },
        state: DocumentKey::satellite(grant.satellite_name).reference(registry),
    }))
}

fn is_hex(text: &str) -> bool {
    text.len() == HEX && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The satellite that a request comes from, by its robot's name and secret.
async fn satellite_of(state: &AppState, parts: &Parts) -> Result<crate::domain::satellite::Robot, ApiError> {
    let Credentials::Basic { username, password } = Credentials::of(&parts.headers) else {
        return Err(ApiError::unauthorized());
    };
    match state.robots.check(&username, &password).await {
        Ok((robot, _)) => Ok(robot),
        Err(RobotError::Wrong) => Err(ApiError::unauthorized()),
        Err(RobotError::NotAdmitted(name)) => {
            Err(ApiError::forbidden(format!("satellite {name} is not admitted")))
        }
        Err(RobotError::Store(error)) => Err(error.into()),
    }
}

/// `POST /satellites/sync`: a heartbeat. Who sends it is who the credential says, whatever name stands in it.
pub(crate) async fn heartbeat(
    State(state): State<AppState>,
    parts: Parts,
    request: axum::extract::Request,
) -> Result<Json<HeartbeatAnswer>, ApiError> {
    // Credentials first: megabytes are read from satellites only.
    let robot = satellite_of(&state, &parts).await?;
    let Body(report) =
        <Body<Heartbeat> as axum::extract::FromRequest<AppState>>::from_request(request, &state).await?;
    let record = HeartbeatRecord { satellite: robot.satellite, received_at: Timestamp::now(), report };
    match state.heartbeats.record(record).await? {
        HeartbeatOutcome::Recorded { first } => {
            if first {
                tracing::info!(satellite = %robot.satellite_name, "satellite online");
            }
            Ok(Json(HeartbeatAnswer::default()))
        }
        HeartbeatOutcome::Refused => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "the satellite is not admitted"))
        }
        HeartbeatOutcome::Gone => Err(ApiError::unauthorized()),
    }
}
