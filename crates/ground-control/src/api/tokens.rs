//! Tokens that people make for programs.
//!
//! They are made, listed and deleted by people, with a session or a password: a token that could make tokens could outlive
//! itself, and open more than it was given.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse as _, Response};
use fleet_protocol::api;
use http::StatusCode;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;

use super::error::ApiError;
use super::extract::{Body, Page, Segment, paged};
use super::state::{AppState, Caller, Person};
use crate::domain::TokenId;
use crate::domain::token::{ApiToken, Scopes};
use crate::domain::user::Role;

/// The life of a token where nobody says how long.
const USUAL_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The longest life: a token that nobody renews is one that nobody remembers.
const LONGEST_LIFE: SignedDuration = SignedDuration::from_hours(366 * 24);
/// The longest name, in characters.
const LONGEST_NAME: usize = 64;

/// Somebody who came without a token, whose body is not looked at before that.
#[derive(Debug)]
pub(crate) struct InPerson(Caller);

impl FromRequestParts<AppState> for InPerson {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let person = Person::from_request_parts(parts, state).await?;
        match person.token {
            None => Ok(Self(person.into())),
            Some(_) => Err(ApiError::forbidden(
                "API tokens are managed by people: log in, or use your name and password",
            )),
        }
    }
}

fn view(token: ApiToken) -> api::ApiToken {
    api::ApiToken {
        id: token.id.to_string(),
        name: token.name,
        owner: token.owner.username,
        scopes: token.scopes.list().to_vec(),
        created_at: token.created_at,
        expires_at: token.expires_at,
        last_used_at: token.last_used_at,
    }
}

/// `GET /api/tokens`: one's own; of a `system_admin` everybody's.
pub(crate) async fn list(
    State(state): State<AppState>,
    InPerson(user): InPerson,
    page: Page,
) -> Result<Response, ApiError> {
    let owner = (user.role < Role::SystemAdmin).then_some(&user.id);
    Ok(paged("/api/tokens", page, state.store.api_tokens(owner, page.into()).await?.map(view)))
}

/// `POST /api/tokens`: one's own; the only answer that holds the token.
pub(crate) async fn create(
    State(state): State<AppState>,
    InPerson(user): InPerson,
    Body(request): Body<api::NewApiToken>,
) -> Result<Response, ApiError> {
    let now = Timestamp::now();
    let (name, scopes, expires_at) = checked(request, user.role, now)?;
    let (text, token) =
        state.people.make_api_token(&user.acting(&state), user.id.clone(), name, scopes, expires_at).await?;
    tracing::info!(actor = %user.username, token = %token.id, scopes = %token.scopes, "api token made");
    let answer = api::CreatedApiToken { token: text.expose_secret().to_owned(), details: view(token) };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// `DELETE /api/tokens/{t}`: one's own; of a `system_admin` everybody's.
pub(crate) async fn delete(
    State(state): State<AppState>,
    InPerson(user): InPerson,
    Segment(id): Segment,
) -> Result<StatusCode, ApiError> {
    let owner = (user.role < Role::SystemAdmin).then_some(&user.id);
    let token = user.acting(&state).delete_api_token(&TokenId::from(id), owner).await?;
    tracing::info!(actor = %user.username, token = %token.id, owner = %token.owner.username, "api token deleted");
    Ok(StatusCode::NO_CONTENT)
}

fn checked(
    request: api::NewApiToken,
    role: Role,
    now: Timestamp,
) -> Result<(String, Scopes, Timestamp), ApiError> {
    let name = request.name;
    if name.trim() != name
        || name.is_empty()
        || name.chars().count() > LONGEST_NAME
        || name.chars().any(char::is_control)
    {
        return Err(ApiError::bad_request(format!(
            "name: 1 to {LONGEST_NAME} characters are wanted, without control characters, and no space at its ends"
        )));
    }
    let scopes = Scopes::new(request.scopes)
        .ok_or_else(|| ApiError::bad_request("scopes: at least one is needed, or the token opens nothing"))?;
    if let Some(scope) = scopes.beyond(role) {
        return Err(ApiError::forbidden(format!(
            "scopes: {} needs the role {}, and yours is {}",
            scope.as_str(),
            scope.needs().as_str(),
            role.as_str()
        )));
    }
    let longest = now.checked_add(LONGEST_LIFE).unwrap_or(Timestamp::MAX);
    let expires_at = match request.expires_at {
        None => now.checked_add(USUAL_LIFE).unwrap_or(Timestamp::MAX),
        Some(at) if at > now && at <= longest => at,
        Some(_) => {
            return Err(ApiError::bad_request(format!(
                "expires_at: must lie in the future, and no later than {longest}"
            )));
        }
    };
    Ok((name, scopes, expires_at))
}

#[cfg(test)]
mod tests {
    use fleet_protocol::api::Scope;

    use super::*;

    fn request() -> api::NewApiToken {
        api::NewApiToken { name: "ci".into(), scopes: vec![Scope::Read], expires_at: None }
    }

    #[test]
    fn requests_are_checked() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let status = |request, role| checked(request, role, now).map_err(|error| error.status().as_u16());
        let (_, _, expires_at) = checked(request(), Role::Viewer, now).unwrap();
        assert_eq!(expires_at.duration_since(now), USUAL_LIFE);
        for name in ["", " ci", "ci\n", &"x".repeat(65)] {
            let named = api::NewApiToken { name: name.to_owned(), ..request() };
            assert_eq!(status(named, Role::Viewer).unwrap_err(), 400, "{name:?}");
        }
        assert_eq!(status(api::NewApiToken { scopes: vec![], ..request() }, Role::Viewer).unwrap_err(), 400);
        for at in [now, now + LONGEST_LIFE + SignedDuration::from_secs(1)] {
            let late = api::NewApiToken { expires_at: Some(at), ..request() };
            assert_eq!(status(late, Role::Viewer).unwrap_err(), 400, "{at}");
        }
        for (scope, least) in [
            (Scope::RegistryPull, Role::Viewer),
            (Scope::Write, Role::Admin),
            (Scope::RegistryPush, Role::Admin),
            (Scope::Admin, Role::SystemAdmin),
        ] {
            for role in [Role::Viewer, Role::Admin, Role::SystemAdmin] {
                let wish = api::NewApiToken { scopes: vec![Scope::Read, scope], ..request() };
                let expected = if role < least { Some(403) } else { None };
                assert_eq!(status(wish, role).err(), expected, "{scope:?} as {role:?}");
            }
        }
    }
}
