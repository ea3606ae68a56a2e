//! People's accounts.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use fleet_protocol::api;
use http::StatusCode;
use jiff::Timestamp;
use secrecy::SecretString;

use super::conditional::Tagged;
use super::error::ApiError;
use super::extract::{Body, Page, Segment, paged};
use super::state::{AppState, Person, SystemAdmin};
use crate::auth::check_username;
use crate::domain::user::{NewUser, User};

fn view(user: User) -> api::User {
    api::User {
        id: user.id.to_string(),
        username: user.username,
        role: user.role,
        created_at: user.created_at,
    }
}

/// `GET /api/users`.
pub(crate) async fn list(
    State(state): State<AppState>,
    _: UserReader,
    page: Page,
) -> Result<Response, ApiError> {
    Ok(paged("/api/users", page, state.store.users(page.into()).await?.map(view)))
}

/// `GET /api/users/{u}`.
pub(crate) async fn one(
    State(state): State<AppState>,
    _: UserReader,
    Segment(name): Segment,
) -> Result<Tagged<api::User>, ApiError> {
    // In this order: a tag that is older than what it stands with is refused, one that is newer would hide a change.
    let version = state.store.user_version(&name).await?;
    Ok(Tagged(version, view(state.store.user(&name).await?)))
}

/// Who may see accounts: administrators, not viewers.
pub(crate) use super::state::Admin as UserReader;

/// `POST /api/users`.
pub(crate) async fn create(
    State(state): State<AppState>,
    SystemAdmin(actor): SystemAdmin,
    Body(request): Body<api::NewUser>,
) -> Result<Response, ApiError> {
    check_username(&request.username).map_err(ApiError::bad_request)?;
    let password = SecretString::from(request.password);
    state.people.policy().check(&password).map_err(ApiError::bad_request)?;
    let password_hash = state.people.hash(password, &actor.id).await?;
    let new = NewUser { username: request.username, role: request.role, password_hash };
    let user = actor.acting(&state).create_user(new, Timestamp::now()).await?;
    tracing::info!(actor = %actor.username, username = %user.username, role = user.role.as_str(), "account created");
    Ok((StatusCode::CREATED, Json(view(user))).into_response())
}

/// `DELETE /api/users/{u}`.
pub(crate) async fn delete(
    State(state): State<AppState>,
    SystemAdmin(actor): SystemAdmin,
    Segment(name): Segment,
) -> Result<StatusCode, ApiError> {
    actor.acting(&state).delete_user(&name, &actor.id).await?;
    tracing::info!(actor = %actor.username, username = %name, "account deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// `PATCH /api/users/{u}`: another role, which counts from the next request on, for sessions and API tokens, too.
pub(crate) async fn set_role(
    State(state): State<AppState>,
    SystemAdmin(actor): SystemAdmin,
    Segment(name): Segment,
    Body(request): Body<api::SetRole>,
) -> Result<Json<api::User>, ApiError> {
    let user = actor.acting(&state).set_role(&name, request.role, Timestamp::now()).await?;
    tracing::info!(actor = %actor.username, username = %name, role = user.role.as_str(), "role changed");
    Ok(Json(view(user)))
}

/// `PATCH /api/users/password`: of oneself, with the present password as a proof. One's sessions end, one's API tokens stay.
pub(crate) async fn change_own_password(
    State(state): State<AppState>,
    person: Person,
    Body(request): Body<api::ChangePassword>,
) -> Result<StatusCode, ApiError> {
    let store = person.acting(&state);
    let (user, current) = (person.user, SecretString::from(request.current_password));
    state.people.confirm_password(&user, &current).await?;
    let hash = new_hash(&state, &user, request.new_password).await?;
    store.set_password(&user.username, &hash, Timestamp::now()).await?;
    tracing::info!(username = %user.username, "password changed");
    Ok(StatusCode::NO_CONTENT)
}

/// `PATCH /api/users/{u}/password`: of another, whose sessions and API tokens end: whoever had got hold of the account is out.
pub(crate) async fn set_password(
    State(state): State<AppState>,
    SystemAdmin(actor): SystemAdmin,
    Segment(name): Segment,
    Body(request): Body<api::SetPassword>,
) -> Result<StatusCode, ApiError> {
    // An unknown name is told before a password is stretched for it.
    state.store.user(&name).await?;
    let hash = new_hash(&state, &actor, request.new_password).await?;
    actor.acting(&state).reset_password(&name, &hash, Timestamp::now()).await?;
    tracing::info!(actor = %actor.username, username = %name, "password set");
    Ok(StatusCode::NO_CONTENT)
}

async fn new_hash(state: &AppState, actor: &User, password: String) -> Result<String, ApiError> {
    let password = SecretString::from(password);
    state.people.policy().check(&password).map_err(ApiError::bad_request)?;
    Ok(state.people.hash(password, &actor.id).await?)
}
