//! How much one account, and one source of strangers, may ask for. Each limit is about one thing: what fails to register
//! holds up no login, and no heartbeat.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};
use jiff::Timestamp;
use registry_server::listen::TrustedProxies;

use super::error::ApiError;
use super::page::Page;
use crate::auth::{Limiter, forwarded, source_of};
use crate::domain::UserId;
use crate::domain::limit::{Rate, Source};
use crate::metrics::{Limit, Metrics};

/// Registrations and renewals of one source that fail, and nonces that it asks for. Those that succeed count for nothing: a
/// site of hundreds behind one address comes back after a power cut.
const REGISTRATIONS: Rate = Rate { burst: 2000, every: Duration::from_millis(50) };
/// Logins at the identity provider that one source begins: each is a row in the database for whoever asks.
const LOGINS: Rate = Rate { burst: 100, every: Duration::from_secs(1) };
/// Answers of the provider and codes of command lines, of one source, that are worth nothing: each is a look into the database
/// for whoever asks.
const SIGN_INS: Rate = Rate { burst: 100, every: Duration::from_secs(1) };
/// Seconds' worth of its requests that an account may send at once.
const BURST_SECONDS: u32 = 10;

/// The limits of this replica.
#[derive(Debug)]
pub struct RequestLimits {
    accounts: Limiter<UserId>,
    registrations: Limiter<Source>,
    logins: Limiter<Source>,
    sign_ins: Limiter<Source>,
    metrics: Metrics,
}

impl RequestLimits {
    /// `per_second`: requests that one account may send, ten times as many at once.
    pub fn new(per_second: u32, metrics: Metrics) -> Self {
        let per_second = per_second.max(1);
        let accounts = Rate {
            burst: per_second.saturating_mul(BURST_SECONDS),
            every: Duration::from_secs(1) / per_second,
        };
        Self {
            accounts: Limiter::new(accounts),
            registrations: Limiter::new(REGISTRATIONS),
            logins: Limiter::new(LOGINS),
            sign_ins: Limiter::new(SIGN_INS),
            metrics,
        }
    }

    /// Somebody at this source begins a login at the identity provider; how long to wait where that were too many.
    pub(crate) fn login(&self, source: Source) -> Result<(), Duration> {
        let taken = self.logins.take(source, Timestamp::now());
        taken.inspect_err(|_| self.metrics.limited(Limit::Source))
    }

    /// A request of this account comes.
    pub(crate) fn account(&self, id: &UserId) -> Result<(), ApiError> {
        self.accounts.take(id.clone(), Timestamp::now()).map_err(|wait| {
            self.metrics.limited(Limit::Account);
            ApiError::slow_down("too many requests of this account, go on more slowly", wait)
        })
    }
}

/// Around the routes on which a satellite proves itself for the first time, or anew.
pub(crate) async fn registrations(
    State(limits): State<Arc<RequestLimits>>,
    request: Request,
    next: Next,
) -> Response {
    let source = Source::of(source_of(request.extensions()));
    if let Some(wait) = limits.registrations.exhausted(&source, Timestamp::now()) {
        limits.metrics.limited(Limit::Registration);
        let text = "too many failed registrations from this address, try again later";
        return ApiError::slow_down(text, wait).into_response();
    }
    // A nonce is a row in the database for whoever asks.
    let counts = *request.method() == Method::GET && request.uri().path() == "/satellites/renew";
    let response = next.run(request).await;
    if counts || is_refusal(&response) {
        // That there is none left is told to the next one.
        let _ = limits.registrations.take(source, Timestamp::now());
    }
    response
}

/// Around what a browser and a command line ask for until they are signed in. Who is has nothing to do with it.
pub(crate) async fn sign_ins(
    State(limits): State<Arc<RequestLimits>>,
    request: Request,
    next: Next,
) -> Response {
    let source = Source::of(source_of(request.extensions()));
    if let Some(wait) = limits.sign_ins.exhausted(&source, Timestamp::now()) {
        limits.metrics.limited(Limit::Source);
        // This one is asked by a program, and the others by a browser.
        if request.uri().path() == "/auth/oidc/token" {
            return ApiError::slow_down("too many failed logins from this address, try again later", wait)
                .into_response();
        }
        return Page::too_many("Too many failed logins come from here", wait).into_response();
    }
    let response = next.run(request).await;
    if is_refusal(&response) {
        // That there is none left is told to the next one.
        let _ = limits.sign_ins.take(source, Timestamp::now());
    }
    response
}

