//! Logins by OpenID Connect: `/auth/oidc/*`, and what a browser sees of its session under `/auth/`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Redirect, Response};
use fleet_protocol::api::{IdentityProvider, LoginCode, OwnSession, SignedIn};
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::acting;
use super::browser;
use super::error::ApiError;
use super::extract::Body;
use super::page::Page;
use super::state::{AppState, Person};
use crate::auth::{LoginError, random_token, source_of};
use crate::domain::StoreError;
use crate::domain::audit::{ActorKind, Authentication};
use crate::domain::external::{CliLogin, NewCode, PendingLogin};
use crate::domain::limit::Source;
use crate::domain::secret::Purpose;
use crate::domain::user::User;
use crate::oidc::{LoginFailure, Oidc, ProviderError, challenge_of};
use crate::store::SharedStore;

/// How long somebody may take at the provider.
const LOGIN_LIFE: Duration = Duration::from_secs(600);
/// How long a command line may take for the exchange of its code.
const CODE_LIFE: SignedDuration = SignedDuration::from_secs(60);
/// Random bytes of a state, a browser's secret and a code.
const RANDOM: usize = 32;
/// The longest state of a command line.
const LONGEST_STATE: usize = 128;
/// Where a command line listens: no other path is ever redirected to.
const CLI_PATH: &str = "/callback";

const SIGNED_IN: &str = "/auth/signed-in";

/// `GET /auth/oidc/login`: sends the browser to the provider.
///
/// A command line asks with `redirect_uri` (`http://127.0.0.1:PORT/callback`), `state`, `code_challenge` and
/// `code_challenge_method=S256`.
pub(crate) async fn login(State(state): State<AppState>, parts: Parts) -> Result<Response, Page> {
    let oidc = configured(&state)?;
    let cli = cli_login(parts.uri.query().unwrap_or(""))
        .map_err(|what| Page::new(StatusCode::BAD_REQUEST, "This login cannot begin").paragraph(what))?;
    let source = Source::of(source_of(&parts.extensions));
    state.limits.login(source).map_err(|wait| Page::too_many("Too many logins begin from here", wait))?;
    let login_state = random_token(RANDOM);
    let url = oidc.authorization_url(&login_state).await.map_err(|error| away(&error))?;
    // Logins in several tabs of one browser are all this browser's.
    let browser = browser::cookie(&parts.headers, browser::LOGIN)
        .unwrap_or_else(|| SecretString::from(random_token(RANDOM)));
    let now = Timestamp::now();
    let pending = PendingLogin {
        state: state.hash_key.hash(Purpose::LoginState, &login_state),
        browser: state.hash_key.hash(Purpose::LoginBrowser, browser.expose_secret()),
        source: source.to_string(),
        cli,
        expires_at: now.checked_add(LOGIN_LIFE).unwrap_or(Timestamp::MAX),
    };
    state.store.begin_login(pending, now).await.map_err(internal)?;
    let mut response = Redirect::to(url.as_str()).into_response();
    if let Some(line) = browser::give(browser::LOGIN, &browser, LOGIN_LIFE) {
        response.headers_mut().insert(header::SET_COOKIE, line);
    }
    Ok(response)
}

