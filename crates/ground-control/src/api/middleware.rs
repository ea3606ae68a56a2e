//! What happens around every request: its id, its line in the log, its limits, and the shape of its errors.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use otlp::TraceContext;
use registry_server::listen::{Later, PeerCertificates};
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::acting::RequestContext;
use super::error::ApiError;
use crate::audit::{self, Refusals};
use crate::auth::{Credentials, source_of};
use crate::domain::audit::{Actor, ActorKind, Authentication, Event};
use crate::metrics::{Metrics, NO_ROUTE};

/// The header that ties a request to its lines in the logs of both sides.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long a request of the API may take, its body included. Blobs are not bound by it.
pub(crate) const API_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests of the API served at once; more wait for their turn. How many wait is bounded by the connections.
const API_CONCURRENCY: usize = 512;
/// For how long they wait until they are told to come back: a fleet that comes back at once is served within that, and
/// whoever is not would only make it worse.
const API_PATIENCE: Duration = Duration::from_secs(5);

/// The gate of [`limit`].
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    slots: Arc<Semaphore>,
    patience: Duration,
}

impl Default for Gate {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(API_CONCURRENCY)), patience: API_PATIENCE }
    }
}

/// In an answer: for how long the request waited for something to happen, which says nothing about this server's speed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited(pub(crate) Duration);

/// What every answer is told to.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    pub(crate) metrics: Metrics,
    pub(crate) refusals: Refusals,
}

/// What is looked at again where a request is refused.
struct Asked {
    path: String,
    source: IpAddr,
    authorization: Option<HeaderValue>,
    shown: bool,
}

impl Asked {
    fn of(request: &Request) -> Self {
        let authorization = request.headers().get(header::AUTHORIZATION).cloned();
        let shown = authorization.is_some() || request.extensions().get::<PeerCertificates>().is_some();
        let source = source_of(request.extensions());
        Self { path: request.uri().path().to_owned(), source, authorization, shown }
    }

    /// The audit's row where this answer is a refusal: of whoever was found to ask, or of the name that they claim.
    fn refused(
        self,
        method: &Method,
        route: &str,
        status: StatusCode,
        known: &RequestContext,
    ) -> Option<(Actor, Event)> {
        let actor = known.actor();
        let event = audit::refused((method, route, &self.path), status, actor.as_ref(), self.shown)?;
        let actor = actor.unwrap_or_else(|| {
            let headers =
                self.authorization.map(|value| (header::AUTHORIZATION, value)).into_iter().collect();
            let name = match Credentials::of(&headers) {
                Credentials::Basic { username, .. } => username,
                _ => String::new(),
            };
            Actor::new(ActorKind::Anonymous, name, Authentication::None)
                .with_request(self.source, Some(known.id()))
        });
        Some((actor, event))
    }
}

/// Takes the caller's request id (1 to 128 of letters, digits, `.`, `_`, `-`) or makes one, opens the span that
/// every line of the request carries, and echoes the id.
///
/// The span names the route's template, never the path: a path may hold a one-time token. It belongs to the trace that the
/// caller names (`traceparent`, W3C Trace Context), or begins one; its trace is in every line, too.
pub(crate) async fn context(
    State(Around { metrics, refusals }): State<Around>,
    mut request: Request,
    next: Next,
) -> Response {
    let under_way = metrics.under_way();
    let given = request.headers().get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let id = match given.filter(|id| valid_request_id(id)) {
        Some(id) => id.to_owned(),
        None => uuid::Uuid::now_v7().simple().to_string(),
    };
    let route = request.extensions().get::<MatchedPath>().cloned();
    let registry = request.uri().path().starts_with("/v2/");
    // Names of repositories are no secrets and are what one looks for in a registry's log.
    let shown =
        if registry { request.uri().path() } else { route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str) };
    // What machines ask all day long is of interest only when it fails.
    let frequent = registry || matches!(shown, "/satellites/sync" | "/ping" | "/health" | "/health/ready");
    let came = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let came = came.and_then(TraceContext::parse);
    // What machines ask all day long is of interest to whoever traces them.
    let own = came.map_or_else(|| TraceContext::root(!frequent), TraceContext::child);
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.sampled = own.sampled,
        id = %id,
        method = %request.method(),
        route = %shown,
        source = %source_of(request.extensions()),
        trace_id = %own.trace,
        span_id = %own.span,
        parent_id = came.map(|came| tracing::field::display(came.span)),
        status = tracing::field::Empty,
    );
    let answered = span.clone();
    let known = RequestContext::new(&id);
    request.extensions_mut().insert(known.clone());
    let asked = Asked::of(&request);
    let (start, method) = (Instant::now(), request.method().clone());
    let finish = move |mut response: Response| {
        let status = response.status();
        let waited = response.extensions().get::<Waited>().map_or(Duration::ZERO, |waited| waited.0);
        let elapsed = start.elapsed().saturating_sub(waited);
        answered.record("status", status.as_u16());
        drop(under_way);
        let template = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
        metrics.answered(&method, template, status, elapsed);
        if let Some((actor, event)) = asked.refused(&method, template, status, &known) {
            refusals.note(actor, event);
        }
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), elapsed_ms, "answered");
        } else if frequent && !status.is_client_error() {
            tracing::debug!(status = status.as_u16(), elapsed_ms, "answered");
        } else {
            tracing::info!(status = status.as_u16(), elapsed_ms, "answered");
        }
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    };
    let still = span.clone();
    async move { Later::then(next.run(request).await, |answer| answer.instrument(still), finish) }
        .instrument(span)
        .await
}

