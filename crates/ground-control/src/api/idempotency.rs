//! Requests that make something, sent again after a lost connection: `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! The same key of the same caller with the same request gives the same answer, from the database and so at every replica, and
//! makes nothing a second time. A request with a key is carried out to its end, also where the caller has gone: its answer is
//! what the caller will ask for. Whatever was refused or failed before anything was made forgets its key.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest as _, FromRequestParts as _, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use super::error::ApiError;
use super::state::{AppState, Authenticated, Person};
use crate::domain::idempotency::{Attempt, CLAIM, Claim, LIFETIME, Outcome, SECRET_LIFETIME};
use crate::domain::secret::Purpose;
use crate::domain::user::Role;

/// The header with the key: a string in quotes (RFC 8941 section 3.3.3), or its bare text.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says of an answer that it was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in characters.
const LONGEST: usize = 128;
/// The largest answer that is kept, in bytes.
const MOST: usize = 256 * 1024;

/// A route that makes something.
struct Create {
    path: &'static str,
    /// Who may ask: who may not any more is not told what was answered, either.
    role: Role,
    /// Whether the answer holds a secret.
    secret: bool,
}

/// Every route whose requests may have a key; all of them are POST.
const CREATES: &[Create] = {
    const fn create(path: &'static str, role: Role, secret: bool) -> Create {
        Create { path, role, secret }
    }
    &[
        create("/api/configs", Role::Admin, false),
        create("/api/groups/sync", Role::Admin, false),
        create("/api/groups/{group}/replication-secret", Role::Admin, true),
        create("/api/groups/{group}/revisions/{revision}/restore", Role::Admin, false),
        create("/api/satellites", Role::Admin, true),
        create("/api/satellites/register", Role::SystemAdmin, true),
        create("/api/satellites/{satellite}/enable", Role::Admin, true),
        create("/api/tokens", Role::Viewer, true),
        create("/api/users", Role::SystemAdmin, false),
    ]
};

/// Whether requests of this route may have a key, and then whether the answer holds a secret.
pub(super) fn takes_key(method: &str, path: &str) -> Option<bool> {
    let create = CREATES.iter().find(|create| method == "post" && create.path == path);
    create.map(|create| create.secret)
}

/// An answer as it is kept, before it is sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    etag: Option<String>,
    body: String,
}

/// Around the routes of people: what makes something is made once for each key.
pub(crate) async fn once(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let create = CREATES.iter().find(|create| Some(create.path) == route);
    let Some(create) = create.filter(|_| request.method() == Method::POST) else {
        return next.run(request).await;
    };
    if !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    carry_out(&state, create, request, next).await.unwrap_or_else(|refusal| refusal.into_response())
}

async fn carry_out(
    state: &AppState,
    create: &Create,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let person = Person::from_request_parts(&mut parts, state).await?;
    if person.user.role < create.role {
        // Refused where everybody else is.
        parts.extensions.insert(Authenticated(person));
        return Ok(next.run(Request::from_parts(parts, body)).await);
    }
    let key = key(&parts.headers)?;
    let claim = Claim {
        caller: caller(&person),
        key_hash: hex::encode(Sha256::digest(key)),
        holder: uuid::Uuid::now_v7().simple().to_string(),
    };
    let bytes = Bytes::from_request(Request::from_parts(parts.clone(), body), state)
        .await
        .map_err(|rejection| ApiError::new(rejection.status(), rejection.body_text()))?;
    let attempt = Attempt { claim, request_hash: request_hash(state, &parts, &bytes) };
    parts.extensions.insert(Authenticated(person.claiming(attempt.claim.clone())));
    let request = Request::from_parts(parts, Body::from(bytes));
    // From here on it goes on by itself: who asked may go away, and will ask for the answer.
    let task = perform(state.clone(), attempt, create.secret, request, next);
    tokio::spawn(task.in_current_span()).await.map_err(ApiError::internal)?
}

async fn perform(
    state: AppState,
    attempt: Attempt,
    secret: bool,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let outcome = state.store.claim_key(&attempt, Timestamp::now()).await?;
    let claim = attempt.claim;
    match outcome {
        Outcome::Claimed => {}
        Outcome::UnderWay => {
            return Err(ApiError::conflict(
                "the request with this Idempotency-Key is under way, ask again in a moment",
            )
            .retry_after(1));
        }
        Outcome::AnotherRequest => {
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "this Idempotency-Key was another request's (another path or body): make a new key for each request",
            ));
        }
        Outcome::Forgotten => {
            return Err(ApiError::conflict(
                "the request with this Idempotency-Key was carried out, and its answer is not kept (any more): look at what \
                 it made; a secret that was shown then can be made anew, and with a new key the request is a new one",
            ));
        }
        Outcome::Answered(status, sealed) => return replay(&state, &claim, status, &sealed),
    }
    // Nobody else begins within the time of the claim, and what has not ended well before that never will.
    let within = CLAIM.unsigned_abs() / 2;
    let response = tokio::time::timeout(within, next.run(request))
        .await
        .map_err(|_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the request took too long"))?;
    Ok(settle(&state, &claim, secret, response).await)
}

