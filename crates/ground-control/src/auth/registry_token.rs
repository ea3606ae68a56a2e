//! Tokens of the built-in registry: what `/service/token` hands out and `/v2/` takes.
//!
//! A token says who it is for and what it is good for, signed under the server key; nothing about it is stored.
//! It is no proof that the subject still exists: whoever takes one looks that up, so that a revocation ends
//! every token at once and not when its five minutes are over.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oci::RepositoryName;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::key::{DerivedKey, ServerKey};
use crate::domain::TokenId;

/// How long a token is good for.
const LIFETIME: Duration = Duration::from_secs(300);

/// Who a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A person, by user name.
    Person(String),
    /// A person's API token, by its identifier.
    Token(TokenId),
    /// A satellite's robot, by the satellite's name.
    Robot(String),
}

/// What a token is good for in one repository, or in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The repository; absent is the catalog.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub repository: Option<RepositoryName>,
    /// Reading.
    #[serde(default)]
    pub pull: bool,
    /// Writing.
    #[serde(default)]
    pub push: bool,
    /// Removing.
    #[serde(default)]
    pub delete: bool,
}

/// The signed content of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who.
    #[serde(rename = "sub")]
    pub subject: Subject,
    /// A print of the credential that it was got with: a new password or secret ends the old one's tokens.
    #[serde(rename = "cred")]
    pub credential: String,
    /// Seconds since 1970 at which it ends.
    #[serde(rename = "exp")]
    pub expires: i64,
    /// For what.
    #[serde(rename = "access")]
    pub grants: Vec<Grant>,
}

/// Makes and checks tokens.
#[derive(Debug, Clone)]
pub struct RegistryTokens {
    key: DerivedKey,
    prints: DerivedKey,
}

impl RegistryTokens {
    /// Tokens under this server key; every replica with the same key takes them.
    pub fn new(key: &ServerKey) -> Self {
        Self { key: key.derive("registry-token"), prints: key.derive("credential-print") }
    }

    /// How long a token is good for.
    pub const fn lifetime() -> Duration {
        LIFETIME
    }

    /// The print of a stored credential (its hash), short and one-way.
    pub fn print(&self, stored: &str) -> String {
        self.prints.hex(&[stored.as_bytes()]).chars().take(16).collect()
    }

    /// A token for `subject`, good from `now` (seconds since 1970) for [`RegistryTokens::lifetime`].
    pub fn issue(&self, subject: Subject, stored_credential: &str, grants: Vec<Grant>, now: i64) -> String {
        let claims = Claims {
            subject,
            credential: self.print(stored_credential),
            expires: now.saturating_add(LIFETIME.as_secs().cast_signed()),
            grants,
        };
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let signature = URL_SAFE_NO_PAD.encode(self.key.mac(&[body.as_bytes()]));
        format!("{body}.{signature}")
    }

    /// What a token says, if it is ours and not over.
    pub fn check(&self, token: &str, now: i64) -> Option<Claims> {
        let (body, signature) = token.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !bool::from(self.key.mac(&[body.as_bytes()]).as_slice().ct_eq(&signature)) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
        (claims.expires > now).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> RegistryTokens {
        let dir = tempfile::tempdir().unwrap();
        RegistryTokens::new(&ServerKey::open(None, dir.path(), true).unwrap())
    }

    #[test]
    fn a_token_is_good_for_five_minutes_and_only_as_it_was_made() {
        let tokens = tokens();
        let grant = Grant {
            repository: Some("library/nginx".parse().unwrap()),
            pull: true,
            push: false,
            delete: false,
        };
        let token = tokens.issue(Subject::Robot("edge-01".into()), "hash", vec![grant.clone()], 1000);
        let claims = tokens.check(&token, 1299).unwrap();
        assert_eq!(claims.subject, Subject::Robot("edge-01".into()));
        assert_eq!(claims.grants, [grant]);
        assert_eq!(claims.credential, tokens.print("hash"));
        assert_ne!(claims.credential, tokens.print("other"));
        assert_eq!(tokens.check(&token, 1300), None, "over");
        assert_eq!(tokens.check(&format!("x{token}"), 1000), None);
        let (body, signature) = token.split_once('.').unwrap();
        for forged in
            [body.to_owned(), format!("{body}."), format!(".{signature}"), String::new(), ".".into()]
        {
            assert_eq!(tokens.check(&forged, 1000), None, "{forged}");
        }
        assert_eq!(self::tokens().check(&token, 1000), None, "another server's key");
    }
}
