//! Satellites as people see and make them.

mod filter;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use fleet_protocol::api;
use http::StatusCode;
use identity::SpiffeId;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::conditional::Tagged;
use super::error::ApiError;
use super::extract::{Body, Page, Segment, paged};
use super::state::{Admin, AppState, Viewer};
use crate::domain::config::DEFAULT_CONFIG;
use crate::domain::satellite::{NewSatellite, Satellite, SatelliteFilter, SatelliteState};
use crate::domain::secret::{self, Purpose};
use crate::domain::ztr::TOKEN_LIFETIME;

pub(crate) use filter::Filter;

/// Names that a path below `/api/satellites/` already means something else by.
pub(super) const RESERVED: [&str; 3] = ["active", "stale", "register"];
/// Groups that one satellite may start in.
pub(super) const MOST_GROUPS: usize = 256;

pub(crate) fn view(state: &AppState, satellite: Satellite) -> api::Satellite {
    let spiffe_id = state.identities.as_ref().and_then(|identities| {
        let (region, name) = (satellite.region.parse().ok()?, satellite.name.parse().ok()?);
        Some(SpiffeId::satellite(&identities.trust_domain, &region, &name).to_string())
    });
    api::Satellite {
        id: satellite.id.to_string(),
        name: satellite.name,
        region: satellite.region,
        spiffe_id,
        // A deleted satellite is in no list; should one slip through, nothing of it is admitted any more.
        state: satellite.state.lifecycle().unwrap_or(api::SatelliteLifecycle::Revoked),
        groups: satellite.groups,
        labels: satellite.labels,
        config_name: Some(satellite.config_name),
        last_seen: satellite.last_seen,
        heartbeat_interval: satellite.heartbeat_interval,
        created_at: satellite.created_at,
        updated_at: satellite.updated_at,
    }
}

/// A page of the satellites that a filter chooses, as an answer.
pub(crate) async fn page_of(
    state: &AppState,
    path: &str,
    filter: SatelliteFilter,
    page: Page,
) -> Result<Response, ApiError> {
    let list = state.store.satellites(filter, page.into()).await?;
    Ok(paged(path, page, list.map(|satellite| view(state, satellite))))
}

/// `GET /api/satellites`.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Viewer,
    filter: Filter,
    page: Page,
) -> Result<Response, ApiError> {
    page_of(&state, &filter.path("/api/satellites"), filter.chosen(), page).await
}

/// `GET /api/satellites/active`.
pub(crate) async fn active(
    State(state): State<AppState>,
    _: Viewer,
    filter: Filter,
    page: Page,
) -> Result<Response, ApiError> {
    let path = filter.path("/api/satellites/active");
    page_of(&state, &path, filter.in_state(SatelliteState::Online)?, page).await
}

/// `GET /api/satellites/stale`.
pub(crate) async fn stale(
    State(state): State<AppState>,
    _: Viewer,
    filter: Filter,
    page: Page,
) -> Result<Response, ApiError> {
    let path = filter.path("/api/satellites/stale");
    page_of(&state, &path, filter.in_state(SatelliteState::Stale)?, page).await
}

/// `PATCH /api/satellites/{s}/labels`: a merge patch (RFC 7396).
pub(crate) async fn label(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(name): Segment,
    Body(patch): Body<Value>,
) -> Result<Tagged<api::Satellite>, ApiError> {
    let satellite = actor.acting(&state).patch_labels(&name, &patch, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, satellite = %name, labels = satellite.labels.len(), "satellite labelled");
    Ok(Tagged(satellite.version(), view(&state, satellite)))
}

/// `GET /api/satellites/{s}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
) -> Result<Tagged<api::Satellite>, ApiError> {
    let satellite = state.store.satellite(&name).await?;
    Ok(Tagged(satellite.version(), view(&state, satellite)))
}

/// `POST /api/satellites`: the one-time token is shown here and never again.
pub(crate) async fn create(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Body(request): Body<api::NewSatellite>,
) -> Result<Json<api::NewSatelliteAnswer>, ApiError> {
    state.registry.issuer.serves_tokens()?;
    if RESERVED.contains(&request.name.as_str()) {
        return Err(ApiError::bad_request(format!("the satellite name \"{}\" is reserved", request.name)));
    }
    let mut groups = request.groups.unwrap_or_default();
    groups.sort();
    groups.dedup();
    if groups.len() > MOST_GROUPS {
        return Err(ApiError::bad_request(format!("a satellite starts in at most {MOST_GROUPS} groups")));
    }
    let config_name =
        request.config_name.filter(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT_CONFIG.to_owned());
    let token = secret::generate();
    let now = Timestamp::now();
    let new = NewSatellite {
        name: request.name,
        region: "default".to_owned(),
        groups,
        config_name,
        token: state.hash_key.hash(Purpose::ZtrToken, token.expose_secret()),
        token_expires_at: now.checked_add(TOKEN_LIFETIME).unwrap_or(Timestamp::MAX),
    };
    let satellite = actor.acting(&state).create_satellite(new, now).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, satellite = %satellite.name, "satellite created");
    Ok(Json(api::NewSatelliteAnswer { token: token.expose_secret().to_owned() }))
}

/// `DELETE /api/satellites/{s}`: its credentials end at once.
pub(crate) async fn delete(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    actor.acting(&state).delete_satellite(&name, Timestamp::now()).await?;
    state.publisher.wake();
    state.lifecycle.wake();
    tracing::info!(actor = %actor.username, satellite = %name, "satellite deleted");
    Ok(Json(shut_out(&state, &name)))
}

/// The answer to whoever shuts a satellite out: nothing, or what still stands open to it.
pub(super) fn shut_out(state: &AppState, name: &str) -> Value {
    state.registry.wake();
    match state.registry.revocation_leaves() {
        None => json!({}),
        Some(message) => {
            if state.registry.keeper().is_none() {
                tracing::warn!(satellite = %name, "the satellite still has the registry's shared pull account");
            }
            json!({"message": message})
        }
    }
}

/// `GET /api/satellites/{s}/status`: what it said of itself last.
pub(crate) async fn status(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
) -> Result<Json<api::SatelliteStatus>, ApiError> {
    match state.store.latest_heartbeat(&name).await? {
        Some(last) => {
            Ok(Json(api::SatelliteStatus { heartbeat: last.report, received_at: last.received_at }))
        }
        None => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("satellite {name} has not sent a heartbeat yet"),
        )),
    }
}

/// `GET /api/satellites/{s}/images`: what it said it holds.
pub(crate) async fn images(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
    page: Page,
) -> Result<Response, ApiError> {
    let satellite = state.store.satellite(&name).await?;
    let images = state.store.cached_images(&satellite.name, page.into()).await?;
    let path = format!("/api/satellites/{}/images", satellite.name);
    Ok(paged(&path, page, images.map(|image| api::SatelliteImage::from(&image))))
}
