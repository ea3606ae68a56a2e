//! People's logins: passwords, sessions, and the lock after failures.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::hashing::{Busy, PasswordHasher};
use super::key::{DerivedKey, ServerKey};
use super::password::PasswordPolicy;
use crate::domain::secret::{self, HashKey, Purpose};
use crate::domain::user::{LockoutPolicy, NewSession, NewUser, Role, User, UserCredentials};
use crate::domain::{StoreError, StoreResult};
use crate::store::SharedStore;

/// Failures of one name from one address that lock it.
const ATTEMPTS: u32 = 5;
/// For how long a password that was right need not be stretched again: a push is hundreds of requests.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Remembered passwords (as HMACs) at most.
const MOST_REMEMBERED: usize = 1024;

/// Passwords that are stretched beside each other; those that share a place wait for one another.
const FLIGHTS: usize = 64;
/// Logins whose password is not remembered, at once; one more is turned away.
const WAITING: usize = 512;

/// Why somebody was not let in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Unknown name, wrong password, ended session: told apart nowhere.
    #[error("wrong or missing credentials")]
    Wrong,
    /// Too many failures: wait this long.
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
    remembered: Mutex<HashMap<[u8; 32], Instant>>,
    /// One password is stretched once, however many requests bring it at the same moment.
    flights: [tokio::sync::Mutex<()>; FLIGHTS],
    waiting: tokio::sync::Semaphore,
    settings: PeopleSettings,
}

impl People {
    /// People of this database, with sessions hashed under `hash_key`.
    pub fn new(
        store: SharedStore,
        key: &ServerKey,
        hash_key: std::sync::Arc<HashKey>,
        settings: PeopleSettings,
    ) -> Self {
        Self {
            store,
            hasher: PasswordHasher::new(),
            hash_key,
            remember_key: key.derive("remembered-password"),
            remembered: Mutex::default(),
            flights: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            waiting: tokio::sync::Semaphore::new(WAITING),
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

    /// The PHC string of a new password, whose rules the caller has checked.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn hash(&self, password: SecretString) -> Result<String, Busy> {
        self.hasher.hash(password).await
    }

    /// Checks a name and a password. A right one is remembered for a minute, for this source and for as long as
    /// the account keeps the same password; the lock is not asked for those.
    ///
    /// # Errors
    /// [`LoginError`]; unknown names cost what known ones cost.
    pub async fn check_password(
        &self,
        username: &str,
        password: &SecretString,
        source: IpAddr,
    ) -> Result<UserCredentials, LoginError> {
        // No account has a longer name, and no policy takes longer passwords.
        if username.len() > 255 || password.expose_secret().len() > 4096 {
            return Err(LoginError::Wrong);
        }
        let known = self.store.credentials(username).await?;
        let hash = known.as_ref().map(|known| known.password_hash.as_str());
        let print = self.remember_key.mac(&[
            source.to_string().as_bytes(),
            username.as_bytes(),
            hash.unwrap_or("").as_bytes(),
            password.expose_secret().as_bytes(),
        ]);
        if let Some(known) = &known
            && self.is_remembered(&print)
        {
            return Ok(known.clone());
        }
        // An unknown name waits as a known one does, so that not even the queue tells them apart.
        let _waiting = self.waiting.try_acquire().map_err(|_| Busy)?;
        let _flight = self.flights[usize::from(print[0]) % FLIGHTS].lock().await;
        if let Some(known) = &known
            && self.is_remembered(&print)
        {
            return Ok(known.clone());
        }
        let subject = format!("{username}@{source}");
        let now = Timestamp::now();
        if let Some(failures) = self.store.login_failures(&subject).await?
            && failures.locked(now)
        {
            let left = failures.locked_until.map_or(Duration::ZERO, |until| {
                Duration::try_from(until.duration_since(now)).unwrap_or_default()
            });
            return Err(LoginError::Locked(left));
        }
        if self.hasher.verify(hash, password.clone()).await?
            && let Some(known) = known
        {
            self.remember(print);
            self.store.clear_login_failures(&subject).await?;
            return Ok(known);
        }
        let failures = self.store.record_login_failure(&subject, self.lockout(), Timestamp::now()).await?;
        tracing::info!(username = %shown(username), %source, failures = failures.count, "login failed");
        Err(LoginError::Wrong)
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

    /// Opens a session; the token is known to the caller alone.
    ///
    /// # Errors
    /// Of the database.
    pub async fn open_session(&self, user: &User) -> StoreResult<(SecretString, Timestamp)> {
        let token = secret::generate();
        let now = Timestamp::now();
        let life = jiff::SignedDuration::try_from(self.settings.session).unwrap_or(jiff::SignedDuration::MAX);
        let expires_at = now.checked_add(life).unwrap_or(Timestamp::MAX);
        self.store
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

    /// Ends a session; one that is gone is no error.
    ///
    /// # Errors
    /// Of the database.
    pub async fn end_session(&self, token: &SecretString) -> StoreResult<()> {
        self.store.end_session(&self.hash_key.hash(Purpose::Session, token.expose_secret())).await
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
        let password_hash = self.hash(password.clone()).await?;
        let admin = NewUser { username: "admin".to_owned(), role: Role::SystemAdmin, password_hash };
        let made = self.store.bootstrap_user(admin, Timestamp::now()).await?;
        if made {
            tracing::info!(username = "admin", "first administrator created");
        }
        Ok((made && given.is_none()).then_some(password))
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

/// A name as it may stand in a log: bounded, and nothing that would break a line.
fn shown(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
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
