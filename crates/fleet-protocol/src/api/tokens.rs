//! Tokens that people make for programs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Role;

/// What a token begins with, so that a scanner finds one that was published.
pub const TOKEN_PREFIX: &str = "hsgc_";

/// What an API token opens: never more than its owner's role does at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// The API as a `viewer`.
    #[serde(rename = "read")]
    Read,
    /// The API as an `admin`.
    #[serde(rename = "write")]
    Write,
    /// The API as a `system_admin`.
    #[serde(rename = "admin")]
    Admin,
    /// Reads from the built-in registry.
    #[serde(rename = "registry:pull")]
    RegistryPull,
    /// Reads from the built-in registry, writes and deletes there.
    #[serde(rename = "registry:push")]
    RegistryPush,
}

impl Scope {
    /// The scope as documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::RegistryPull => "registry:pull",
            Self::RegistryPush => "registry:push",
        }
    }

    /// The least role of an owner who may give it.
    pub fn needs(self) -> Role {
        match self {
            Self::Read | Self::RegistryPull => Role::Viewer,
            Self::Write | Self::RegistryPush => Role::Admin,
            Self::Admin => Role::SystemAdmin,
        }
    }

    /// Whether it is about the API, and not about the registry.
    pub fn opens_api(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Admin)
    }
}

impl std::str::FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Read, Self::Write, Self::Admin, Self::RegistryPull, Self::RegistryPush]
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| {
                format!("`{text}` is no scope; use read, write, admin, registry:pull or registry:push")
            })
    }
}

/// `POST /api/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewApiToken {
    /// What it is called; one name, one token of an account.
    pub name: String,
    /// What it is for.
    pub scopes: Vec<Scope>,
    /// When it ends; after 90 days where nothing is said.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// `GET /api/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Its identifier, which is no secret.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// The name of the account that it belongs to.
    pub owner: String,
    /// What it is for.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// The answer to `POST /api/tokens`: the only one that holds the token itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreatedApiToken {
    /// What a program shows.
    pub token: String,
    /// All else.
    #[serde(flatten)]
    pub details: ApiToken,
}
