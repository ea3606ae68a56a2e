//! The routes for node agents, on the listener for the site's own network. The site's token opens them, and nothing else
//! does.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::{get, put};
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::wire::{LARGEST_REPORT, MOST_IMAGES, NodeReport, is_node_name};
use super::{Site, token};

/// The longest that an answer waits for a change.
const LONGEST_WAIT: u64 = 60;

/// The routes.
pub fn routes(site: Site) -> Router {
    Router::new()
        .route(super::wire::PLAN_PATH, get(plan))
        .route("/site/v1/nodes/{name}", put(report))
        .with_state(site)
}

async fn plan(State(site): State<Site>, headers: HeaderMap) -> Response {
    if let Err(refused) = admit(&site, &headers).await {
        return refused;
    }
    let known = headers.get(IF_NONE_MATCH);
    let mut published = site.inner.plan.subscribe();
    let now = published.borrow_and_update().clone();
    if known == Some(&now.etag) {
        let wait = Duration::from_secs(wait(&headers));
        tokio::select! {
            _ = published.changed() => {}
            () = site.inner.stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    let now = published.borrow().clone();
    let mut answer = if known == Some(&now.etag) {
        with(StatusCode::NOT_MODIFIED, Body::empty())
    } else {
        let mut answer = with(StatusCode::OK, Body::from(now.body.to_vec()));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    };
    answer.headers_mut().insert(ETAG, now.etag);
    answer
}

async fn report(State(site): State<Site>, Path(name): Path<String>, request: Request) -> Response {
    if let Err(refused) = admit(&site, request.headers()).await {
        return refused;
    }
    if !is_node_name(&name) {
        return refusal(
            StatusCode::BAD_REQUEST,
            "a node's name is 1 to 253 letters, digits, dots, hyphens and underscores",
        );
    }
    let Ok(body) = axum::body::to_bytes(request.into_body(), LARGEST_REPORT).await else {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "a report is at most 1 MiB");
    };
    let report: NodeReport = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &format!("no report of a node: {error}")),
    };
    if report.images.len() > MOST_IMAGES {
        return refusal(StatusCode::BAD_REQUEST, "a report names at most 4000 images");
    }
    match site.inner.nodes.take(&name, report, Timestamp::now()) {
        Ok(()) => with(StatusCode::NO_CONTENT, Body::empty()),
        Err(full) => refusal(StatusCode::SERVICE_UNAVAILABLE, &full.to_string()),
    }
}

/// Whether a request shows the site's token. It is compared by its digest, in a time that says nothing.
async fn admit(site: &Site, headers: &HeaderMap) -> Result<(), Response> {
    let path = site.inner.token_file.clone();
    let read = tokio::task::spawn_blocking(move || token::read(&path)).await;
    let token = match read {
        Ok(Ok(token)) => token,
        Ok(Err(error)) => {
            tracing::warn!(%error, "site token not read, node agents are refused");
            return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "the satellite cannot read its site token"));
        }
        Err(_) => return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "the satellite is ending")),
    };
    let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let shown = match shown.split_at_checked(7) {
        Some((scheme, shown)) if scheme.eq_ignore_ascii_case(b"bearer ") => shown,
        _ => Default::default(),
    };
    let digest = |bytes: &[u8]| Sha256::digest(bytes);
    if digest(shown).ct_eq(&digest(token.expose_secret().as_bytes())).into() {
        return Ok(());
    }
    let mut refused = refusal(StatusCode::UNAUTHORIZED, "show the site's token (--site-token-file)");
    refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"site\""));
    Err(refused)
}

/// The first `wait` among the preferences (RFC 7240 section 4.3), in seconds.
fn wait(headers: &HeaderMap) -> u64 {
    let lines = headers.get_all("prefer").into_iter().filter_map(|line| line.to_str().ok());
    let wait = lines.flat_map(|line| line.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"').parse().unwrap_or(0))
    });
    wait.unwrap_or(0).min(LONGEST_WAIT)
}

fn refusal(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({ "message": message, "code": status.as_u16() });
    let mut answer = with(status, Body::from(body.to_string()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn with(status: StatusCode, body: Body) -> Response {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests;