/// Whether whoever asked showed nothing that is good.
fn is_refusal(response: &Response) -> bool {
    matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Notes where a request comes from, where proxies are trusted that pass requests on; whoever looks for its source afterwards
/// finds that one.
pub(crate) async fn source(
    State(proxies): State<TrustedProxies>,
    mut request: Request,
    next: Next,
) -> Response {
    use axum::extract::ConnectInfo;
    use std::net::SocketAddr;

    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    if let Some(peer) = peer {
        let source = forwarded(peer.ip(), request.headers(), &proxies);
        if source != peer.ip() {
            // The port is that of the proxy's own connection and says nothing about another address.
            let port = if source == peer.ip().to_canonical() { peer.port() } else { 0 };
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(source, port)));
        }
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::body::Body;
    use axum::extract::ConnectInfo;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(router: &Router, path: &str, peer: &str) -> Response {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        router.clone().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn only_failures_count_and_only_for_their_source() {
        let limits = Arc::new(RequestLimits::new(1, Metrics::default()));
        let router = Router::new()
            .route("/good", get(|| async {}))
            .route("/bad", get(|| async { StatusCode::UNAUTHORIZED }))
            .layer(from_fn_with_state(Arc::clone(&limits), registrations));
        for _ in 0..REGISTRATIONS.burst + 100 {
            assert_eq!(ask(&router, "/good", "192.0.2.1").await.status(), 200);
        }
        // Those that come in meanwhile leave room for a few more than the burst.
        let mut refused = 0;
        for _ in 0..2 * REGISTRATIONS.burst {
            refused += u32::from(ask(&router, "/bad", "192.0.2.1").await.status() == 429);
        }
        assert!(refused > 0);
        let elsewhere = ask(&router, "/bad", "192.0.2.2").await;
        assert_eq!(elsewhere.status(), 401);
        while limits.registrations.exhausted(&Source::of([192, 0, 2, 1].into()), Timestamp::now()).is_none() {
            ask(&router, "/bad", "192.0.2.1").await;
        }
        let refusal = ask(&router, "/good", "192.0.2.1").await;
        if refusal.status() == 429 {
            assert_eq!(refusal.headers()["retry-after"], "1");
        }
    }

    #[tokio::test]
    async fn failed_sign_ins_are_bound_to_their_source() {
        let limits = Arc::new(RequestLimits::new(1, Metrics::default()));
        let refused = || get(|| async { StatusCode::UNAUTHORIZED });
        let router = Router::new()
            .route("/auth/oidc/callback", refused())
            .route("/auth/oidc/token", refused())
            .route("/good", get(|| async {}))
            .layer(from_fn_with_state(Arc::clone(&limits), sign_ins));
        for _ in 0..2 * SIGN_INS.burst {
            assert_eq!(ask(&router, "/good", "192.0.2.1").await.status(), 200);
        }
        let mut answers = (0, 0);
        for _ in 0..2 * SIGN_INS.burst {
            let page = ask(&router, "/auth/oidc/callback", "192.0.2.1").await;
            match page.status().as_u16() {
                401 => answers.0 += 1,
                429 => {
                    answers.1 += 1;
                    assert!(page.headers().contains_key("retry-after"));
                    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
                }
                other => panic!("{other}"),
            }
        }
        assert!(answers.0 >= SIGN_INS.burst && answers.1 > 0, "{answers:?}");
        assert_eq!(ask(&router, "/auth/oidc/token", "192.0.2.2").await.status(), 401);
        let source = Source::of([192, 0, 2, 1].into());
        while limits.sign_ins.exhausted(&source, Timestamp::now()).is_none() {
            ask(&router, "/auth/oidc/callback", "192.0.2.1").await;
        }
        let token = ask(&router, "/auth/oidc/token", "192.0.2.1").await;
        if token.status() == 429 {
            assert_eq!(token.headers()["content-type"], "application/json");
        }
    }

    #[test]
    fn an_account_has_its_share() {
        let limits = RequestLimits::new(1, Metrics::default());
        let id = UserId::generate();
        for _ in 0..BURST_SECONDS {
            limits.account(&id).unwrap();
        }
        assert_eq!(limits.account(&id).unwrap_err().status(), 429);
        limits.account(&UserId::generate()).unwrap();
    }
}