/// Bounds how many requests of the API are under way, and for how long. Who only waits for something to happen
/// ([`Later`]) is not under way any more.
pub(crate) async fn limit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let Ok(Ok(_permit)) = tokio::time::timeout(gate.patience, gate.slots.acquire_owned()).await else {
        return ApiError::unavailable("too many requests at once, try again in a moment").into_response();
    };
    match tokio::time::timeout(API_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response(),
    }
}

/// Gives errors that the framework made (no such route, wrong method, body too large) our shape, and keeps
/// answers, which may hold secrets, out of caches.
pub(crate) async fn shape(request: Request, next: Next) -> Response {
    Later::then(next.run(request).await, |answer| answer, shaped)
}

fn shaped(mut response: Response) -> Response {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        // The framework's own are plain text; a page is for a person in a browser.
        let kind = response.headers().get(header::CONTENT_TYPE);
        let ours = kind.is_some_and(|t| t == "application/json" || t.as_bytes().starts_with(b"text/html"));
        if !ours {
            let message = match status {
                StatusCode::NOT_FOUND => "no such route",
                StatusCode::METHOD_NOT_ALLOWED => "this route does not take this method, see Allow",
                StatusCode::PAYLOAD_TOO_LARGE => "the body is too large",
                _ => status.canonical_reason().unwrap_or("failed"),
            };
            let (parts, shaped) = (response.into_parts().0, ApiError::new(status, message).into_response());
            let mut headers = parts.headers;
            headers.remove(header::CONTENT_LENGTH);
            headers.remove(header::CONTENT_TYPE);
            response = shaped;
            response.headers_mut().extend(headers);
        }
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer where no route is: in the same shape as every other refusal.
pub(crate) async fn no_route() -> Response {
    ApiError::new(StatusCode::NOT_FOUND, "no such route").into_response()
}

/// The answer to a panic in a handler: the connection's other requests go on.
pub(crate) fn panicked(_cause: Box<dyn std::any::Any + Send + 'static>) -> http::Response<Body> {
    ApiError::internal("a handler panicked").into_response()
}

fn valid_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn through(router: Router) -> Response {
        router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_full_gate_turns_away_and_says_when_to_come_back() {
        let router = || Router::new().route("/", get(|| async { "served" }));
        let gate = Gate { slots: Arc::new(Semaphore::new(1)), patience: Duration::ZERO };
        let behind = router().layer(from_fn_with_state(gate.clone(), limit));
        assert_eq!(through(behind.clone()).await.status(), StatusCode::OK);
        assert_eq!(through(behind.clone()).await.status(), StatusCode::OK, "a permit is given back");
        let _taken = gate.slots.acquire().await.unwrap();
        let refused = through(behind).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn at_a_full_gate_the_next_waits_for_its_turn() {
        let gate = Gate { slots: Arc::new(Semaphore::new(1)), ..Gate::default() };
        let behind = Router::new()
            .route("/", get(|| async { "served" }))
            .layer(from_fn_with_state(gate.clone(), limit));
        let taken = gate.slots.acquire().await.unwrap();
        let waiting = tokio::spawn(through(behind));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(taken);
        assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_panic_is_one_answer_of_500() {
        let panics = Router::new().route("/", get(|| async { panic!("secret") as () }));
        let answer = through(panics.layer(CatchPanicLayer::custom(panicked))).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }

    #[test]
    fn request_ids_are_bounded_and_plain() {
        assert!(valid_request_id("a.b_c-1"));
        for bad in ["", "a b", "a\"b", "ü", &"a".repeat(129)] {
            assert!(!valid_request_id(bad), "{bad}");
        }
    }
}
