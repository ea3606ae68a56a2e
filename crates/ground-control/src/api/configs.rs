//! Named configurations of satellites.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fleet_protocol::api;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::conditional::Tagged;
use super::error::ApiError;
use super::extract::{Body, Page, Segment, paged};
use super::state::{Admin, AppState, Viewer};
use crate::domain::config::Config;

/// The name that a path below `/api/configs/` already means something else by.
const RESERVED: &str = "satellite";

fn view(state: &AppState, config: Config) -> api::Config {
    api::Config {
        id: config.id.to_string(),
        config_name: config.name,
        registry_url: state.registry.url.clone(),
        config: config.document,
        created_at: config.created_at,
        updated_at: config.updated_at,
    }
}

/// `GET /api/configs`.
pub(crate) async fn list(State(state): State<AppState>, _: Viewer, page: Page) -> Result<Response, ApiError> {
    let configs = state.store.configs(page.into()).await?;
    Ok(paged("/api/configs", page, configs.map(|config| view(&state, config))))
}

/// `GET /api/configs/{c}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
) -> Result<Tagged<api::Config>, ApiError> {
    let config = state.store.config(&name).await?;
    Ok(Tagged(config.version(), view(&state, config)))
}

/// `POST /api/configs`.
pub(crate) async fn create(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Body(request): Body<api::NewConfig>,
) -> Result<Response, ApiError> {
    if request.config_name == RESERVED {
        return Err(ApiError::bad_request(format!("the config name \"{RESERVED}\" is reserved")));
    }
    let config =
        actor.acting(&state).create_config(&request.config_name, request.config, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, config = %config.name, "config created");
    Ok((StatusCode::CREATED, Tagged(config.version(), view(&state, config))).into_response())
}

/// `PATCH /api/configs/{c}`: a merge patch (RFC 7396) of the document.
pub(crate) async fn patch(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(name): Segment,
    Body(patch): Body<Value>,
) -> Result<Tagged<api::Config>, ApiError> {
    let config = actor.acting(&state).patch_config(&name, patch, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, config = %config.name, "config changed");
    Ok(Tagged(config.version(), view(&state, config)))
}

/// `DELETE /api/configs/{c}`: refused while a satellite has it.
pub(crate) async fn delete(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    actor.acting(&state).delete_config(&name, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, config = %name, "config deleted");
    Ok(Json(json!({})))
}

/// `POST /api/configs/satellite`: gives a satellite a config.
pub(crate) async fn assign(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Body(request): Body<api::ConfigAssignment>,
) -> Result<Json<Value>, ApiError> {
    actor.acting(&state).assign_config(&request.satellite, &request.config_name, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(
        actor = %actor.username, satellite = %request.satellite, config = %request.config_name, "config assigned"
    );
    Ok(Json(json!({})))
}