/// What the provider sends the browser back with.
#[derive(Debug, Default)]
struct Answer {
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

impl Answer {
    /// `None` where a parameter is there twice (RFC 6749 section 3.1), or none is there that has to be.
    fn parse(query: &str) -> Option<Self> {
        let (mut answer, mut state) = (Self::default(), None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "state" => &mut state,
                "code" => &mut answer.code,
                "error" => &mut answer.error,
                "iss" => &mut answer.iss,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        answer.state = state?;
        (answer.code.is_some() != answer.error.is_some()).then_some(answer)
    }
}

/// `GET /auth/oidc/callback`: the provider's answer, which ends the login one way or the other.
pub(crate) async fn callback(State(state): State<AppState>, parts: Parts) -> Result<Response, Page> {
    let oidc = configured(&state)?;
    let answer = Answer::parse(parts.uri.query().unwrap_or("")).ok_or_else(foreign)?;
    let browser = browser::cookie(&parts.headers, browser::LOGIN).ok_or_else(foreign)?;
    let now = Timestamp::now();
    let login = state
        .store
        .take_login(
            &state.hash_key.hash(Purpose::LoginState, &answer.state),
            &state.hash_key.hash(Purpose::LoginBrowser, browser.expose_secret()),
            now,
        )
        .await
        .map_err(internal)?;
    let Some(cli) = login else {
        tracing::info!("answer of the identity provider belongs to no login of this browser");
        return Err(foreign());
    };
    let by = acting::actor(&parts.extensions, ActorKind::User, "", Authentication::Oidc);
    match sign_in(&state.store.acting_for(by), oidc, &answer).await {
        Ok(user) => welcome(&state, oidc, &parts, cli, &user, now).await,
        Err(refusal) => match cli {
            Some(cli) => Ok(to_cli(oidc, &cli, ("error", refusal.code))),
            None => Err(refusal.page),
        },
    }
}

/// Why nobody was signed in, for the person and for a command line.
#[derive(Debug)]
struct Refusal {
    page: Page,
    /// As RFC 6749 section 4.1.2.1 has it.
    code: &'static str,
}

async fn sign_in(store: &SharedStore, oidc: &Oidc, answer: &Answer) -> Result<User, Refusal> {
    let failed = |error: StoreError| Refusal { page: internal(error), code: "server_error" };
    let outcome = match (oidc.check_issuer(answer.iss.as_deref()).await, &answer.code) {
        (Err(failure), _) => Err(failure),
        (Ok(()), Some(code)) => oidc.person(&answer.state, code).await,
        (Ok(()), None) => {
            let error = answer.error.as_deref().unwrap_or("").chars().take(64).collect::<String>();
            tracing::info!(error = %error.escape_debug(), "identity provider refused a login");
            let page = Page::new(StatusCode::FORBIDDEN, "You are not signed in")
                .paragraph("The identity provider did not let you in. It says:")
                .facts(&[("error", &error)])
                .link("/auth/oidc/login", "Try again");
            return Err(Refusal { page, code: "access_denied" });
        }
    };
    match outcome {
        Ok(person) => {
            let user = store.sign_in(person, Timestamp::now()).await.map_err(failed)?;
            tracing::info!(username = %user.username, role = user.role.as_str(), "logged in by the identity provider");
            Ok(user)
        }
        Err(LoginFailure::NoRole { subject, claim }) => {
            tracing::info!(%subject, %claim, "login refused, no value of the claim gives a role");
            store.turn_away(oidc.issuer(), &subject).await.map_err(failed)?;
            let page = Page::new(StatusCode::FORBIDDEN, "You have no role here")
                .paragraph("The identity provider knows you, but none of your groups gives you a role in Ground Control.")
                .facts(&[("claim", &claim), ("subject", &subject)])
                .paragraph("Ask an administrator to add you to one of the groups that do.")
                .link("/auth/oidc/login", "Try again");
            Err(Refusal { page, code: "access_denied" })
        }
        Err(LoginFailure::Provider(error)) => {
            Err(Refusal { page: away(&error), code: "temporarily_unavailable" })
        }
        Err(failure @ LoginFailure::Untrusted(_)) => {
            tracing::warn!(%failure, "login refused");
            let page = Page::new(StatusCode::FORBIDDEN, "You are not signed in")
                .paragraph("The identity provider's answer is not to be trusted. The server's log says why.")
                .link("/auth/oidc/login", "Try again");
            Err(Refusal { page, code: "access_denied" })
        }
    }
}

/// Opens a session: in the browser's cookie, or behind a code for the command line that asked.
async fn welcome(
    state: &AppState,
    oidc: &Oidc,
    parts: &Parts,
    cli: Option<CliLogin>,
    user: &User,
    now: Timestamp,
) -> Result<Response, Page> {
    if let Some(cli) = cli {
        let code = random_token(RANDOM);
        let kept = NewCode {
            code: state.hash_key.hash(Purpose::LoginCode, &code),
            user: user.id.clone(),
            challenge: cli.challenge.clone(),
            expires_at: now.checked_add(CODE_LIFE).unwrap_or(Timestamp::MAX),
        };
        state.store.keep_code(kept, now).await.map_err(internal)?;
        return Ok(to_cli(oidc, &cli, ("code", &code)));
    }
    let by = acting::actor(&parts.extensions, ActorKind::User, &user.username, Authentication::Oidc);
    let (token, expires_at) = state.people.open_session(user, by.clone()).await.map_err(internal)?;
    if let Some(before) = browser::cookie(&parts.headers, browser::SESSION) {
        state.people.end_session(&before, by).await.map_err(internal)?;
    }
    let life = Duration::try_from(expires_at.duration_since(now)).unwrap_or_default();
    let mut response = Redirect::to(SIGNED_IN).into_response();
    if let Some(line) = browser::give(browser::SESSION, &token, life) {
        response.headers_mut().append(header::SET_COOKIE, line);
    }
    Ok(response)
}

/// `GET /auth/oidc`: which provider, and where a browser begins.
pub(crate) async fn provider(ConfiguredOidc(oidc): ConfiguredOidc) -> Json<IdentityProvider> {
    let login_url = format!("{}/auth/oidc/login", oidc.public_url());
    Json(IdentityProvider { issuer: oidc.issuer().to_owned(), login_url })
}

/// `POST /auth/oidc/token`: a session for a command line's code, once, if its verifier is that of the challenge.
pub(crate) async fn exchange(
    State(state): State<AppState>,
    _: ConfiguredOidc,
    parts: Parts,
    Body(request): Body<LoginCode>,
) -> Result<Json<SignedIn>, ApiError> {
    let code = state.hash_key.hash(Purpose::LoginCode, request.code.expose_secret());
    let challenge = challenge_of(request.code_verifier.expose_secret());
    let user = state.store.redeem_code(&code, &challenge, Timestamp::now()).await?;
    let user = user.ok_or_else(|| {
        ApiError::unauthorized_because("the code has expired, was used, or is another's; log in again")
    })?;
    let by = acting::actor(&parts.extensions, ActorKind::User, &user.username, Authentication::Oidc);
    let (token, expires_at) = state.people.open_session(&user, by).await?;
    Ok(Json(SignedIn { token, expires_at, username: user.username, role: user.role }))
}

/// `GET /auth/session`: who asks, and what a page of ours needs for changes.
pub(crate) async fn session(State(state): State<AppState>, person: Person) -> Json<OwnSession> {
    let csrf_token = person.session.as_ref().filter(|_| person.by_cookie);
    Json(OwnSession {
        username: person.user.username,
        role: person.user.role,
        csrf_token: csrf_token.map(|session| state.people.csrf_token(session).expose_secret().to_owned()),
    })
}

/// `GET /auth/signed-in`: who one is, for a person.
pub(crate) async fn signed_in(State(state): State<AppState>, parts: Parts) -> Result<Page, Page> {
    let (token, user) = by_cookie(&state, &parts).await?;
    let csrf = state.people.csrf_token(&token);
    Ok(Page::new(StatusCode::OK, "You are signed in")
        .facts(&[("signed in as", &user.username), ("role", user.role.as_str())])
        .link("/docs", "The API")
        .button("/auth/logout", ("csrf_token", csrf.expose_secret()), "Sign out"))
}

/// `POST /auth/logout`: the button of that page.
pub(crate) async fn logout(
    State(state): State<AppState>,
    parts: Parts,
    form: String,
) -> Result<Response, Page> {
    let (token, user) = by_cookie(&state, &parts).await?;
    let by = acting::actor(&parts.extensions, ActorKind::User, &user.username, Authentication::Session);
    let given = url::form_urlencoded::parse(form.as_bytes()).find(|(name, _)| name == "csrf_token");
    let given = given.map(|(_, value)| value.into_owned()).unwrap_or_default();
    if !state.people.is_csrf_token(&token, &given) {
        return Err(Page::new(StatusCode::FORBIDDEN, "You are still signed in")
            .paragraph("This request was not made by the button of our page.")
            .link(SIGNED_IN, "Back"));
    }
    state.people.end_session(&token, by).await.map_err(internal)?;
    let page = Page::new(StatusCode::OK, "You are signed out").link("/auth/oidc/login", "Sign in again");
    let mut response = page.into_response();
    response.headers_mut().append(header::SET_COOKIE, browser::take(browser::SESSION));
    Ok(response)
}

/// Whose session the browser has; otherwise where to get one.
async fn by_cookie(state: &AppState, parts: &Parts) -> Result<(SecretString, User), Page> {
    let nobody = || {
        let page = Page::new(StatusCode::UNAUTHORIZED, "You are not signed in");
        match &state.oidc {
            Some(_) => page.link("/auth/oidc/login", "Sign in"),
            None => page.paragraph("This server has no logins in a browser; use groundctl login."),
        }
    };
    let token = browser::cookie(&parts.headers, browser::SESSION).ok_or_else(nobody)?;
    match state.people.session(&token).await {
        Ok(user) => Ok((token, user)),
        Err(LoginError::Store(error)) => Err(internal(error)),
        Err(_) => Err(nobody()),
    }
}

/// There is a provider; 404 otherwise, before anything else is looked at.
pub(crate) struct ConfiguredOidc(Arc<Oidc>);

impl axum::extract::FromRequestParts<AppState> for ConfiguredOidc {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        state.oidc.clone().map(Self).ok_or_else(|| {
            ApiError::new(StatusCode::NOT_FOUND, "there is no login by an identity provider here")
        })
    }
}

fn configured(state: &AppState) -> Result<&Arc<Oidc>, Page> {
    state.oidc.as_ref().ok_or_else(|| {
        Page::new(StatusCode::NOT_FOUND, "There is no such login here")
            .paragraph("This server has no identity provider (OIDC_ISSUER); use groundctl login.")
    })
}

/// What a command line asks for; `Ok(None)` where it is a browser that asks for itself.
fn cli_login(query: &str) -> Result<Option<CliLogin>, &'static str> {
    let (mut redirect, mut challenge, mut method, mut state) = (None, None, None, None);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let place = match name.as_ref() {
            "redirect_uri" => &mut redirect,
            "code_challenge" => &mut challenge,
            "code_challenge_method" => &mut method,
            "state" => &mut state,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return Err("A parameter is there twice.");
        }
    }
    if [&redirect, &challenge, &method, &state].iter().all(|part| part.is_none()) {
        return Ok(None);
    }
    let (Some(redirect), Some(challenge), Some(method), Some(state)) = (redirect, challenge, method, state)
    else {
        return Err("A command line gives redirect_uri, state, code_challenge and code_challenge_method.");
    };
    let port = loopback_port(&redirect)
        .ok_or("The redirect_uri of a command line is http://127.0.0.1:PORT/callback, and nothing else.")?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    // 32 bytes in base64url (RFC 7636 section 4.2).
    if method != "S256" || challenge.len() != 43 || !plain(&challenge) {
        return Err("The code_challenge is 43 characters of base64url, its method S256.");
    }
    if !(16..=LONGEST_STATE).contains(&state.len()) || !plain(&state) {
        return Err("The state is 16 to 128 characters of A-Z a-z 0-9 - _.");
    }
    Ok(Some(CliLogin { port, challenge, state }))
}

