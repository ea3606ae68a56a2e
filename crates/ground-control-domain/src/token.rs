//! Tokens that people make for programs, and what each opens.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::secret::Hashed;
use crate::user::{Role, User};
use crate::{TokenId, UserId};

pub use fleet_protocol::api::Scope;

/// The most tokens of one account.
pub const MOST_TOKENS: u32 = 100;

/// What a token is for: at least one scope, in their order, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// These scopes; `None` where there is none.
    pub fn new(mut scopes: Vec<Scope>) -> Option<Self> {
        scopes.sort_unstable();
        scopes.dedup();
        (!scopes.is_empty()).then_some(Self(scopes))
    }

    /// Each of them.
    pub fn list(&self) -> &[Scope] {
        &self.0
    }

    /// The first that needs more than this role gives.
    pub fn beyond(&self, role: Role) -> Option<Scope> {
        self.0.iter().copied().find(|scope| scope.needs() > role)
    }

    /// As whom a token of somebody with this role calls the API; `None` where it does not. What the role of its owner does
    /// not give any more, the token does not either.
    pub fn role(&self, owner: Role) -> Option<Role> {
        self.0
            .iter()
            .filter(|scope| scope.opens_api())
            .map(|scope| scope.needs())
            .max()
            .map(|role| role.min(owner))
    }

    /// Whether it reads from the registry.
    pub fn pulls(&self) -> bool {
        self.0.iter().any(|scope| matches!(scope, Scope::RegistryPull | Scope::RegistryPush))
    }

    /// Whether it writes to the registry and deletes there, its owner's role being this.
    pub fn pushes(&self, owner: Role) -> bool {
        self.0.contains(&Scope::RegistryPush) && owner >= Scope::RegistryPush.needs()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.write_str(&words.join(" "))
    }
}

impl FromStr for Scopes {
    type Err = String;

    /// Reads what the database keeps.
    fn from_str(text: &str) -> Result<Self, String> {
        let scopes = text.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<Scope>, _>>()?;
        Self::new(scopes).ok_or_else(|| "a token without a scope".to_owned())
    }
}

/// A token to be made: only its hash is kept.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The hash of what its owner is shown once.
    pub token: Hashed,
    /// Whose it is.
    pub owner: UserId,
    /// What its owner calls it; one name, one token.
    pub name: String,
    /// What it is for.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Its identifier.
    pub id: TokenId,
    /// Its hash: what registry tokens that were got with it are bound to.
    pub hash: Hashed,
    /// Whose it is, with the role that the account has at this moment.
    pub owner: User,
    /// What its owner calls it.
    pub name: String,
    /// What it is for.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// Which token is asked for.
#[derive(Debug, Clone, Copy)]
pub enum TokenKey<'a> {
    /// The one that somebody shows.
    Hash(&'a Hashed),
    /// The one that a registry token was got with.
    Id(&'a TokenId),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Scope; 5] =
        [Scope::Read, Scope::Write, Scope::Admin, Scope::RegistryPull, Scope::RegistryPush];
    const ROLES: [Role; 3] = [Role::Viewer, Role::Admin, Role::SystemAdmin];

    proptest! {
        #[test]
        fn a_token_never_opens_more_than_its_owner(chosen in proptest::sample::subsequence(&ALL, 1..=5), owner in 0usize..3) {
            let (scopes, owner) = (Scopes::new(chosen.clone()).unwrap(), ROLES[owner]);
            prop_assert!(scopes.role(owner).is_none_or(|role| role <= owner));
            prop_assert!(!scopes.pushes(owner) || owner >= Role::Admin);
            prop_assert_eq!(scopes.beyond(owner).is_none(), chosen.iter().all(|scope| scope.needs() <= owner));
            prop_assert_eq!(scopes.to_string().parse::<Scopes>().unwrap(), scopes);
        }
    }

    #[test]
    fn scopes_open_what_they_say() {
        let scopes = |text: &str| text.parse::<Scopes>().unwrap();
        assert_eq!(scopes("read").role(Role::SystemAdmin), Some(Role::Viewer));
        assert_eq!(scopes("write read").role(Role::SystemAdmin), Some(Role::Admin));
        assert_eq!(scopes("admin").role(Role::SystemAdmin), Some(Role::SystemAdmin));
        assert_eq!(scopes("admin").role(Role::Viewer), Some(Role::Viewer), "its owner was demoted");
        assert_eq!(scopes("registry:pull").role(Role::SystemAdmin), None);
        assert!(
            !scopes("read").pulls() && scopes("registry:pull").pulls() && scopes("registry:push").pulls()
        );
        assert!(scopes("registry:push").pushes(Role::Admin) && !scopes("registry:push").pushes(Role::Viewer));
        assert!(!scopes("registry:pull").pushes(Role::SystemAdmin));
        for bad in ["", "fleet", "read,write"] {
            assert!(bad.parse::<Scopes>().is_err(), "{bad}");
        }
    }
}
