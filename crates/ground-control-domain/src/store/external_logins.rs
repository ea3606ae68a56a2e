//! Logins by OpenID Connect.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreResult;
use crate::external::{CliLogin, ExternalPerson, NewCode, PendingLogin};
use crate::secret::Hashed;
use crate::user::User;

/// Logins by OpenID Connect: those that have begun, whom they are of, and the codes for command lines.
#[async_trait]
pub trait ExternalLogins {
    /// Keeps a login until the provider answers. There are at most [`crate::external::LOGINS_OF_A_SOURCE`] of one source and
    /// [`crate::external::LOGINS`] in all: the oldest make room.
    async fn begin_login(&self, login: PendingLogin, now: Timestamp) -> StoreResult<()>;

    /// Takes the login of this state away, if this browser began it and it has not expired: it is good once.
    async fn take_login(
        &self,
        state: &Hashed,
        browser: &Hashed,
        now: Timestamp,
    ) -> StoreResult<Option<Option<CliLogin>>>;

    /// The account of somebody whom the provider vouches for, made at their first login, with the role that they have now.
    async fn sign_in(&self, person: ExternalPerson, now: Timestamp) -> StoreResult<User>;

    /// Ends the sessions of somebody who has no role any more; whoever never had an account is no error.
    async fn turn_away(&self, issuer: &str, subject: &str) -> StoreResult<()>;

    /// Keeps a code for a command line.
    async fn keep_code(&self, code: NewCode, now: Timestamp) -> StoreResult<()>;

    /// Whose code this is, unless it has expired or belongs to another challenge. It is gone afterwards, whatever the answer.
    async fn redeem_code(&self, code: &Hashed, challenge: &str, now: Timestamp) -> StoreResult<Option<User>>;

    /// Removes logins and codes that have expired; run now and then.
    async fn purge_logins(&self, now: Timestamp) -> StoreResult<()>;
}