/// The port of exactly `http://127.0.0.1:PORT/callback`: compared as text, so that no reading of URLs can differ from ours.
fn loopback_port(redirect: &str) -> Option<u16> {
    let port = redirect.strip_prefix("http://127.0.0.1:")?.strip_suffix(CLI_PATH)?;
    let number = port.parse::<u16>().ok().filter(|number| *number >= 1024)?;
    (number.to_string() == port).then_some(number)
}

/// Back to the command line. A code is worth nothing without its verifier, and no token is ever in a URL.
fn to_cli(oidc: &Oidc, cli: &CliLogin, outcome: (&str, &str)) -> Response {
    let target = format!("http://127.0.0.1:{}{CLI_PATH}", cli.port);
    let Ok(mut url) = Url::parse(&target) else { return internal_page().into_response() };
    url.query_pairs_mut()
        .append_pair(outcome.0, outcome.1)
        .append_pair("state", &cli.state)
        .append_pair("iss", oidc.public_url());
    let mut response = Redirect::to(url.as_str()).into_response();
    let policy = http::HeaderValue::from_static("no-referrer");
    response.headers_mut().insert(header::REFERRER_POLICY, policy);
    response
}

fn foreign() -> Page {
    Page::new(StatusCode::BAD_REQUEST, "This login is not known")
        .paragraph("It was begun in another browser, took longer than ten minutes, or has ended already.")
        .link("/auth/oidc/login", "Begin again")
}

