//! People whom an identity provider vouches for: which role they have, under which name they are shown.
//!
//! A person is (issuer, subject), OpenID Connect Core section 5.7: a name may change and may be given to somebody else.

use std::fmt::Write as _;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::UserId;
use crate::secret::Hashed;
use crate::user::Role;

/// Logins of one source that may wait for the provider.
pub const LOGINS_OF_A_SOURCE: i64 = 100;
/// Logins that may wait for the provider, of all sources.
pub const LOGINS: i64 = 10_000;
/// The longest identifier of a person at a provider: OpenID Connect Core section 2 allows 255 ASCII characters.
pub const LONGEST_SUBJECT: usize = 255;

/// The longest part of an account's name that comes from the provider.
const LONGEST_NAME: usize = 46;

/// A login that waits for the provider.
#[derive(Debug, Clone)]
pub struct PendingLogin {
    /// The `state` parameter.
    pub state: Hashed,
    /// The secret that the browser keeps.
    pub browser: Hashed,
    /// Where it comes from, for the bounds.
    pub source: String,
    /// The command line that asked for it.
    pub cli: Option<CliLogin>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A command line that waits on loopback for a login in a browser (RFC 8252).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliLogin {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Its challenge, method S256 (RFC 7636 section 4.2).
    pub challenge: String,
    /// What it wants to hear again.
    pub state: String,
}

/// A code for a command line.
#[derive(Debug, Clone)]
pub struct NewCode {
    /// The code.
    pub code: Hashed,
    /// Who logged in.
    pub user: UserId,
    /// The challenge that it is bound to.
    pub challenge: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Somebody who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalPerson {
    /// The provider.
    pub issuer: String,
    /// Who it is there.
    pub subject: String,
    /// The name that the provider shows, if it tells one.
    pub name: Option<String>,
    /// The role that follows from the provider's claim.
    pub role: Role,
}

impl ExternalPerson {
    /// Names for the account, the first that is free is taken. A name that somebody has is never shared: the later ones are
    /// made of who this is at the provider.
    #[must_use]
    pub fn account_names(&self) -> [String; 3] {
        let mut print = String::new();
        let digest = Sha256::new()
            .chain_update(self.issuer.as_bytes())
            .chain_update([0])
            .chain_update(self.subject.as_bytes())
            .finalize();
        for byte in &digest[..8] {
            let _ = write!(print, "{byte:02x}");
        }
        let name = self.name.as_deref().and_then(account_name).unwrap_or_else(|| "oidc".to_owned());
        let (short, long) = (format!("{name}+{}", &print[..8]), format!("{name}+{print}"));
        [name, short, long]
    }
}

/// A name as an account may have it; `None` where nothing of it is left.
fn account_name(shown: &str) -> Option<String> {
    let plain: String = shown
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-@+".contains(c) { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(LONGEST_NAME)
        .collect();
    let name = plain.trim_end_matches('-');
    (!name.is_empty() && name != "password").then(|| name.to_owned())
}

/// Which value of the provider's claim gives which role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleMap(Vec<(String, Role)>);

impl RoleMap {
    /// The highest role that one of these values gives.
    #[must_use]
    pub fn highest<'a>(&self, values: impl IntoIterator<Item = &'a str>) -> Option<Role> {
        values
            .into_iter()
            .filter_map(|value| {
                self.0.iter().filter(|(known, _)| known == value).map(|(_, role)| *role).max()
            })
            .max()
    }
}

impl std::str::FromStr for RoleMap {
    type Err = String;

    /// `VALUE=ROLE,VALUE=ROLE`; with a semicolon anywhere it is semicolons that separate, for values that hold commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let separator = if text.contains(';') { ';' } else { ',' };
        let mut entries = Vec::new();
        for entry in text.split(separator).map(str::trim).filter(|entry| !entry.is_empty()) {
            // A value may hold an equals sign, as distinguished names do; a role does not.
            let (value, role) = entry
                .rsplit_once('=')
                .ok_or_else(|| format!("{entry:?} is not VALUE=ROLE, as platform-admins=system_admin"))?;
            let (value, role) = (value.trim(), role.trim());
            if value.is_empty() {
                return Err(format!("{entry:?} names no value of the claim"));
            }
            entries.push((value.to_owned(), role.parse()?));
        }
        if entries.is_empty() {
            return Err("names no role; without one nobody could log in".to_owned());
        }
        Ok(Self(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(text: &str) -> RoleMap {
        text.parse().unwrap()
    }

    #[test]
    fn the_highest_of_several_roles_counts() {
        let map = map("platform-admins=system_admin, ops=admin,everyone=viewer");
        assert_eq!(map.highest(["everyone"]), Some(Role::Viewer));
        assert_eq!(map.highest(["everyone", "ops", "unknown"]), Some(Role::Admin));
        assert_eq!(map.highest(["ops", "platform-admins"]), Some(Role::SystemAdmin));
        assert_eq!(map.highest(["Ops", "platform-admins "]), None);
        assert_eq!(map.highest([]), None);
    }

    #[test]
    fn values_may_be_distinguished_names() {
        let map = map("cn=ops,dc=example=admin;cn=all,dc=example=viewer");
        assert_eq!(map.highest(["cn=ops,dc=example"]), Some(Role::Admin));
        assert_eq!(map.highest(["cn=ops"]), None);
    }

    #[test]
    fn what_maps_nothing_is_refused() {
        for bad in ["", " , ", "ops", "=admin", "ops=root", "ops=", "ops=admin,x"] {
            assert!(bad.parse::<RoleMap>().is_err(), "{bad}");
        }
    }

    fn person(name: Option<&str>) -> ExternalPerson {
        ExternalPerson {
            issuer: "https://id.example.com".to_owned(),
            subject: "1".to_owned(),
            name: name.map(str::to_owned),
            role: Role::Viewer,
        }
    }

    #[test]
    fn names_are_made_to_fit() {
        assert_eq!(person(Some("jane.doe")).account_names()[0], "jane.doe");
        assert_eq!(person(Some("Jané Doe")).account_names()[0], "Jan--Doe");
        assert_eq!(person(Some(" ../admin")).account_names()[0], "admin");
        for nothing in [None, Some(""), Some("änü"), Some("password"), Some("\u{202e}")] {
            let name = &person(nothing).account_names()[0];
            assert!(name == "oidc" || name == "n", "{nothing:?}: {name}");
        }
        let [_, short, long] = person(Some("jane")).account_names();
        assert!(long.starts_with(&short) && short.starts_with("jane+") && long.len() == 21, "{long}");
    }

    proptest! {
        #[test]
        fn every_name_is_one_of_an_account(name in any::<String>()) {
            for made in person(Some(&name)).account_names() {
                prop_assert!((1..=64).contains(&made.len()), "{made}");
                prop_assert!(made.starts_with(|c: char| c.is_ascii_alphanumeric()), "{made}");
                prop_assert!(made.chars().all(|c| c.is_ascii_alphanumeric() || "._-@+".contains(c)), "{made}");
                prop_assert!(made != "password");
            }
        }

        #[test]
        fn maps_are_read_or_refused(text in any::<String>()) {
            let _ = text.parse::<RoleMap>();
        }
    }
}
