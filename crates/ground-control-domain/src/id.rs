//! Typed identifiers: UUIDv7 as text, so that they sort by creation in both databases.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new identifier, later than every one made before it.
            pub fn generate() -> Self {
                Self(uuid::Uuid::now_v7().to_string())
            }

            /// The text that the database keeps.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A person's account.
    UserId
);
id!(
    /// A token that somebody made for a program.
    TokenId
);
id!(
    /// A satellite; a name that comes back after a deletion has another one.
    SatelliteId
);
id!(
    /// A group.
    GroupId
);
id!(
    /// A configuration.
    ConfigId
);
