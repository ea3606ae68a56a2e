//! The HTTP side: people's routes under `/api`, the satellites' routes, health, and what is around all of them.
//!
//! Handlers are thin: they read a request, ask the store, and shape the answer. Every change is one call of the
//! store, which writes the intent to publish in the same transaction; the handler only wakes the publisher.

mod accounts;
mod acting;
mod audit;
mod browser;
mod caller;
mod conditional;
mod configs;
mod credentials;
mod error;
mod extract;
mod groups;
mod health;
mod hooks;
mod idempotency;
mod limits;
mod middleware;
mod oidc;
mod openapi;
mod page;
mod people;
mod registration;
mod rollouts;
mod satellites;
mod spire;
mod state;
mod sync;
mod tokens;
mod users;
mod wait;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, patch, post, put};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;

use self::caller::VerifiesSvids;
use crate::identity::builtin;

pub(crate) use acting::unnamed_satellite;
pub use error::ApiError;
pub(crate) use extract::Body;
pub(crate) use health::readiness;
pub use hooks::Hooks;
pub use limits::RequestLimits;
pub use state::AppState;

/// Largest body of a login, a registration, an account: a few names and secrets.
const SMALL_BODY: usize = 16 * 1024;
/// Largest body of everything else but lists.
const BODY: usize = 1024 * 1024;
/// Largest list: ten thousand artifacts of a group, or ten thousand images of a heartbeat.
const LIST_BODY: usize = 8 * 1024 * 1024;

/// For whom a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The only one, where there is no SPIFFE: every route, and a client's certificate names no satellite.
    Only,
    /// The one that shows our SVID: every route, and a client's certificate is an SVID.
    Svid,
    /// The one beside it, for all that know no SPIFFE: without the routes that only an identity leads to.
    Web,
}

