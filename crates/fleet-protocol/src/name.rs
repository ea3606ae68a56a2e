//! Names of satellites, groups, configs and regions.
//!
//! The rule is Harbor's for a robot name, so that every satellite can have a robot: lowercase letters and digits, in parts
//! joined by single `.`, `_` or `-`. New names have 63 characters at most; deployed fleets have some of up to 255, which
//! are read and kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The most characters of a new name.
pub const MAX_NEW: usize = 63;
/// The most characters of a name that a deployed fleet already has.
pub const MAX_DEPLOYED: usize = 255;

/// A text that breaks the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no {what} name: 1 to {most} lowercase letters and digits, in parts joined by single `.`, `_` or `-`"
)]
pub struct NameError {
    what: &'static str,
    text: String,
    most: usize,
}

fn follows_rule(text: &str, most: usize) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= most
        && bytes.first().is_some_and(|b| alphanumeric(*b))
        && bytes.last().is_some_and(|b| alphanumeric(*b))
        && bytes.iter().all(|b| alphanumeric(*b) || matches!(b, b'.' | b'_' | b'-'))
        && bytes.windows(2).all(|pair| alphanumeric(pair[0]) || alphanumeric(pair[1]))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// `FromStr` and `Deserialize` take what deployed fleets have (255 characters); `new` holds to 63.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// A name that is given for the first time: 63 characters at most.
            pub fn new(text: &str) -> Result<Self, NameError> {
                Self::checked(text, MAX_NEW)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            fn checked(text: &str, most: usize) -> Result<Self, NameError> {
                if follows_rule(text, most) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { what: $what, text: text.chars().take(300).collect(), most })
                }
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::checked(text, MAX_DEPLOYED)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

name!(
    /// The name of a satellite, unique in a fleet whatever its region.
    SatelliteName,
    "satellite"
);
name!(
    /// The name of a group of artifacts.
    GroupName,
    "group"
);
name!(
    /// The name of a config.
    ConfigName,
    "config"
);
name!(
    /// The region of a satellite.
    Region,
    "region"
);

impl Default for Region {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl ConfigName {
    /// The config that the first start creates, and that a satellite has unless it is given another.
    pub fn default_config() -> Self {
        Self("default".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rule() {
        for good in ["a", "edge-us-east-01", "a.b_c-d", "0"] {
            assert!(SatelliteName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a--b", "a._b", "-a", "a-", "a/b", "a b", "é", "..", "a%2fb"] {
            assert!(SatelliteName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn deployed_names_are_longer() {
        let long = "a".repeat(200);
        assert!(SatelliteName::new(&long).is_err());
        assert!(long.parse::<SatelliteName>().is_ok());
        assert!("a".repeat(256).parse::<SatelliteName>().is_err());
    }

    proptest! {
        #[test]
        fn every_name_is_a_repository_component(text in "[a-z0-9._-]{1,20}") {
            if let Ok(name) = GroupName::new(&text) {
                prop_assert!(name.as_str().parse::<oci::RepositoryName>().is_ok());
            }
        }
    }
}
