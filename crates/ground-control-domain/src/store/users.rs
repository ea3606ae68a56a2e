//! People's accounts, sessions and lockout.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::secret::Hashed;
use crate::user::{LockoutPolicy, LoginFailures, NewSession, NewUser, Role, Session, User, UserCredentials};
use crate::version::Version;
use crate::{Page, Paged, StoreResult, UserId};

/// People's accounts, sessions and lockout.
#[async_trait]
pub trait Users {
    /// Creates an account. `Conflict` where the name is taken.
    async fn create_user(&self, user: NewUser, now: Timestamp) -> StoreResult<User>;

    /// Creates the account only if there is no account at all; tells whether it did.
    async fn bootstrap_user(&self, user: NewUser, now: Timestamp) -> StoreResult<bool>;

    /// Whether there is any account, so that a first start is known before a password is made.
    async fn has_users(&self) -> StoreResult<bool>;

    /// The version of an account.
    async fn user_version(&self, username: &str) -> StoreResult<Version>;

    /// The account called `username`.
    async fn user(&self, username: &str) -> StoreResult<User>;

    /// All accounts, by name.
    async fn users(&self, page: Page) -> StoreResult<Paged<User>>;

    /// The account and its password hash; `None` where there is no such account, which a login answers like a wrong password.
    async fn credentials(&self, username: &str) -> StoreResult<Option<UserCredentials>>;

    /// Deletes an account, its sessions and its API tokens. `Conflict` for oneself (`actor`) and for the last `system_admin` with a
    /// password.
    async fn delete_user(&self, username: &str, actor: &UserId) -> StoreResult<()>;

    /// Gives an account another role, from its next request on. `Conflict` where the last `system_admin` with a password would
    /// be none, and for an account of an identity provider.
    async fn set_role(&self, username: &str, role: Role, now: Timestamp) -> StoreResult<User>;

    /// Sets one's own password and ends all sessions of that account; its API tokens stay
    /// (see [`Tokens::reset_password`](super::Tokens::reset_password)). `Conflict` for an account of an identity provider.
    async fn set_password(&self, username: &str, password_hash: &str, now: Timestamp) -> StoreResult<()>;

    /// Opens a session.
    async fn create_session(&self, session: NewSession, now: Timestamp) -> StoreResult<()>;

    /// The session of this token, unless it has ended by `now`.
    async fn session(&self, token: &Hashed, now: Timestamp) -> StoreResult<Option<Session>>;

    /// Ends a session; one that is gone is no error.
    async fn end_session(&self, token: &Hashed) -> StoreResult<()>;

    /// What is remembered of a subject's failed logins.
    async fn login_failures(&self, subject: &str) -> StoreResult<Option<LoginFailures>>;

    /// Remembers one more ([`LoginFailures::after_failure`]).
    async fn record_login_failure(
        &self,
        subject: &str,
        policy: LockoutPolicy,
        now: Timestamp,
    ) -> StoreResult<LoginFailures>;

    /// Forgets a subject's failures, after a login that succeeded.
    async fn clear_login_failures(&self, subject: &str) -> StoreResult<()>;

    /// Removes sessions that have ended, failures older than `policy` remembers, API tokens a month after their end, and
    /// limits that are whole again; run now and then.
    async fn purge_expired(&self, policy: LockoutPolicy, now: Timestamp) -> StoreResult<()>;
}