/// The routes of a listener, and the registry's routes beside them, behind what surrounds all requests.
pub fn router(state: AppState, registry: Router, listener: Listener) -> Router {
    // Apart from all else: those who wait for their password to be checked take nobody's place who is logged in.
    let login = Router::new()
        .route("/login", post(people::login))
        .layer(DefaultBodyLimit::max(SMALL_BODY))
        .layer(from_fn_with_state(middleware::Gate::default(), middleware::limit));
    let small = Router::new()
        .route("/api/logout", post(people::logout))
        .route("/auth/logout", post(oidc::logout))
        .route("/auth/oidc", get(oidc::provider))
        .route("/auth/session", get(oidc::session))
        .route("/auth/signed-in", get(oidc::signed_in))
        .route("/api/users", get(users::list).post(users::create))
        .route("/api/users/password", patch(users::change_own_password))
        .route("/api/users/{user}", get(users::one).patch(users::set_role).delete(users::delete))
        .route("/api/users/{user}/password", patch(users::set_password))
        .route("/api/tokens", get(tokens::list).post(tokens::create))
        .route("/api/tokens/{token}", delete(tokens::delete))
        .route("/satellites/credentials", post(credentials::renew));
    let sign_in = Router::new()
        .route("/auth/oidc/callback", get(oidc::callback))
        .route("/auth/oidc/login", get(oidc::login))
        .route("/auth/oidc/token", post(oidc::exchange))
        .layer(from_fn_with_state(Arc::clone(&state.limits), limits::sign_ins));
    let by_token = Router::new()
        .route("/satellites/ztr", post(sync::register))
        .route("/satellites/ztr/{token}", get(sync::register_by_path));
    let by_identity = Router::new().route("/satellites/spiffe-ztr", get(credentials::register_by_svid));
    let authority = builtin::routes(state.identities.as_ref().and_then(|all| all.authority.clone()));
    let first = if listener == Listener::Web { by_token } else { by_token.merge(authority) };
    let first = first.layer(from_fn_with_state(Arc::clone(&state.limits), limits::registrations));
    let small = if listener == Listener::Web { small } else { small.merge(by_identity) };
    let small = small.merge(sign_in).merge(first);
    let once = from_fn_with_state(state.clone(), idempotency::once);
    let small = small.layer(once.clone()).layer(DefaultBodyLimit::max(SMALL_BODY));
    let usual = Router::new()
        .route("/api/audit", get(audit::list))
        .route("/api/groups", get(groups::list))
        .route("/api/groups/satellite", post(groups::add_satellite).delete(groups::remove_satellite))
        .route("/api/groups/{group}", get(groups::one).delete(groups::delete))
        .route("/api/groups/{group}/accounts", get(accounts::of_group))
        .route("/api/groups/{group}/replication-secret", post(hooks::rotate).delete(hooks::remove))
        .route("/api/groups/{group}/revisions", get(groups::revisions))
        .route("/api/groups/{group}/revisions/{revision}", get(groups::revision))
        .route("/api/groups/{group}/revisions/{revision}/restore", post(groups::restore))
        .route("/api/groups/{group}/rollout", get(rollouts::of_group))
        .route("/api/groups/{group}/selector", put(groups::select))
        .route("/api/groups/{group}/satellites", get(groups::satellites))
        .route("/api/configs", get(configs::list).post(configs::create))
        .route("/api/configs/satellite", post(configs::assign))
        .route("/api/configs/{config}", get(configs::one).patch(configs::patch).delete(configs::delete))
        .route("/api/satellites", get(satellites::list).post(satellites::create))
        .route("/api/satellites/active", get(satellites::active))
        .route("/api/satellites/stale", get(satellites::stale))
        .route("/api/satellites/register", post(registration::register))
        .route("/api/satellites/{satellite}", get(satellites::one).delete(satellites::delete))
        .route("/api/satellites/{satellite}/accounts", get(accounts::of_satellite))
        .route("/api/satellites/{satellite}/approve", post(registration::approve))
        .route("/api/satellites/{satellite}/artifacts", get(rollouts::of_satellite))
        .route("/api/satellites/{satellite}/enable", post(registration::enable))
        .route("/api/satellites/{satellite}/images", get(satellites::images))
        .route("/api/satellites/{satellite}/labels", patch(satellites::label))
        .route("/api/satellites/{satellite}/revoke", post(registration::revoke))
        .route("/api/satellites/{satellite}/status", get(satellites::status))
        .route("/api/spire/agents", get(spire::agents))
        .route("/api/spire/status", get(spire::status))
        .route("/hooks/harbor", post(hooks::harbor))
        .layer(once.clone())
        .layer(DefaultBodyLimit::max(BODY));
    let lists = Router::new()
        .route("/api/groups/sync", post(groups::sync))
        .route("/satellites/sync", post(sync::heartbeat))
        .route("/hooks/replication/{secret}", post(hooks::replication))
        .layer(once)
        .layer(DefaultBodyLimit::max(LIST_BODY));
    let open = Router::new()
        .route("/ping", get(health::ping))
        .route("/health", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/openapi.json", get(openapi::document))
        .route("/docs", get(openapi::page));
    let around = middleware::Around { metrics: state.metrics.clone(), refusals: state.refusals.clone() };
    let proxies = state.proxies.clone();
    let api = Router::new()
        .merge(small)
        .merge(usual)
        .merge(lists)
        // From the inside out: the gate and the time limit, then the shape of errors (those of the limit too).
        // Health stays outside the gate: whoever looks would else take a busy server for a dead one.
        .layer(from_fn_with_state(middleware::Gate::default(), middleware::limit))
        .merge(login)
        .merge(open)
        .with_state(state)
        .layer(from_fn(middleware::shape));
    let router = Router::new()
        .merge(api)
        .merge(registry)
        .fallback(middleware::no_route)
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn_with_state(around, middleware::context))
        .layer(from_fn_with_state(proxies, limits::source));
    if listener == Listener::Svid { router.layer(Extension(VerifiesSvids)) } else { router }
}
