//! What handlers share, and the extractors that say who is asking.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use registry_server::listen::TrustedProxies;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::acting;
use super::browser;
use super::conditional;
use super::error::ApiError;
use super::hooks::Hooks;
use super::limits::RequestLimits;
use crate::audit::{Refusals, Statuses};
use crate::auth::{Busy, Credentials, LoginError, People, Robots, Seal, api_token, source_of};
use crate::central::CentralRegistry;
use crate::desired::Hub;
use crate::domain::audit::{Actor, ActorKind, Authentication};
use crate::domain::idempotency::Claim;
use crate::domain::secret::HashKey;
use crate::domain::store::Terms;
use crate::domain::token::ApiToken;
use crate::domain::user::{Role, User};
use crate::domain::{Entity, StoreError, TokenId};
use crate::follow::Hints;
use crate::identity::{Identities, Lifecycle};
use crate::metrics::Metrics;
use crate::oidc::Oidc;
use crate::publish::PublisherHandle;
use crate::store::{HeartbeatRecorder, SharedStore};

/// Everything that a handler may need; cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The database.
    pub store: SharedStore,
    /// The central registry.
    pub registry: Arc<CentralRegistry>,
    /// People's logins.
    pub people: Arc<People>,
    /// What one account, and one source of strangers, may ask for.
    pub limits: Arc<RequestLimits>,
    /// Who is believed about where requests come from.
    pub proxies: TrustedProxies,
    /// Logins by OpenID Connect, where there is a provider.
    pub oidc: Option<Arc<Oidc>>,
    /// Robots' secrets.
    pub robots: Robots,
    /// Hashes tokens and nonces.
    pub hash_key: Arc<HashKey>,
    /// Seals answers that are kept for a while.
    pub answers: Seal,
    /// Records heartbeats in batches.
    pub heartbeats: HeartbeatRecorder,
    /// What satellites shall have, and which of them wait for it to change.
    pub desired: Hub,
    /// Woken after each change.
    pub publisher: PublisherHandle,
    /// Told that something may have changed in the registry.
    pub hints: Hints,
    /// How registries reach the hooks.
    pub hooks: Arc<Hooks>,
    /// Identities by SPIFFE, where they are enabled.
    pub identities: Option<Arc<Identities>>,
    /// What is done together with whoever makes identities.
    pub lifecycle: Lifecycle,
    /// Takes refusals for the audit.
    pub refusals: Refusals,
    /// How the audit's sinks are doing.
    pub sinks: Statuses,
    /// What is counted.
    pub metrics: Metrics,
    /// Cancelled as soon as the server is asked to end: nobody is to be sent here any more.
    pub draining: CancellationToken,
}

/// The person who is asking, and with what.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// With the role that holds for this request: an API token may give less than its owner's.
    pub(crate) user: User,
    /// The session's token, if they came with one.
    pub(crate) session: Option<SecretString>,
    /// The API token that speaks for them, if it is one.
    pub(crate) token: Option<TokenId>,
    /// Whether it came in a cookie, which a browser sends by itself.
    pub(crate) by_cookie: bool,
    pub(crate) actor: Actor,
    /// On what terms they change something.
    terms: Terms,
}

impl Person {
    /// The store that changes things on behalf of this person, on the terms of the request.
    pub(crate) fn acting(&self, state: &AppState) -> SharedStore {
        state.store.acting_for(self.actor.clone()).on_terms(self.terms.clone())
    }
}

/// Put into a request where its person has been found out already: nobody's password is stretched twice.
#[derive(Debug, Clone)]
pub(crate) struct Authenticated(pub(crate) Person);

/// Who is asking and is entitled to.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    user: User,
    actor: Actor,
    terms: Terms,
}

impl Caller {
    /// The store that changes things on behalf of this caller, on the terms of the request: every handler that changes
    /// something goes through it.
    pub(crate) fn acting(&self, state: &AppState) -> SharedStore {
        state.store.acting_for(self.actor.clone()).on_terms(self.terms.clone())
    }
}

impl std::ops::Deref for Caller {
    type Target = User;

    fn deref(&self) -> &User {
        &self.user
    }
}

fn actor_of(parts: &Parts, user: &User, by: Authentication) -> Actor {
    acting::actor(&parts.extensions, ActorKind::User, &user.username, by)
}

impl From<Person> for Caller {
    fn from(person: Person) -> Self {
        Self { user: person.user, actor: person.actor, terms: person.terms }
    }
}

