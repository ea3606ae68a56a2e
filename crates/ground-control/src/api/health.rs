//! Health, for load balancers and people.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::state::AppState;
use crate::central::RegistryKind;

/// `GET /ping`: the process answers.
pub(crate) async fn ping() -> &'static str {
    "pong"
}

/// `GET /health`: the process answers and its database does.
pub(crate) async fn live(State(state): State<AppState>) -> Response {
    match database(&state).await {
        true => Json(json!({"status": "healthy"})).into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "unhealthy"}))).into_response(),
    }
}

/// `GET /health/ready`: requests may be sent here: the database answers, the built-in registry's store is open, and the
/// publisher has had its first look there, and nobody asked the server to end. How far publishing is behind is told, and is
/// no reason to send nobody here; nor is another registry that does not answer, for what people do is taken all the same.
pub(crate) async fn ready(State(state): State<AppState>) -> Response {
    readiness(&state).await
}

/// The answer of `/health/ready`, for every listener that gives it.
pub(crate) async fn readiness(state: &AppState) -> Response {
    let draining = state.draining.is_cancelled();
    let database = database(state).await;
    let publisher = state.publisher.status();
    let started = publisher.rounds > 0;
    let (registry, serving) = match &state.registry.kind {
        RegistryKind::Builtin(blobs) => {
            let ok = blobs.usage().is_ok();
            (json!({"ok": ok, "backend": state.registry.name(), "revocation": "immediate"}), ok && started)
        }
        RegistryKind::Harbor(registry, keeper) => {
            let last = registry.last_answer();
            let body = json!({
                "ok": last.is_none_or(|last| last.ok) && !keeper.is_away(),
                "backend": state.registry.name(),
                "revocation": "as-soon-as-harbor-answers",
                "webhooks": webhooks(state).await,
                "url": state.registry.url,
                "asked_at": last.map(|last| last.at),
            });
            (body, true)
        }
        RegistryKind::Oci(registry) => {
            let last = registry.last_answer();
            let body = json!({
                "ok": last.is_none_or(|last| last.ok),
                "backend": state.registry.name(),
                "revocation": "ground-control-only",
                "url": state.registry.url,
                "asked_at": last.map(|last| last.at),
            });
            (body, true)
        }
    };
    let ready = database && serving && !draining;
    let body = json!({
        "status": if draining { "draining" } else if ready { "ready" } else { "not ready" },
        "database": {"kind": state.store.kind(), "ok": database},
        "registry": registry,
        "publisher": {
            "ok": started && publisher.last_error.is_none(),
            "waiting": publisher.lag.waiting,
            "failing": publisher.lag.failing,
            "oldest": publisher.lag.oldest,
        },
        // Whoever knows no SPIFFE is served without one.
        "identity": state.identities.as_ref().map(|identities| {
            let current = identities.own.current();
            json!({
                "ok": current.is_some(),
                "spiffe_id": current.as_ref().map(|current| current.svid.id().to_string()),
                "expires_at": current.as_ref().map(|current| current.svid.leaf().not_after),
            })
        }),
        // A sink that is away is no reason to send nobody here: it gets its rows when it is back.
        "audit": {"sinks": state.sinks.all()},
        "version": env!("CARGO_PKG_VERSION"),
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// How the registry's policies stand; null where the database does not say.
async fn webhooks(state: &AppState) -> Option<Value> {
    let all = state.store.policies().await.ok()?;
    Some(json!({
        "kept": all.kept,
        "forbidden": all.forbidden,
        "pending": all.pending,
        "reason": all.reason,
        "checked_at": all.checked_at,
    }))
}

async fn database(state: &AppState) -> bool {
    match state.store.ping().await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "database does not answer");
            false
        }
    }
}
