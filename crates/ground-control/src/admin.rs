//! The operators' listener: metrics, health and the log's level, apart from what people and satellites use.
//!
//! It knows no login, and so it is on loopback unless somebody names another address. What it shows holds no secret and
//! no name of a satellite; what it changes is what is logged, and [`crate::log`] keeps secrets out of that at every
//! level.

mod fleet;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::fleet::Fleet;
use crate::api::{ApiError, AppState, readiness};
use crate::log::{FilterError, LogControl};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest body: a list of directives.
const BODY: usize = 4096;
/// The text format of OpenMetrics.
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// What the handlers share.
#[derive(Debug, Clone)]
struct Admin {
    app: AppState,
    log: LogControl,
    fleet: Arc<Fleet>,
}

/// The routes of the operators' listener.
pub fn router(app: AppState, log: LogControl) -> Router {
    let fleet = Arc::new(Fleet::new(Arc::clone(&app.store)));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .route("/live", get(live))
        .route("/log-level", get(log_level).put(set_log_level).delete(reset_log_level))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(Admin { app, log, fleet })
        .fallback(no_route)
        .layer(from_fn(surround))
}

/// `GET /metrics`: everything that is measured, as OpenMetrics text.
async fn metrics(State(admin): State<Admin>) -> Response {
    let (app, now) = (&admin.app, Timestamp::now());
    app.metrics.set_publisher(&app.publisher.status(), now);
    app.metrics.set_waiting_polls(app.desired.waiting());
    let counts = admin.fleet.counts().await;
    app.metrics.set_satellites(counts.as_ref().map(|counts| &counts.satellites));
    app.metrics.set_unresolved(counts.as_ref().map(|counts| counts.unresolved));
    if let Some(identities) = &app.identities {
        let ends = identities.own.current().map(|current| current.svid.leaf().not_after);
        app.metrics.set_svid(identities.provider.as_str(), ends, now);
    }
    match app.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// `GET /ready`: what `/health/ready` says on the other listeners, for as long as this program runs.
async fn ready(State(admin): State<Admin>) -> Response {
    readiness(&admin.app).await
}

/// `GET /live`: the process answers; whether its database does is a matter of readiness, since no restart mends that.
async fn live() -> &'static str {
    "alive\n"
}

/// `GET /log-level`.
async fn log_level(State(admin): State<Admin>) -> Json<Value> {
    Json(shown(&admin.log))
}

/// `PUT /log-level`: a level, or a list of levels and modules, as plain text.
async fn set_log_level(State(admin): State<Admin>, body: String) -> Result<Json<Value>, ApiError> {
    let filter = admin.log.set(&body).map_err(refused)?;
    tracing::warn!(%filter, "log level changed");
    Ok(Json(shown(&admin.log)))
}

/// `DELETE /log-level`: as at the start.
async fn reset_log_level(State(admin): State<Admin>) -> Result<Json<Value>, ApiError> {
    let filter = admin.log.reset().map_err(refused)?;
    tracing::warn!(%filter, "log level reset");
    Ok(Json(shown(&admin.log)))
}

fn shown(log: &LogControl) -> Value {
    json!({"filter": log.current().to_string(), "start": log.start().to_string()})
}

fn refused(error: FilterError) -> ApiError {
    match error {
        FilterError::Fixed(_) => ApiError::conflict(error.to_string()),
        FilterError::Length | FilterError::Directive(_) | FilterError::Foreign(..) => {
            ApiError::bad_request(error.to_string())
        }
    }
}

async fn no_route() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "no such route; there are /metrics, /ready, /live and /log-level")
}

/// Around every request. Pages that a browser on this machine shows have no business here: browsers name the page's origin
/// with everything that changes something.
async fn surround(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return ApiError::forbidden("not for browsers").into_response();
    }
    let mut response = match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::unavailable("the answer took too long").into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
