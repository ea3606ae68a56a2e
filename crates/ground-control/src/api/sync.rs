//! The satellites' side: registration by one-time token, and heartbeats.

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use fleet_protocol::heartbeat::REFRESH_CREDENTIALS;
use fleet_protocol::{Heartbeat, HeartbeatAnswer, StateConfig, ZtrRequest};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;

use super::caller::{Proof, SatelliteCaller};
use super::credentials::state_config;
use super::error::ApiError;
use super::extract::{Body, Segment};
use super::state::AppState;
use crate::auth::source_of;
use crate::domain::heartbeat::{HeartbeatOutcome, HeartbeatRecord};
use crate::domain::satellite::Robot;
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
    Ok(Json(state_config(state, grant.satellite_name, secret)))
}

fn is_hex(text: &str) -> bool {
    text.len() == HEX && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `POST /satellites/sync`: a heartbeat. Who sends it is who the credential says, whatever name stands in it; megabytes are
/// read only from who has one.
pub(crate) async fn heartbeat(
    State(state): State<AppState>,
    caller: SatelliteCaller,
    Body(report): Body<Heartbeat>,
) -> Result<Json<HeartbeatAnswer>, ApiError> {
    let now = Timestamp::now();
    let robot = match caller.proof {
        Proof::Secret(robot, _) => Some(*robot),
        Proof::Svid => state.store.robot(&caller.name).await?,
    };
    let record = HeartbeatRecord { satellite: caller.satellite, received_at: now, report };
    match state.heartbeats.record(record).await? {
        HeartbeatOutcome::Recorded { first, .. } => {
            if first {
                tracing::info!(satellite = %caller.name, "satellite online");
            }
            let mut answer = HeartbeatAnswer::default();
            if wants_fresh_secret(robot.as_ref(), state.settings.robot_duration, now) {
                answer.events.push(REFRESH_CREDENTIALS.to_owned());
            }
            Ok(Json(answer))
        }
        HeartbeatOutcome::Refused => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "the satellite is not admitted"))
        }
        HeartbeatOutcome::Gone => Err(ApiError::unauthorized()),
    }
}

/// Whether there is no secret, or one that is too old.
fn wants_fresh_secret(robot: Option<&Robot>, longest: SignedDuration, now: Timestamp) -> bool {
    let secret_since = robot.filter(|robot| robot.secret.is_some()).and_then(|robot| robot.secret_since);
    secret_since.is_none_or(|since| now.duration_since(since) >= longest)
}
