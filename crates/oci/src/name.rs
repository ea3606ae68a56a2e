//! Repository names and tags (OCI distribution-spec, "Pulling manifests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::shorten;

/// Why a text is no repository name or tag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a repository name.
    #[error(
        "`{0}` is no repository name: lowercase letters, digits and single separators (`.`, `_`, `__`, `-`), \
         in parts joined by `/`, 255 characters at most"
    )]
    Repository(String),
    /// Not a tag.
    #[error("`{0}` is no tag: 1 to 128 of `[a-zA-Z0-9_.-]`, not beginning with `.` or `-`")]
    Tag(String),
}

/// The name of a repository in a registry: `library/nginx`. Any number of slashes, at most 255 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(String);

/// The most characters of a repository name.
const MAX_REPOSITORY: usize = 255;
/// The most characters of a tag.
const MAX_TAG: usize = 128;

fn is_component(part: &str) -> bool {
    // `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    bytes.split(|b| alphanumeric(*b)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-')
    })
}

impl RepositoryName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MAX_REPOSITORY || !text.split('/').all(is_component) {
            return Err(NameError::Repository(shorten(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A tag of a repository: `latest`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let bytes = text.as_bytes();
        let valid = bytes.len() <= MAX_TAG
            && bytes.first().is_some_and(|b| word(*b))
            && bytes.iter().all(|b| word(*b) || *b == b'.' || *b == b'-');
        if valid { Ok(Self(text.to_owned())) } else { Err(NameError::Tag(shorten(text))) }
    }
}

macro_rules! text_type {
    ($name:ident) => {
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
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

text_type!(RepositoryName);
text_type!(Tag);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repositories() {
        for good in ["a", "library/nginx", "a/b/c/d/e", "a.b_c__d-e---f/0", "registry/x1"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "../a",
            "a/../b",
            "a b",
            "a%2fb",
            "-a",
            "a-",
            long.as_str(),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags() {
        let longest = "t".repeat(128);
        for good in ["latest", "_", "1.2-3", "V1", longest.as_str()] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        let long = "t".repeat(129);
        for bad in ["", ".a", "-a", "a/b", "a b", "a:b", long.as_str()] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_repository_name_is_a_safe_path(text in "[a-z0-9._/-]{0,40}") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                prop_assert!(name.as_str().split('/').all(|p| !p.is_empty() && p != "." && p != ".."));
            }
        }
    }
}