fn away(error: &ProviderError) -> Page {
    tracing::warn!(%error, "login by the identity provider failed");
    let what = match error {
        ProviderError::Refused { .. } => "It takes back the login that it began.",
        ProviderError::Secret(_) => "The client's secret cannot be read here.",
        ProviderError::Away { .. } | ProviderError::Answer { .. } => {
            "It does not answer, or not as it should."
        }
    };
    Page::new(StatusCode::SERVICE_UNAVAILABLE, "The identity provider is of no help now")
        .paragraph(what)
        .paragraph("Accounts with a password still log in: groundctl login. The server's log says more.")
        .link("/auth/oidc/login", "Try again")
}

fn internal_page() -> Page {
    Page::new(StatusCode::INTERNAL_SERVER_ERROR, "Something failed here")
        .paragraph("The server's log says what, under this answer's X-Request-ID.")
}

/// A failure of ours: told in the log, and not to the browser.
fn internal(error: StoreError) -> Page {
    let status = ApiError::from(error).status();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return Page::new(status, "The database is busy")
            .paragraph("Try again in a moment.")
            .link("/auth/oidc/login", "Try again");
    }
    internal_page()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_redirected_to_its_own_loopback_and_nowhere_else() {
        assert_eq!(loopback_port("http://127.0.0.1:40000/callback"), Some(40000));
        for bad in [
            "http://127.0.0.1/callback",
            "http://127.0.0.1:80/callback",
            "http://127.0.0.1:040000/callback",
            "http://127.0.0.1:+40000/callback",
            "http://127.0.0.1:99999/callback",
            "https://127.0.0.1:40000/callback",
            "http://localhost:40000/callback",
            "http://127.0.0.1:40000/callback/",
            "http://127.0.0.1:40000/callback?x=1",
            "http://127.0.0.1:40000@evil.example/callback",
            "http://127.0.0.1:40000/../callback",
            "http://127.0.0.1:40000/x#/callback",
            "http://127.0.0.2:40000/callback",
            "HTTP://127.0.0.1:40000/callback",
            "http://127.1:40000/callback",
            " http://127.0.0.1:40000/callback",
        ] {
            assert_eq!(loopback_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_command_line_asks_for_all_or_for_nothing() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let redirect = "redirect_uri=http%3A%2F%2F127.0.0.1%3A40000%2Fcallback";
        let good = format!(
            "{redirect}&code_challenge={challenge}&code_challenge_method=S256&state=0123456789abcdef"
        );
        let cli =
            CliLogin { port: 40000, challenge: challenge.to_owned(), state: "0123456789abcdef".to_owned() };
        assert_eq!(cli_login(&good), Ok(Some(cli)));
        assert_eq!(cli_login("next=/x"), Ok(None));
        for bad in [
            redirect.to_owned(),
            good.replace("S256", "plain"),
            good.replace(challenge, "short"),
            good.replace("0123456789abcdef", "short"),
            good.replace("0123456789abcdef", "0123456789abcde%0D"),
            format!("{good}&{redirect}"),
        ] {
            assert!(cli_login(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_says_each_thing_once() {
        assert!(Answer::parse("state=a&code=b&iss=c&session_state=d").is_some());
        assert!(Answer::parse("state=a&error=b&error_description=c").is_some());
        for bad in [
            "",
            "code=b",
            "state=a",
            "state=a&code=b&code=c",
            "state=a&code=b&error=c",
            "state=a&state=b&code=c",
        ] {
            assert!(Answer::parse(bad).is_none(), "{bad}");
        }
    }
}
