//! Groups of artifacts, and who is in them.

mod resolutions;
mod revisions;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use fleet_protocol::GroupState;
use fleet_protocol::api;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::conditional::Tagged;
use super::error::ApiError;
use super::extract::{Body, Page, Segment, paged};
use super::satellites::{self, Filter};
use super::state::{Admin, AppState, SystemAdmin, Viewer};
use crate::domain::group::Group;
use crate::domain::label::Selector;

pub(crate) use revisions::{list as revisions, one as revision, restore};

/// Names that a path below `/api/groups/` already means something else by.
const RESERVED: [&str; 2] = ["sync", "satellite"];

fn view(state: &AppState, group: Group) -> api::Group {
    api::Group {
        id: group.id.to_string(),
        registry_url: state.registry.url.clone(),
        projects: group.projects(),
        group_name: group.name,
        artifacts: group.artifacts,
        selector: group.selector.map(|selector| selector.to_string()),
        created_at: group.created_at,
        updated_at: group.updated_at,
    }
}

/// `GET /api/groups`.
pub(crate) async fn list(State(state): State<AppState>, _: Viewer, page: Page) -> Result<Response, ApiError> {
    let groups = state.store.groups(page.into()).await?;
    Ok(paged("/api/groups", page, groups.map(|group| view(&state, group))))
}

/// `GET /api/groups/{g}`: with what its list stands for at this moment.
pub(crate) async fn one(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
) -> Result<Tagged<api::GroupDetail>, ApiError> {
    let group = state.store.group(&name).await?;
    let known = state.store.resolutions(&name).await?;
    let resolutions = resolutions::view(&group.artifacts, &known);
    Ok(Tagged(group.version(), api::GroupDetail { group: view(&state, group), resolutions }))
}

/// `POST /api/groups/sync`: replaces the group's list; makes the group if it is not there.
pub(crate) async fn sync(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Body(request): Body<GroupState>,
) -> Result<Tagged<api::Group>, ApiError> {
    if RESERVED.contains(&request.group.as_str()) {
        return Err(ApiError::bad_request(format!("the group name \"{}\" is reserved", request.group)));
    }
    let (name, now) = (request.group, Timestamp::now());
    let group = actor.acting(&state).sync_group(&name, request.artifacts, &actor.username, now).await?;
    state.hints.wake();
    state.publisher.wake();
    tracing::info!(actor = %actor.username, group = %group.name, artifacts = group.artifacts.len(), "group set");
    Ok(Tagged(group.version(), view(&state, group)))
}

/// `PUT /api/groups/{g}/selector`: who is in it by labels.
pub(crate) async fn select(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(name): Segment,
    Body(request): Body<api::GroupSelector>,
) -> Result<Tagged<api::Group>, ApiError> {
    let selector = match request.selector.as_deref().map(str::trim) {
        None | Some("") => None,
        Some(text) => Some(text.parse::<Selector>().map_err(ApiError::bad_request)?),
    };
    let group = actor.acting(&state).set_selector(&name, selector, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, group = %name, "group selector set");
    Ok(Tagged(group.version(), view(&state, group)))
}

/// `DELETE /api/groups/{g}`: its satellites lose it.
pub(crate) async fn delete(
    State(state): State<AppState>,
    SystemAdmin(actor): SystemAdmin,
    Segment(name): Segment,
) -> Result<Json<Value>, ApiError> {
    actor.acting(&state).delete_group(&name, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, group = %name, "group deleted");
    Ok(Json(json!({})))
}

/// `GET /api/groups/{g}/satellites`.
pub(crate) async fn satellites(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
    filter: Filter,
    page: Page,
) -> Result<Response, ApiError> {
    let group = state.store.group(&name).await?;
    let path = filter.path(&format!("/api/groups/{}/satellites", group.name));
    satellites::page_of(&state, &path, filter.in_group(group.name)?, page).await
}

/// `POST /api/groups/satellite`: once more is no error.
pub(crate) async fn add_satellite(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Body(request): Body<api::GroupMember>,
) -> Result<Json<api::Message>, ApiError> {
    actor.acting(&state).join_group(&request.satellite, &request.group, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, satellite = %request.satellite, group = %request.group, "group joined");
    Ok(Json(api::Message {
        message: format!("satellite {} is in group {}", request.satellite, request.group),
    }))
}

/// `DELETE /api/groups/satellite`: once more is no error.
pub(crate) async fn remove_satellite(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Body(request): Body<api::GroupMember>,
) -> Result<Json<api::Message>, ApiError> {
    actor.acting(&state).leave_group(&request.satellite, &request.group, Timestamp::now()).await?;
    state.publisher.wake();
    tracing::info!(actor = %actor.username, satellite = %request.satellite, group = %request.group, "group left");
    Ok(Json(api::Message {
        message: format!("satellite {} is not in group {}", request.satellite, request.group),
    }))
}
