//! The history of a group's list, and the way back.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use fleet_protocol::api;
use jiff::Timestamp;

use crate::api::error::ApiError;
use crate::api::extract::{Page, Segment, paged};
use crate::api::state::{Admin, AppState, Viewer};
use crate::domain::revision::{Revision, RevisionDetail};

type Named = Result<Path<(String, String)>, PathRejection>;

/// Which revision of which group a path names.
fn named(path: Named) -> Result<(String, u64), ApiError> {
    let Path((group, number)) = path.map_err(|_| ApiError::bad_request("the path is not valid UTF-8"))?;
    let number = number.parse().map_err(|_| {
        ApiError::bad_request("a revision is named by its number, as the list of them tells it")
    })?;
    Ok((group, number))
}

fn view(revision: Revision) -> api::GroupRevision {
    api::GroupRevision {
        number: revision.number,
        author: revision.author,
        created_at: revision.created_at,
        restored_from: revision.restored_from,
        added: revision.added,
        removed: revision.removed,
        changed: revision.changed,
        reordered: revision.reordered,
    }
}

fn view_detail(detail: RevisionDetail) -> Json<api::GroupRevisionDetail> {
    Json(api::GroupRevisionDetail {
        revision: view(detail.revision),
        artifacts: detail.artifacts,
        difference: detail.difference,
    })
}

/// `GET /api/groups/{g}/revisions`.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: Viewer,
    Segment(name): Segment,
    page: Page,
) -> Result<Response, ApiError> {
    let revisions = state.store.revisions(&name, page.into()).await?;
    Ok(paged(&format!("/api/groups/{name}/revisions"), page, revisions.map(view)))
}

/// `GET /api/groups/{g}/revisions/{n}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    _: Viewer,
    path: Named,
) -> Result<Json<api::GroupRevisionDetail>, ApiError> {
    let (group, number) = named(path)?;
    Ok(view_detail(state.store.revision(&group, number).await?))
}

/// `POST /api/groups/{g}/revisions/{n}/restore`: answers the revision that this made.
pub(crate) async fn restore(
    State(state): State<AppState>,
    Admin(actor): Admin,
    path: Named,
) -> Result<Json<api::GroupRevisionDetail>, ApiError> {
    let (group, number) = named(path)?;
    let made =
        actor.acting(&state).restore_revision(&group, number, &actor.username, Timestamp::now()).await?;
    state.hints.wake();
    state.publisher.wake();
    tracing::info!(
        actor = %actor.username, group = %group, from = number, revision = made.revision.number, "group restored"
    );
    Ok(view_detail(made))
}
