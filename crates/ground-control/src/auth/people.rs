//! People's logins: passwords, sessions, and the lock after failures.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::api_token;
use super::hashing::{Busy, PasswordHasher};
use super::key::{DerivedKey, ServerKey};
use super::limiter::Limiter;
use super::password::PasswordPolicy;
use super::turns::{Lane, Turn, Turns};
use crate::domain::audit::Actor;
use crate::domain::limit::{Rate, Source};
use crate::domain::satellite::satellite_of_robot;
use crate::domain::secret::{self, HashKey, Purpose};
use crate::domain::token::{ApiToken, NewToken, Scopes, TokenKey};
use crate::domain::user::{LockoutPolicy, NewSession, NewUser, Role, User, UserCredentials};
use crate::domain::{StoreError, StoreResult, UserId};
use crate::metrics::{Limit, Metrics};
use crate::store::SharedStore;

/// Failures of one name from one source that lock the two, and nobody else.
const ATTEMPTS: u32 = 5;
/// For how long a password that was right need not be stretched again: a push is hundreds of requests.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Remembered passwords (as HMACs) at most.
const MOST_REMEMBERED: usize = 1024;

/// Wrong passwords and names of one source, whatever the names: a colleague behind the same address is not held up by
/// somebody's bad memory, and a list of names is not tried in an hour.
const SOURCE: Rate = Rate { burst: 100, every: Duration::from_secs(3) };

/// Why somebody was not let in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Unknown name, wrong password, ended session: told apart nowhere.
    #[error("wrong or missing credentials")]
    Wrong,
    /// Too many failures, of this name from this source, or of this source: wait this long.
    #[error("too many failed logins")]
    Locked(Duration),
    /// Too many logins at once.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The database does not answer; nothing is known about the credentials.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How logins behave.
#[derive(Debug, Clone, Copy)]
pub struct PeopleSettings {
    /// Life of a session.
    pub session: Duration,
    /// Length of a lock.
    pub lockout: Duration,
    /// Rules for new passwords.
    pub passwords: PasswordPolicy,
}

/// Checks passwords and sessions of people.
#[derive(Debug)]
pub struct People {
    store: SharedStore,
    hasher: PasswordHasher,
    hash_key: std::sync::Arc<HashKey>,
    remember_key: DerivedKey,
    csrf_key: DerivedKey,
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    turns: Turns,
    sources: Limiter<Source>,
    metrics: Metrics,
    settings: PeopleSettings,
}

/// In whose name a password is checked.
#[derive(Debug, Clone)]
enum Claim {
    /// Somebody at this source, who may be anybody.
    Stranger(Source),
    /// Who is logged in, and proves it once more.
    Account(UserId),
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stranger(source) => write!(f, "source {source}"),
            Self::Account(id) => write!(f, "account {id}"),
        }
    }
}

impl People {
    /// People of this database, with sessions hashed under `hash_key`.
    pub fn new(
        store: SharedStore,
        key: &ServerKey,
        hash_key: std::sync::Arc<HashKey>,
        metrics: Metrics,
        settings: PeopleSettings,
    ) -> Self {
        let hasher = PasswordHasher::new();
        Self {
            store,
            turns: Turns::new(hasher.threads()),
            hasher,
            hash_key,
            remember_key: key.derive("remembered-password"),
            csrf_key: key.derive("csrf-token"),
            remembered: Mutex::default(),
            sources: Limiter::new(SOURCE),
            metrics,
            settings,
        }
    }

    /// The rules for new passwords.
    pub fn policy(&self) -> PasswordPolicy {
        self.settings.passwords
    }

    /// How failures are counted.
    pub fn lockout(&self) -> LockoutPolicy {
        LockoutPolicy { attempts: ATTEMPTS, duration: self.settings.lockout }
    }

