//! People: accounts, roles, sessions and the lockout after failed logins.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::UserId;
use crate::secret::Hashed;

pub use fleet_protocol::api::Role;

/// What stands in the place of a password hash where there is no password: no password has it as its hash.
pub const NO_PASSWORD: &str = "!";

/// A person's account, without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its identifier.
    pub id: UserId,
    /// The name that the person logs in with.
    pub username: String,
    /// What the account may do.
    pub role: Role,
    /// When it was created.
    pub created_at: Timestamp,
}

/// An account and what its password is checked against.
#[derive(Clone)]
pub struct UserCredentials {
    /// The account.
    pub user: User,
    /// The argon2id PHC string of the password.
    pub password_hash: String,
}

impl fmt::Debug for UserCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserCredentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// An account to be created.
#[derive(Clone)]
pub struct NewUser {
    /// The name to log in with.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// The argon2id PHC string of the password.
    pub password_hash: String,
}

/// A session to be opened: only the hash of its token is kept.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// The hash of the opaque token that the person holds.
    pub token: Hashed,
    /// Whose session it is.
    pub user: UserId,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// A session that is still good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose it is.
    pub user: User,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// How many failed logins are borne, and for how long a subject is then locked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockoutPolicy {
    /// Failures within one window that lock the subject out.
    pub attempts: u32,
    /// How long the lock holds, and how long a failure is remembered.
    pub duration: Duration,
}

/// The failed logins of one subject (an account, or an account seen from one address: the caller's choice).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginFailures {
    /// Failures since the first one that still counts.
    pub count: u32,
    /// When the last one was.
    pub last_at: Timestamp,
    /// Until when every login is refused unseen.
    pub locked_until: Option<Timestamp>,
}

impl LoginFailures {
    /// Whether a login at `now` is refused without a look at the password.
    pub fn locked(&self, now: Timestamp) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    /// What is remembered after one more failure at `now`.
    ///
    /// A lock that has run out starts the count again, and so does a pause as long as the lock.
    pub fn after_failure(previous: Option<Self>, now: Timestamp, policy: LockoutPolicy) -> Self {
        let lock = jiff::SignedDuration::try_from(policy.duration).unwrap_or(jiff::SignedDuration::MAX);
        let until = now.checked_add(lock).unwrap_or(Timestamp::MAX);
        let remembered = previous.filter(|p| match p.locked_until {
            Some(locked) => now < locked,
            None => now.duration_since(p.last_at) < lock,
        });
        let count = remembered.map_or(0, |p| p.count).saturating_add(1);
        let locked_until = match remembered.and_then(|p| p.locked_until) {
            Some(locked) => Some(locked),
            None if count >= policy.attempts.max(1) => Some(until),
            None => None,
        };
        Self { count, last_at: now, locked_until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    proptest! {
        #[test]
        fn a_subject_is_locked_exactly_at_the_last_permitted_failure(attempts in 1u32..20, step in 0i64..10) {
            let policy = LockoutPolicy { attempts, duration: Duration::from_secs(300) };
            let mut state = None;
            for n in 1..=attempts {
                let now = at(i64::from(n) * step);
                let next = LoginFailures::after_failure(state, now, policy);
                prop_assert_eq!(next.count, n);
                prop_assert_eq!(next.locked(now), n == attempts);
                state = Some(next);
            }
            let locked = state.unwrap();
            let end = locked.locked_until.unwrap();
            prop_assert!(!locked.locked(end));
            let fresh = LoginFailures::after_failure(state, end, policy);
            prop_assert_eq!(fresh.count, 1);
        }

        #[test]
        fn a_failure_during_the_lock_does_not_lengthen_it(extra in 0i64..299) {
            let policy = LockoutPolicy { attempts: 1, duration: Duration::from_secs(300) };
            let first = LoginFailures::after_failure(None, at(0), policy);
            let second = LoginFailures::after_failure(Some(first), at(extra), policy);
            prop_assert_eq!(second.locked_until, first.locked_until);
        }
    }

    #[test]
    fn old_failures_are_forgotten() {
        let policy = LockoutPolicy { attempts: 2, duration: Duration::from_secs(300) };
        let first = LoginFailures::after_failure(None, at(0), policy);
        let later = LoginFailures::after_failure(Some(first), at(300), policy);
        assert_eq!(later.count, 1);
        assert_eq!(later.locked_until, None);
    }
}
