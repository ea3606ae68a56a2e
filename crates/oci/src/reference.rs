//! References: how people and documents name a manifest.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError, shorten};
use crate::name::{NameError, RepositoryName, Tag};

/// A tag or a digest within a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// By tag, which may move.
    Tag(Tag),
    /// By digest, which never does.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The digest is wrong.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The repository or the tag is wrong.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The host or the whole is wrong.
    #[error("`{0}` names no image: write host[:port]/repository[:tag][@digest]")]
    Form(String),
}

/// An image in a registry: `[http[s]://]host[:port]/repository[:tag][@digest]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    /// `http` or `https`, where one was written.
    pub scheme: Option<String>,
    /// Host, with a port where it has one.
    pub host: String,
    /// Repository within the registry.
    pub repository: RepositoryName,
    /// Tag, where one was written.
    pub tag: Option<Tag>,
    /// Digest, where one was written.
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// What to ask for: the digest where there is one, else the tag; `None` where neither was written.
    pub fn reference(&self) -> Option<Reference> {
        self.digest.map(Reference::Digest).or_else(|| self.tag.clone().map(Reference::Tag))
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let name_is_valid = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    name_is_valid && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let form = || ReferenceError::Form(shorten(text));
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme.to_owned()), rest),
            Some(_) => return Err(form()),
            None => (None, text),
        };
        let (host, path) = rest.split_once('/').ok_or_else(form)?;
        if !is_host(host) {
            return Err(form());
        }
        let (path, digest) = match path.split_once('@') {
            Some((path, digest)) => (path, Some(digest.parse()?)),
            None => (path, None),
        };
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.parse()?)),
            None => (path, None),
        };
        Ok(Self { scheme, host: host.to_owned(), repository: repository.parse()?, tag, digest })
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn round_trips() {
        let digest = Digest::sha256(b"");
        for text in [
            "harbor.example.com/library/nginx:latest".to_owned(),
            "https://harbor.example.com/satellite/group-state/us-east-group/state:latest".to_owned(),
            "http://127.0.0.1:8585/a/b/c".to_owned(),
            "[::1]:5000/a:1".to_owned(),
            format!("localhost:5000/a@{digest}"),
            format!("localhost:5000/a:t@{digest}"),
        ] {
            let reference: ImageReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "nginx",
            "host/",
            "host/:tag",
            "host/A",
            "ftp://host/a",
            "host:port/a",
            "ho st/a",
            "host/a:",
            "host/a@",
            "host/a@sha256:0",
            "host/../a",
            "user:pw@host/a",
            "https:///a",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = text.parse::<ImageReference>();
            let _ = text.parse::<Reference>();
        }
    }
}