/// Keeps the answer, or forgets the key where nothing was made.
async fn settle(state: &AppState, claim: &Claim, secret: bool, response: Response) -> Response {
    if !response.status().is_success() {
        if let Err(error) = state.store.release_key(claim).await {
            tracing::warn!(%error, "idempotency key not released, it is free again in two minutes");
        }
        return response;
    }
    let (parts, body) = response.into_parts();
    let bytes = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return ApiError::internal(error).into_response(),
    };
    let kept = (bytes.len() <= MOST).then(|| sealed(state, claim, &parts.headers, &bytes)).flatten();
    let life = if secret { SECRET_LIFETIME } else { LIFETIME };
    let until = Timestamp::now().checked_add(life).unwrap_or(Timestamp::MAX);
    match state.store.keep_answer(claim, parts.status.as_u16(), kept.as_deref(), until).await {
        Ok(true) => {}
        Ok(false) => tracing::warn!("the idempotency key of an answered request is another one's"),
        Err(error) => tracing::warn!(%error, "answer to an idempotency key not kept"),
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn sealed(state: &AppState, claim: &Claim, headers: &HeaderMap, bytes: &Bytes) -> Option<String> {
    let etag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let kept = Kept { etag, body: std::str::from_utf8(bytes).ok()?.to_owned() };
    let text = zeroize::Zeroizing::new(serde_json::to_string(&kept).ok()?);
    state.answers.seal(place(claim).as_bytes(), &text).ok()
}

/// Where a sealed answer belongs: in no other place it opens.
fn place(claim: &Claim) -> String {
    format!("{}\n{}", claim.caller, claim.key_hash)
}

fn replay(state: &AppState, claim: &Claim, status: u16, sealed: &str) -> Result<Response, ApiError> {
    let text = state.answers.open(place(claim).as_bytes(), sealed).map_err(ApiError::internal)?;
    let kept: Kept = serde_json::from_str(&text).map_err(ApiError::internal)?;
    let status = StatusCode::from_u16(status).map_err(ApiError::internal)?;
    let mut response = (status, kept.body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if let Some(tag) = kept.etag.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        headers.insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Whose key it is: what an API token asked for is not answered to another one of the same owner.
fn caller(person: &Person) -> String {
    match &person.token {
        Some(token) => format!("{}/{}", person.user.id.as_str(), token.as_str()),
        None => person.user.id.as_str().to_owned(),
    }
}

/// What is asked for, under the server key: it may hold a password, which nobody is to try out against a copy of the database.
fn request_hash(state: &AppState, parts: &Parts, body: &[u8]) -> String {
    let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
    let asked = format!("{}\n{target}\n{}", parts.method, hex::encode(Sha256::digest(body)));
    state.hash_key.hash(Purpose::IdempotentRequest, &asked).as_str().to_owned()
}

fn key(headers: &HeaderMap) -> Result<&str, ApiError> {
    let wrong = || {
        ApiError::bad_request(format!(
            "Idempotency-Key: one text of 1 to {LONGEST} characters is wanted, in quotes or of letters, digits, - and _ alone"
        ))
    };
    let mut given = headers.get_all(KEY).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return Err(wrong()) };
    let text = value.to_str().map_err(|_| wrong())?.trim();
    let inner = match text.strip_prefix('"') {
        // Escapes would be two texts of one key.
        Some(rest) => rest.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\'])),
        None => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            text.chars().all(plain).then_some(text)
        }
    };
    inner.filter(|key| (1..=LONGEST).contains(&key.len())).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(KEY, line.parse().unwrap());
        }
        key(&headers).ok().map(str::to_owned)
    }

    #[test]
    fn a_key_is_one_text() {
        let uuid = "8e03978e-40d5-43dd-bc93-6894a57f9324";
        assert_eq!(of(&[uuid]).as_deref(), Some(uuid));
        assert_eq!(of(&[&format!("\"{uuid}\"")]).as_deref(), Some(uuid));
        assert_eq!(of(&["\"two words\""]).as_deref(), Some("two words"));
        let long = "x".repeat(LONGEST + 1);
        for bad in [
            &["two words"][..],
            &[""],
            &["\"\""],
            &["\"a"],
            &["a\""],
            &["\"a\"b\""],
            &["\"a\\\"\""],
            &[&long],
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        assert_eq!(of(&["a", "a"]), None);
    }

    #[test]
    fn an_answer_with_a_secret_is_known_as_one() {
        assert_eq!(takes_key("post", "/api/tokens"), Some(true));
        assert_eq!(takes_key("post", "/api/users"), Some(false));
        assert_eq!(takes_key("get", "/api/users"), None);
        assert_eq!(takes_key("post", "/api/logout"), None);
    }
}
