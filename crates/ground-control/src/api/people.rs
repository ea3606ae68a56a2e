//! Logging in and out.

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use fleet_protocol::api::{LoginAnswer, LoginRequest};
use http::{StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};

use super::acting;
use super::browser;
use super::error::ApiError;
use super::extract::Body;
use super::state::{AppState, Person};
use crate::auth::source_of;
use crate::domain::audit::{ActorKind, Authentication};

/// `POST /login`: a name and a password for a session.
pub(crate) async fn login(
    State(state): State<AppState>,
    parts: Parts,
    Body(request): Body<LoginRequest>,
) -> Result<Json<LoginAnswer>, ApiError> {
    let password = SecretString::from(request.password);
    acting::claimed(&parts.extensions, &request.username);
    let known =
        state.people.check_password(&request.username, &password, source_of(&parts.extensions)).await?;
    let name = &known.user.username;
    let actor = acting::actor(&parts.extensions, ActorKind::User, name, Authentication::Password);
    let (token, expires_at) = state.people.open_session(&known.user, actor).await?;
    tracing::info!(username = %known.user.username, "logged in");
    Ok(Json(LoginAnswer { token: token.expose_secret().to_owned(), expires_at }))
}

/// `POST /api/logout`: ends the session that asks.
pub(crate) async fn logout(State(state): State<AppState>, person: Person) -> Result<Response, ApiError> {
    if let Some(session) = &person.session {
        state.people.end_session(session, person.actor.clone()).await?;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if person.by_cookie {
        response.headers_mut().append(header::SET_COOKIE, browser::take(browser::SESSION));
    }
    Ok(response)
}
