//! Whoever makes identities, as people see it.

use axum::Json;
use axum::extract::{RawQuery, State};
use fleet_protocol::api::{SpireAgents, SpireStatus};

use super::error::ApiError;
use super::state::{AppState, SystemAdmin};

/// `GET /api/spire/status`.
pub(crate) async fn status(State(state): State<AppState>, _: SystemAdmin) -> Json<SpireStatus> {
    let Some(identities) = &state.identities else {
        return Json(SpireStatus { enabled: false, trust_domain: None, provider: None, connected: false });
    };
    let connected = match &identities.registrar {
        Some(registrar) => registrar.connected().await,
        None => false,
    };
    Json(SpireStatus {
        enabled: true,
        trust_domain: Some(identities.trust_domain.to_string()),
        provider: Some(identities.provider.as_str().to_owned()),
        connected,
    })
}

/// `GET /api/spire/agents?attestation_type=`.
pub(crate) async fn agents(
    State(state): State<AppState>,
    _: SystemAdmin,
    RawQuery(query): RawQuery,
) -> Result<Json<SpireAgents>, ApiError> {
    let query = query.unwrap_or_default();
    let wanted = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, value)| name == "attestation_type" && !value.is_empty())
        .map(|(_, value)| value.into_owned());
    let known =
        |text: &String| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if wanted.as_ref().is_some_and(|text| !known(text) || text.len() > 63) {
        return Err(ApiError::bad_request(
            "attestation_type: a name as join_token, x509pop or sshpop is wanted",
        ));
    }
    let registrar = state.identities.as_ref().and_then(|identities| identities.registrar.as_ref());
    let registrar = registrar.ok_or_else(|| {
        ApiError::unavailable("nobody here makes identities; SPIFFE is off, or no SPIRE server is configured")
    })?;
    Ok(Json(SpireAgents { agents: registrar.agents(wanted.as_deref()).await? }))
}