impl FromRequestParts<AppState> for Person {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if let Some(Authenticated(person)) = parts.extensions.remove() {
            return Ok(person);
        }
        let mut person = match Credentials::of(&parts.headers) {
            Credentials::Basic { username, password } if api_token::is_meant(&password) => {
                acting::claimed(&parts.extensions, &username);
                let token = state.people.api_token(&password).await?;
                if token.owner.username != username {
                    return Err(ApiError::unauthorized());
                }
                Self::by_token(token, parts)?
            }
            Credentials::Basic { username, password } => {
                let source = source_of(&parts.extensions);
                acting::claimed(&parts.extensions, &username);
                let known = state.people.check_password(&username, &password, source).await?;
                let actor = actor_of(parts, &known.user, Authentication::Password);
                Self::new(known.user, actor)
            }
            Credentials::Bearer(token) if api_token::is_meant(&token) => {
                Self::by_token(state.people.api_token(&token).await?, parts)?
            }
            Credentials::Bearer(token) => {
                let user = state.people.session(&token).await?;
                let actor = actor_of(parts, &user, Authentication::Session);
                Self { session: Some(token), ..Self::new(user, actor) }
            }
            Credentials::None => {
                let token = browser::cookie(&parts.headers, browser::SESSION);
                let token = token.ok_or_else(ApiError::unauthorized)?;
                let user = state.people.session(&token).await?;
                browser::check_csrf(parts, &state.people, &token)?;
                let actor = actor_of(parts, &user, Authentication::Session);
                Self { session: Some(token), by_cookie: true, ..Self::new(user, actor) }
            }
            Credentials::Malformed => return Err(ApiError::unauthorized()),
        };
        state.limits.account(&person.user.id)?;
        person.terms.condition = conditional::condition(&parts.headers)?;
        Ok(person)
    }
}

impl Person {
    fn new(user: User, actor: Actor) -> Self {
        Self { user, session: None, token: None, by_cookie: false, actor, terms: Terms::default() }
    }

    /// What they change marks this idempotency key.
    pub(crate) fn claiming(mut self, claim: Claim) -> Self {
        self.terms.claim = Some(claim);
        self
    }

    fn by_token(token: ApiToken, parts: &Parts) -> Result<Self, ApiError> {
        let name = format!("{}/{}", token.owner.username, token.name);
        let actor = acting::actor(&parts.extensions, ActorKind::Token, &name, Authentication::ApiToken);
        let Some(role) = token.scopes.role(token.owner.role) else {
            return Err(ApiError::forbidden(format!(
                "the API token is for {} and not for the API; make one with the scope read, write or admin",
                token.scopes
            )));
        };
        Ok(Self { token: Some(token.id), ..Self::new(User { role, ..token.owner }, actor) })
    }
}

macro_rules! at_least {
    ($(#[$doc:meta])* $name:ident, $role:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub(crate) struct $name(#[allow(dead_code, reason = "most handlers only need that there is one")] pub(crate) Caller);

        impl FromRequestParts<AppState> for $name {
            type Rejection = ApiError;

            async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
                let person = Person::from_request_parts(parts, state).await?;
                if person.user.role < $role {
                    let (has, needs) = (person.user.role.as_str(), $role.as_str());
                    return Err(ApiError::forbidden(format!("this needs the role {needs}, and yours is {has}")));
                }
                Ok(Self(person.into()))
            }
        }
    };
}

at_least!(
    /// Anybody with an account.
    Viewer,
    Role::Viewer
);
at_least!(
    /// Who may change the fleet.
    Admin,
    Role::Admin
);
at_least!(
    /// Who may change people and remove groups.
    SystemAdmin,
    Role::SystemAdmin
);

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { entity: Entity::Session, .. } => Self::unauthorized(),
            StoreError::NotFound { entity, name } => Self::not_found(&entity.to_string(), name),
            StoreError::Conflict { message } => Self::conflict(message),
            StoreError::Outdated { message } => Self::outdated(message),
            StoreError::Invalid { message } => Self::bad_request(message),
            StoreError::Busy { operation, source } => {
                tracing::warn!(operation, error = %source, "database busy");
                Self::unavailable("the database is busy, try again in a moment")
            }
            StoreError::Backend { operation, source } => {
                Self::internal(format_args!("{operation}: {source}"))
            }
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong => Self::unauthorized(),
            LoginError::Locked(left) => Self::too_many(left.as_secs().saturating_add(1)),
            LoginError::Busy(busy) => busy.into(),
            LoginError::Store(error) => error.into(),
        }
    }
}

impl From<Busy> for ApiError {
    fn from(_: Busy) -> Self {
        Self::too_many(1)
    }
}