    /// The PHC string of a new password, whose rules the caller has checked. `actor`: who is logged in and sets it.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn hash(&self, password: SecretString, actor: &UserId) -> Result<String, Busy> {
        let _turn = self.turn(Lane::Account(actor.clone())).await?;
        self.hasher.hash(password).await
    }

    /// Checks a name and a password of somebody who may be anybody. A right one is remembered for a minute, for this source
    /// and for as long as the account keeps the same password; neither limits nor locks are asked for those.
    ///
    /// # Errors
    /// [`LoginError`]; unknown names cost what known ones cost.
    pub async fn check_password(
        &self,
        username: &str,
        password: &SecretString,
        source: IpAddr,
    ) -> Result<UserCredentials, LoginError> {
        // No account has a longer name or that of a robot, and no policy takes longer passwords.
        if username.len() > 255
            || password.expose_secret().len() > 4096
            || satellite_of_robot(username).is_some()
        {
            return Err(LoginError::Wrong);
        }
        self.prove(username, password, Claim::Stranger(Source::of(source))).await
    }

    /// Checks the password of somebody who is logged in. Failures lock that account's further attempts here, and no login.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn confirm_password(&self, user: &User, password: &SecretString) -> Result<(), LoginError> {
        if password.expose_secret().len() > 4096 {
            return Err(LoginError::Wrong);
        }
        self.prove(&user.username, password, Claim::Account(user.id.clone())).await.map(drop)
    }

    async fn prove(
        &self,
        username: &str,
        password: &SecretString,
        claim: Claim,
    ) -> Result<UserCredentials, LoginError> {
        if let Some(known) = self.recall(username, password, &claim).await?.remembered() {
            return Ok(known);
        }
        let lane = match &claim {
            Claim::Stranger(source) => {
                if let Some(wait) = self.sources.exhausted(source, Timestamp::now()) {
                    return Err(self.limited(Limit::Source, wait));
                }
                Lane::Stranger(*source)
            }
            Claim::Account(id) => Lane::Account(id.clone()),
        };
        // An unknown name waits as a known one does, so that not even the queue tells them apart.
        let _turn = self.turn(lane).await?;
        // Many requests bring the same password at the same moment, and the wait may have been long.
        let recalled = self.recall(username, password, &claim).await?;
        if recalled.is_remembered {
            return recalled.remembered().ok_or(LoginError::Wrong);
        }
        let Recalled { known, print, .. } = recalled;
        let hash = known.as_ref().map(|known| known.password_hash.clone());
        // People type passwords where the name is asked for: a name that is nobody's is not told.
        let shown = known.as_ref().map(|known| known.user.username.clone());
        let (pair, now) = (self.subject(&["login", username, &claim.to_string()]), Timestamp::now());
        if let Some(failures) = self.store.login_failures(&pair).await?
            && failures.locked(now)
        {
            let left = failures.locked_until.map_or(Duration::ZERO, |until| {
                Duration::try_from(until.duration_since(now)).unwrap_or_default()
            });
            return Err(self.limited(Limit::Lockout, left));
        }
        let source = match claim {
            Claim::Stranger(source) => Some((source, self.subject(&["source", &source.to_string()]))),
            Claim::Account(_) => None,
        };
        if let Some((_, subject)) = &source
            && let Some(wait) = self.store.exhausted(subject, SOURCE, now).await?
        {
            return Err(self.limited(Limit::Source, wait));
        }
        if self.hasher.verify(hash.as_deref(), password.clone()).await?
            && let Some(known) = known
        {
            self.remember(print);
            self.store.clear_login_failures(&pair).await?;
            return Ok(known);
        }
        let now = Timestamp::now();
        let failures = self.store.record_login_failure(&pair, self.lockout(), now).await?;
        if let Some((source, subject)) = &source {
            // That there is none left is told to the next one.
            let _ = self.sources.take(*source, now);
            let _ = self.store.take(subject, SOURCE, now).await?;
        }
        tracing::info!(username = shown, %claim, failures = failures.count, "login failed");
        Err(LoginError::Wrong)
    }

    /// What is known of a name, and whether this password of it was right a moment ago.
    async fn recall(&self, username: &str, password: &SecretString, claim: &Claim) -> StoreResult<Recalled> {
        let known = self.store.credentials(username).await?;
        let hash = known.as_ref().map_or("", |known| known.password_hash.as_str());
        let print = self.remember_key.mac(&[
            claim.to_string().as_bytes(),
            username.as_bytes(),
            hash.as_bytes(),
            password.expose_secret().as_bytes(),
        ]);
        Ok(Recalled { is_remembered: known.is_some() && self.is_remembered(&print), known, print })
    }

    /// Whom a limit binds, as the database keeps it.
    fn subject(&self, parts: &[&str]) -> String {
        self.hash_key.hash(Purpose::Limit, &parts.join("\0")).as_str().to_owned()
    }

    fn limited(&self, limit: Limit, wait: Duration) -> LoginError {
        self.metrics.limited(limit);
        LoginError::Locked(wait)
    }

    async fn turn(&self, lane: Lane) -> Result<Turn, Busy> {
        self.turns.wait(lane).await.inspect_err(|Busy| self.metrics.limited(Limit::Queue))
    }

    fn is_remembered(&self, print: &[u8; 32]) -> bool {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(print).is_some_and(|until| Instant::now() < *until)
    }

    fn remember(&self, print: [u8; 32]) {
        let now = Instant::now();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.retain(|_, until| now < *until);
            if remembered.len() >= MOST_REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(print, now + REMEMBERED);
    }

    /// Opens a session, for `by` who asks; the token is known to the caller alone.
    ///
    /// # Errors
    /// Of the database.
    pub async fn open_session(&self, user: &User, by: Actor) -> StoreResult<(SecretString, Timestamp)> {
        let token = secret::generate();
        let now = Timestamp::now();
        let life = jiff::SignedDuration::try_from(self.settings.session).unwrap_or(jiff::SignedDuration::MAX);
        let expires_at = now.checked_add(life).unwrap_or(Timestamp::MAX);
        self.store
            .acting_for(by)
            .create_session(
                NewSession {
                    token: self.hash_key.hash(Purpose::Session, token.expose_secret()),
                    user: user.id.clone(),
                    expires_at,
                },
                now,
            )
            .await?;
        Ok((token, expires_at))
    }

    /// Whose session this is.
    ///
    /// # Errors
    /// [`LoginError::Wrong`] where there is none.
    pub async fn session(&self, token: &SecretString) -> Result<User, LoginError> {
        let token = self.hash_key.hash(Purpose::Session, token.expose_secret());
        let session = self.store.session(&token, Timestamp::now()).await?;
        session.map(|session| session.user).ok_or(LoginError::Wrong)
    }

    /// The API token that somebody shows, if it is good at this moment.
    ///
    /// # Errors
    /// [`LoginError::Wrong`] where there is none.
    pub async fn api_token(&self, token: &SecretString) -> Result<ApiToken, LoginError> {
        if !api_token::is_well_formed(token) {
            return Err(LoginError::Wrong);
        }
        let hash = self.hash_key.hash(Purpose::ApiToken, token.expose_secret());
        let token = self.store.use_api_token(TokenKey::Hash(&hash), Timestamp::now()).await?;
        token.ok_or(LoginError::Wrong)
    }

    /// Makes an API token; its text is known to the caller alone.
    ///
    /// # Errors
    /// Of the database.
    pub async fn make_api_token(
        &self,
        store: &SharedStore,
        owner: UserId,
        name: String,
        scopes: Scopes,
        expires_at: Timestamp,
    ) -> StoreResult<(SecretString, ApiToken)> {
        let text = api_token::generate();
        let token = self.hash_key.hash(Purpose::ApiToken, text.expose_secret());
        let new = NewToken { token, owner, name, scopes, expires_at };
        Ok((text, store.create_api_token(new, Timestamp::now()).await?))
    }

    /// What a page of ours sends with changes by a session's cookie.
    pub fn csrf_token(&self, session: &SecretString) -> SecretString {
        SecretString::from(self.csrf_key.hex(&[session.expose_secret().as_bytes()]))
    }

    /// Whether it is that; in constant time.
    pub fn is_csrf_token(&self, session: &SecretString, given: &str) -> bool {
        self.csrf_key.matches(&[session.expose_secret().as_bytes()], given)
    }

    /// Ends a session; one that is gone is no error.
    ///
    /// # Errors
    /// Of the database.
    pub async fn end_session(&self, token: &SecretString, by: Actor) -> StoreResult<()> {
        let token = self.hash_key.hash(Purpose::Session, token.expose_secret());
        self.store.acting_for(by).end_session(&token).await
    }

    /// Makes the first administrator, `admin`, if there is no account at all; returns the password if it had to
    /// be made up, so that it can be shown once.
    ///
    /// # Errors
    /// [`LoginError::Store`] or, hardly at a start, [`LoginError::Busy`].
    pub async fn bootstrap(&self, given: Option<&SecretString>) -> Result<Option<SecretString>, LoginError> {
        if self.store.has_users().await? {
            if given.is_some() {
                tracing::debug!("ADMIN_PASSWORD has no effect, accounts exist already");
            }
            return Ok(None);
        }
        let password = given.cloned().unwrap_or_else(|| self.policy().generate());
        let password_hash = self.hasher.hash(password.clone()).await?;
        let admin = NewUser { username: "admin".to_owned(), role: Role::SystemAdmin, password_hash };
        let made = self.store.bootstrap_user(admin, Timestamp::now()).await?;
        if made {
            tracing::info!(username = "admin", "first administrator created");
        }
        Ok((made && given.is_none()).then_some(password))
    }
}

/// What is known of a name and a password before it is stretched.
struct Recalled {
    known: Option<UserCredentials>,
    print: [u8; 32],
    is_remembered: bool,
}

impl Recalled {
    fn remembered(self) -> Option<UserCredentials> {
        self.known.filter(|_| self.is_remembered)
    }
}

/// The rule for the name of an account: it must fit into HTTP Basic and never look like a robot.
///
/// # Errors
/// A sentence that says the rule.
pub fn check_username(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | '+');
    if name == "password" {
        return Err("the user name \"password\" is reserved".to_owned());
    }
    if (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
    {
        Ok(())
    } else {
        Err("a user name is 1 to 64 letters, digits, `.`, `_`, `-`, `@` or `+`, the first a letter or digit"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_fit_into_basic_and_are_no_robots() {
        for good in ["admin", "Jane.Doe", "a", "ci+deploy@example.com"] {
            assert_eq!(check_username(good), Ok(()), "{good}");
        }
        for bad in ["", "a:b", "robot$edge-01", "a b", "-a", "ü", "password", "a\nb", &"a".repeat(65)] {
            assert!(check_username(bad).is_err(), "{bad}");
        }
    }
}
