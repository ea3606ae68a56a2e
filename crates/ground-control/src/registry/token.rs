//! `/service/token`: the token protocol that Docker's clients speak, as GET with Basic credentials and as the
//! OAuth2 form by POST.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use registry_server::{Action, Refusal};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::access::{Account, Accounts};
use super::{SERVICE, scope};
use crate::auth::{Credentials, Grant, RegistryTokens, source_of};

/// The largest form taken.
const FORM: usize = 16 * 1024;

/// The token service over these accounts.
pub fn router(accounts: Accounts) -> Router {
    Router::new()
        .route("/service/token", get(by_query).post(by_form))
        .layer(DefaultBodyLimit::max(FORM))
        .with_state(accounts)
}

async fn by_query(State(accounts): State<Accounts>, RawQuery(query): RawQuery, parts: Parts) -> Response {
    let fields = Fields::parse(query.unwrap_or_default().as_bytes());
    let Credentials::Basic { username, password } = Credentials::of(&parts.headers) else {
        return refusal(&Refusal::Unauthenticated);
    };
    issue(&accounts, &fields, &username, &password, &parts).await
}

async fn by_form(
    State(accounts): State<Accounts>,
    parts: Parts,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(why) => {
            return error(why.status(), "SIZE_INVALID", "the form is too large or did not come whole");
        }
    };
    let mut fields = Fields::parse(&body);
    if fields.grant_type.as_deref() != Some("password") {
        // RFC 6749 section 5.2.
        let body = json!({"error": "unsupported_grant_type", "error_description": "only password is taken"});
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    let (Some(username), Some(password)) = (fields.username.take(), fields.password.take()) else {
        return refusal(&Refusal::Unauthenticated);
    };
    issue(&accounts, &fields, &username, &password, &parts).await
}

async fn issue(
    accounts: &Accounts,
    fields: &Fields,
    username: &str,
    password: &SecretString,
    parts: &Parts,
) -> Response {
    if fields.service.as_deref().is_some_and(|service| service != SERVICE) {
        let message = format!("this token service is for service={SERVICE}");
        return error(StatusCode::BAD_REQUEST, "UNSUPPORTED", &message);
    }
    let account = match accounts.basic(username, password, source_of(&parts.extensions)).await {
        Ok(account) => account,
        Err(why) => return refusal(&why),
    };
    let grants = granted(&account, scope::parse(fields.scopes.iter().map(String::as_str)));
    let now = Timestamp::now();
    let token =
        accounts.tokens().issue(account.subject.clone(), &account.credential, grants, now.as_second());
    let body = json!({
        "token": token,
        "access_token": token,
        "expires_in": RegistryTokens::lifetime().as_secs(),
        "issued_at": now.to_string(),
    });
    no_store(Json(body).into_response())
}

/// What of the asked is also permitted: an answer is given either way, since the protocol knows no partial refusal.
fn granted(account: &Account, asked: Vec<Grant>) -> Vec<Grant> {
    asked
        .into_iter()
        .map(|mut grant| {
            let repository = grant.repository.as_ref();
            let reading = if repository.is_none() { Action::Catalog } else { Action::Pull };
            grant.pull &= account.may(reading, repository);
            grant.push &= account.may(Action::Push, repository);
            grant.delete &= account.may(Action::Delete, repository);
            grant
        })
        .filter(|grant| grant.pull || grant.push || grant.delete)
        .collect()
}

fn refusal(why: &Refusal) -> Response {
    match why {
        Refusal::Unauthenticated => {
            let mut response =
                error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "wrong or missing credentials");
            let basic = HeaderValue::from_static("Basic realm=\"ground-control\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
            response
        }
        Refusal::Denied(message) => error(StatusCode::FORBIDDEN, "DENIED", message),
        Refusal::TooManyRequests(left) => {
            let text = "too many attempts, try again later";
            let mut response = error(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", text);
            let seconds = HeaderValue::from(left.as_secs().saturating_add(1));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
            response
        }
        Refusal::Unavailable(message) => error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message),
    }
}

/// An error as clients of a registry read it (OCI Distribution, "Error Codes").
fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body: Value = json!({"errors": [{"code": code, "message": message}]});
    no_store((status, Json(body)).into_response())
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The fields of a query or form that matter here; the others (`client_id`, `offline_token`, `account`) say nothing
/// that the credentials do not.
#[derive(Default)]
struct Fields {
    service: Option<String>,
    scopes: Vec<String>,
    grant_type: Option<String>,
    username: Option<String>,
    password: Option<SecretString>,
}

impl Fields {
    fn parse(text: &[u8]) -> Self {
        let mut fields = Self::default();
        for (name, value) in url::form_urlencoded::parse(text) {
            match name.as_ref() {
                "service" => fields.service = Some(value.into_owned()),
                "scope" if fields.scopes.len() < scope::MOST => fields.scopes.push(value.into_owned()),
                "grant_type" => fields.grant_type = Some(value.into_owned()),
                "username" => fields.username = Some(value.into_owned()),
                "password" => fields.password = Some(SecretString::from(value.into_owned())),
                _ => {}
            }
        }
        fields
    }
}
