//! What registries tell: a webhook's word that something changed, and a replication adapter's list of what was pushed.
//!
//! The first is a hint, whatever it says: what changed is asked of the registry. The second is taken at its word, in the
//! one group whose secret its URL holds. That secret never leaves the path: log lines, metrics and traces name the route.

use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use fleet_protocol::{GroupState, api};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use oci::RepositoryName;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::acting;
use super::error::ApiError;
use super::extract::{Body, Segment};
use super::state::{Admin, AppState};
use crate::auth::random_token;
use crate::domain::audit::{ActorKind, Authentication};
use crate::domain::replication::Replicated;
use crate::domain::secret::{Hashed, Purpose};

/// Random bytes of a replication secret.
const SECRET_BYTES: usize = 32;

/// How registries reach the hooks.
#[derive(Debug)]
pub struct Hooks {
    /// What stands in `Authorization` of a webhook.
    pub secret: SecretString,
    /// Where the hooks are, without a slash at the end: `https://gc.example.com/hooks`.
    pub url: String,
}

/// `POST /hooks/harbor`: something may have changed in a repository.
pub(crate) async fn harbor(State(state): State<AppState>, request: Request) -> Result<Json<Value>, ApiError> {
    if !is_from_registry(request.headers(), &state.hooks.secret) {
        return Err(ApiError::unauthorized_because("the webhook's secret is missing or wrong"));
    }
    let Body(told): Body<Value> = Body::from_request(request, &state).await?;
    let repository = told.pointer("/event_data/repository/repo_full_name").and_then(Value::as_str);
    let kind = told.get("type").and_then(Value::as_str).unwrap_or_default();
    match repository.map(str::parse::<RepositoryName>) {
        // One that no group names costs one look at the database, and nothing else.
        Some(Ok(repository)) => {
            tracing::debug!(%repository, kind, "webhook");
            state.hints.changed(repository.as_str());
        }
        // Events of another kind, and tests of the policy.
        _ => tracing::debug!(kind, "webhook without a repository"),
    }
    Ok(Json(json!({})))
}

fn is_from_registry(headers: &HeaderMap, secret: &SecretString) -> bool {
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    given.ct_eq(secret.expose_secret().as_bytes()).into()
}

/// `POST /hooks/replication/{secret}`: what a replication adapter pushed, merged into the group of the secret.
pub(crate) async fn replication(
    State(state): State<AppState>,
    Segment(secret): Segment,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let hash = hash(&state, &secret);
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, "no such route");
    // Whoever has no secret does not get as far as a body.
    if !state.store.knows_replication_secret(&hash).await? {
        return Err(unknown());
    }
    let extensions = request.extensions().clone();
    let Body(told): Body<GroupState> = Body::from_request(request, &state).await?;
    if let Some(artifact) = told.artifacts.iter().find(|artifact| artifact.pattern.is_some()) {
        return Err(ApiError::bad_request(format!(
            "the artifact of {} has a rule (`match`), which only people may set",
            artifact.repository
        )));
    }
    // The group is that of the secret, which the store finds.
    let by = acting::actor(&extensions, ActorKind::Hook, "replication", Authentication::HookSecret);
    match state.store.acting_for(by).replicate(&hash, &told.group, told.artifacts, Timestamp::now()).await? {
        Replicated::Unknown => Err(unknown()),
        Replicated::OtherGroup(group) => {
            tracing::warn!(%group, named = %told.group, "replication into another group refused");
            Err(ApiError::forbidden(format!(
                "this URL adds to the group {group} only, and the list names another one: let the replication's \
                 destination namespace be {group}"
            )))
        }
        Replicated::Merged(group) => {
            state.hints.wake();
            state.publisher.wake();
            tracing::info!(group = %group.name, artifacts = group.artifacts.len(), "replication merged");
            Ok(Json(json!({})))
        }
    }
}

fn hash(state: &AppState, secret: &str) -> Hashed {
    state.hash_key.hash(Purpose::Replication, secret)
}

/// `POST /api/groups/{g}/replication-secret`: the URL of the group's adapter, which is told here only.
pub(crate) async fn rotate(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(group): Segment,
) -> Result<Json<api::ReplicationUrl>, ApiError> {
    let secret = random_token(SECRET_BYTES);
    let hash = hash(&state, &secret);
    actor.acting(&state).set_replication_secret(&group, &hash, &actor.username, Timestamp::now()).await?;
    tracing::info!(actor = %actor.username, %group, "replication secret made");
    Ok(Json(api::ReplicationUrl { url: format!("{}/replication/{secret}", state.hooks.url).into() }))
}

/// `DELETE /api/groups/{g}/replication-secret`: the URL is worth nothing any more.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Admin(actor): Admin,
    Segment(group): Segment,
) -> Result<Json<Value>, ApiError> {
    if actor.acting(&state).remove_replication_secret(&group).await? {
        tracing::info!(actor = %actor.username, %group, "replication secret removed");
    }
    Ok(Json(json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_the_whole_header() {
        let secret = SecretString::from("hook-secret");
        for (value, known) in
            [("hook-secret", true), ("hook-secre", false), ("Bearer hook-secret", false), ("", false)]
        {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            assert_eq!(is_from_registry(&headers, &secret), known, "{value}");
        }
        assert!(!is_from_registry(&HeaderMap::new(), &secret));
    }
}
