//! People: who they are, how they log in, what they may do.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::registration::exposed;

/// What a person may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads everything except users and SPIRE; pulls.
    Viewer,
    /// Changes everything except users, SPIRE and what removes a group; pushes, pulls and deletes images.
    Admin,
    /// May do everything.
    SystemAdmin,
}

impl Role {
    /// The role as documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Admin => "admin",
            Self::SystemAdmin => "system_admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "admin" => Ok(Self::Admin),
            "system_admin" => Ok(Self::SystemAdmin),
            other => Err(format!("`{other}` is no role; use viewer, admin or system_admin")),
        }
    }
}

/// `POST /login`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LoginRequest {
    pub username: String,
    pub password: String,
}

/// The answer to `POST /login`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LoginAnswer {
    pub token: String,
    pub expires_at: Timestamp,
}

/// `GET /auth/oidc`: the identity provider whose people log in here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityProvider {
    /// The provider, as it names itself.
    pub issuer: String,
    /// Where a browser begins a login.
    pub login_url: String,
}

/// `POST /auth/oidc/token`: what a command line got on loopback, and what shows that it is the one that asked (RFC 7636).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LoginCode {
    #[serde(serialize_with = "exposed")]
    pub code: SecretString,
    #[serde(serialize_with = "exposed")]
    pub code_verifier: SecretString,
}

/// The answer to `POST /auth/oidc/token`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SignedIn {
    #[serde(serialize_with = "exposed")]
    pub token: SecretString,
    pub expires_at: Timestamp,
    pub username: String,
    pub role: Role,
}

/// `GET /auth/session`: who asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct OwnSession {
    pub username: String,
    pub role: Role,
    /// What a change by cookie sends as `X-CSRF-Token`; absent for whoever asks without a cookie, who needs none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub csrf_token: Option<String>,
}

/// `GET /api/users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct User {
    pub id: String,
    pub username: String,
    pub role: Role,
    pub created_at: Timestamp,
}

/// `POST /api/users`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct NewUser {
    pub username: String,
    pub password: String,
    #[serde(default = "admin")]
    pub role: Role,
}

fn admin() -> Role {
    Role::Admin
}

/// `PATCH /api/users/{u}`, of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SetRole {
    pub role: Role,
}

/// `PATCH /api/users/password`, of oneself.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ChangePassword {
    pub current_password: String,
    pub new_password: String,
}

/// `PATCH /api/users/{u}/password`, of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct SetPassword {
    pub new_password: String,
}
