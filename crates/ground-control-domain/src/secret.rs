//! Secrets that machines hold: tokens, session tokens and robot secrets.
//!
//! They are made of at least 128 random bits, so a keyed hash is enough to store them and costs nothing to
//! check when a whole fleet reconnects at once. People's passwords are another matter (argon2id, elsewhere).

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The server's key for [`Hashed`]: a stolen database alone checks no guess.
pub struct HashKey(SecretBox<[u8; 32]>);

impl HashKey {
    /// The key made of `bytes`, which must be random and secret.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(SecretBox::new(Box::new(bytes)))
    }

    /// The HMAC-SHA-256 of `secret` under this key.
    ///
    /// `purpose` keeps one kind of secret from passing as another.
    pub fn hash(&self, purpose: Purpose, secret: &str) -> Hashed {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac =
            Hmac::<Sha256>::new_from_slice(self.0.expose_secret()).expect("HMAC takes keys of every length");
        mac.update(purpose.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(secret.as_bytes());
        Hashed(hex::encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// What a secret is for; part of what is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A one-time registration token.
    ZtrToken,
    /// The nonce that binds such a token to one device.
    ZtrNonce,
    /// A robot's secret.
    Robot,
    /// The account that all satellites pull with from a registry that makes none for each: which state of it a satellite
    /// was given. Never a proof of who somebody is, since all have it.
    PullAccount,
    /// A one-time join token of the built-in authority.
    JoinToken,
    /// The nonce of a renewal.
    RenewalNonce,
    /// A person's session.
    Session,
    /// A token that somebody made for a program.
    ApiToken,
    /// Whom a limit binds: not a secret itself, but people type passwords where names are asked for.
    Limit,
    /// Nothing: the same key answers the same, which is all that is asked.
    KeyCheck,
    /// The secret of a group's replication adapter.
    Replication,
    /// The `state` of a login by OpenID Connect.
    LoginState,
    /// The secret that binds such a login to its browser.
    LoginBrowser,
    /// The one-time code with which a command line fetches its session.
    LoginCode,
    /// What a request with an idempotency key asks for: it may hold a password.
    IdempotentRequest,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::ZtrToken => "ztr-token",
            Self::ZtrNonce => "ztr-nonce",
            Self::Robot => "robot",
            Self::PullAccount => "pull-account",
            Self::JoinToken => "join-token",
            Self::RenewalNonce => "renewal-nonce",
            Self::Session => "session",
            Self::ApiToken => "api-token",
            Self::Limit => "limit",
            Self::KeyCheck => "key-check",
            Self::Replication => "replication",
            Self::LoginState => "login-state",
            Self::LoginBrowser => "login-browser",
            Self::LoginCode => "login-code",
            Self::IdempotentRequest => "idempotent-request",
        }
    }
}

/// The hash of a secret, as the database keeps it (lower-case hexadecimal). Compared in constant time.
#[derive(Clone)]
pub struct Hashed(String);

impl Hashed {
    /// The text that the database keeps.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Hashed {
    fn from(stored: String) -> Self {
        Self(stored)
    }
}

impl PartialEq for Hashed {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Hashed {}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hashed(..)")
    }
}

/// A new secret of 128 random bits, as 32 hexadecimal characters.
pub fn generate() -> SecretString {
    let bytes: zeroize::Zeroizing<[u8; 16]> = zeroize::Zeroizing::new(rand::random());
    SecretString::from(hex::encode(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_key_purpose_and_secret() {
        let key = HashKey::new([1; 32]);
        let hash = key.hash(Purpose::Robot, "secret");
        assert_eq!(hash, key.hash(Purpose::Robot, "secret"));
        assert_ne!(hash, key.hash(Purpose::Session, "secret"));
        assert_ne!(hash, key.hash(Purpose::Robot, "secreu"));
        assert_ne!(hash, HashKey::new([2; 32]).hash(Purpose::Robot, "secret"));
        assert_eq!(hash.as_str().len(), 64);
    }

    #[test]
    fn generated_secrets_differ_and_never_print() {
        let (a, b) = (generate(), generate());
        assert_ne!(a.expose_secret(), b.expose_secret());
        assert_eq!(a.expose_secret().len(), 32);
        assert!(!format!("{a:?}").contains(a.expose_secret()));
    }
}
