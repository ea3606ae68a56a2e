//! The satellites' side: registration by one-time token, and heartbeats.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use fleet_protocol::heartbeat::REFRESH_CREDENTIALS;
use fleet_protocol::{Heartbeat, HeartbeatAnswer, StateConfig, ZtrRequest};
use http::HeaderMap;
use jiff::Timestamp;
use registry_server::listen::Later;
use secrecy::ExposeSecret as _;

use super::acting::{RequestContext, unnamed_satellite};
use super::caller::Reporter;
use super::credentials::state_config;
use super::error::ApiError;
use super::extract::{Body, Segment};
use super::middleware::Waited;
use super::state::AppState;
use super::wait::{self, Preference, Waiter};
use crate::auth::source_of;
use crate::central::InUse;
use crate::domain::audit::{Actor, Authentication};
use crate::domain::secret::Purpose;
use crate::domain::ztr::{ClaimRefusal, Claimant};
use crate::store::{Fold, Incoming, Taken};

/// Characters of a token and of a nonce: 128 bits in hexadecimal.
const HEX: usize = 32;
/// How long a heartbeat waits that left a list out which is not known here.
const LIST_SOON: Duration = Duration::from_secs(1);

/// `POST /satellites/ztr`: the token and a nonce of the device, in the body and not in a URL.
pub(crate) async fn register(
    State(state): State<AppState>,
    parts: Parts,
    Body(request): Body<ZtrRequest>,
) -> Result<Json<StateConfig>, ApiError> {
    let nonce = request.nonce.expose_secret();
    if !is_hex(nonce) {
        return Err(ApiError::bad_request(
            "nonce must be 32 hexadecimal digits, made once and kept by the device",
        ));
    }
    let claimant = Claimant::Nonce(state.hash_key.hash(Purpose::ZtrNonce, nonce));
    let by = unnamed_satellite(&parts.extensions, Authentication::RegistrationToken);
    claim(&state, by, request.token.expose_secret(), claimant).await
}

/// `GET /satellites/ztr/{token}`: the form of deployed satellites, which have no nonce; answered again for ten
/// minutes to the same address.
pub(crate) async fn register_by_path(
    State(state): State<AppState>,
    Segment(token): Segment,
    parts: Parts,
) -> Result<Json<StateConfig>, ApiError> {
    let by = unnamed_satellite(&parts.extensions, Authentication::RegistrationToken);
    claim(&state, by, &token, Claimant::Source(source_of(&parts.extensions))).await
}

async fn claim(
    state: &AppState,
    by: Actor,
    token: &str,
    claimant: Claimant,
) -> Result<Json<StateConfig>, ApiError> {
    state.registry.issuer.serves_tokens()?;
    let unknown = || ApiError::bad_request("the token is not known; ask an administrator for a new one");
    if !is_hex(token) {
        return Err(unknown());
    }
    let token = state.hash_key.hash(Purpose::ZtrToken, token);
    let claimed = match state.registry.issuer.claim(by, token, claimant, Timestamp::now()).await? {
        Ok(claimed) => claimed,
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
    tracing::info!(satellite = %claimed.satellite, again = claimed.again, "satellite registered");
    Ok(Json(state_config(state, claimed.satellite, claimed.credentials)))
}

fn is_hex(text: &str) -> bool {
    text.len() == HEX && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `POST /satellites/sync`: a heartbeat. Who sends it is who the credential says, whatever name stands in it; megabytes are
/// read only from who has one. With `Prefer: wait=N` it is answered when there is news for the satellite, or after N seconds.
pub(crate) async fn heartbeat(
    State(state): State<AppState>,
    Extension(context): Extension<RequestContext>,
    reporter: Reporter,
    headers: HeaderMap,
    Body(report): Body<Heartbeat>,
) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let preference = wait::preferred(&headers);
    drop(headers);
    let known = report.generation;
    let (taken, name, mut answer) = fold(&state, reporter, report, now).await?;
    let Some(preference) = preference else {
        answer.desired = state.desired.tell(&name);
        return Ok(Json(*answer).into_response());
    };
    // Whoever has to send its list is asked for it soon. The wait began with the request, also where it stood in a queue since.
    let wait = preference.duration();
    let until = context.began() + if taken.list_missing { wait.min(LIST_SOON) } else { wait };
    let waiter = Waiter::new(&state, taken.satellite, name, known, until);
    Ok(Later::response(told(waiter, answer, preference)))
}

/// The answer to a heartbeat that waits.
async fn told(waiter: Waiter, mut answer: Box<HeartbeatAnswer>, preference: Preference) -> Response {
    let folded = Instant::now();
    if let Err(refusal) = waiter.for_news().await {
        return refusal.into_response();
    }
    answer.desired = waiter.tell();
    let mut response = Json(answer).into_response();
    response.headers_mut().insert(wait::PREFERENCE_APPLIED, preference.applied());
    response.extensions_mut().insert(Waited(folded.elapsed()));
    response
}

/// Takes what a heartbeat says; what of its answer does not wait.
async fn fold(
    state: &AppState,
    reporter: Reporter,
    report: Heartbeat,
    now: Timestamp,
) -> Result<(Box<Taken>, Box<str>, Box<HeartbeatAnswer>), ApiError> {
    let (name, registry_username) = (reporter.name().to_owned(), report.registry_username.clone());
    let incoming =
        Incoming { name: name.clone(), credential: reporter.credential(state), received_at: now, report };
    let Fold::Taken(taken) = state.heartbeats.record(incoming).await? else {
        return Err(reporter.refusal(state, now).await);
    };
    if taken.first {
        tracing::info!(satellite = %name, "satellite online");
    }
    let (robot, secret) = match &reporter {
        Reporter::Svid(svid) => {
            if taken.awaits_use {
                svid.used(state, &taken.satellite, now).await?;
            }
            (&taken.robot, None)
        }
        Reporter::Robot(robot, presented) => (&**robot, Some(presented)),
    };
    let mut answer = HeartbeatAnswer {
        inventory_digest: taken.inventory.clone(),
        nodes_digest: taken.nodes.clone(),
        ..HeartbeatAnswer::default()
    };
    let shown = InUse { by_svid: secret.is_none(), secret, registry_username: &registry_username };
    if state.registry.issuer.are_stale(Some(robot), shown, now).await {
        answer.events.push(REFRESH_CREDENTIALS.to_owned());
    }
    Ok((taken, name.into(), Box::new(answer)))
}
