//! What a path below `/v2/` names.
//!
//! A repository name holds any number of slashes, so a path is read from its end, where the fixed words are
//! (`/v2/a/blobs/uploads/manifests/latest` is the tag `latest` of `a/blobs/uploads`). The path is taken as it was
//! sent and split before anything is decoded: a slash that came as `%2F` is never a separator.

use std::borrow::Cow;
use std::str::FromStr;

use oci::{Digest, Reference, RepositoryName};
use percent_encoding::percent_decode_str;

use crate::error::{ErrorCode, RegistryError};

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
    /// `/v2/<name>/manifests/<tag or digest>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/manifests/<what can be no tag>`: nothing can be there, and nothing can be put there.
    NoManifest(RepositoryName, String),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, Digest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<session>`
    Upload(RepositoryName, String),
}

impl Target {
    /// The repository, where it is about one.
    pub(crate) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Target::Base | Target::Catalog => None,
            Target::Tags(name)
            | Target::Referrers(name, _)
            | Target::Manifest(name, _)
            | Target::NoManifest(name, _)
            | Target::Blob(name, _)
            | Target::Uploads(name)
            | Target::Upload(name, _) => Some(name),
        }
    }
}

impl Target {
    /// The same of the repository in another place; none where there is no such place. What is about no repository stays.
    pub(crate) fn moved(
        mut self,
        place: impl FnOnce(&RepositoryName) -> Option<RepositoryName>,
    ) -> Option<Self> {
        match &mut self {
            Target::Base | Target::Catalog => {}
            Target::Tags(name)
            | Target::Referrers(name, _)
            | Target::Manifest(name, _)
            | Target::NoManifest(name, _)
            | Target::Blob(name, _)
            | Target::Uploads(name)
            | Target::Upload(name, _) => *name = place(name)?,
        }
        Some(self)
    }
}

/// Reads the raw path of a request, `/v2` included.
pub(crate) fn parse(path: &str) -> Result<Target, RegistryError> {
    let Some(rest) = path.strip_prefix("/v2") else { return Err(no_such_route(path)) };
    let rest = match rest.strip_prefix('/') {
        Some(rest) => rest,
        None if rest.is_empty() => return Ok(Target::Base),
        None => return Err(no_such_route(path)),
    };
    match rest {
        "" => return Ok(Target::Base),
        "_catalog" => return Ok(Target::Catalog),
        _ => {}
    }

    let (before, last) = rest.rsplit_once('/').ok_or_else(|| no_such_route(path))?;
    if let Some((name, word)) = before.rsplit_once('/') {
        match (word, last) {
            ("manifests", reference) => return manifest(name, reference),
            ("tags", "list") => return Ok(Target::Tags(repository(name)?)),
            ("referrers", digest) => return Ok(Target::Referrers(repository(name)?, parsed_digest(digest)?)),
            ("blobs", "uploads") => return Ok(Target::Uploads(repository(name)?)),
            ("blobs", digest) => return Ok(Target::Blob(repository(name)?, parsed_digest(digest)?)),
            ("uploads", session) => {
                if let Some(name) = name.strip_suffix("/blobs") {
                    let name = repository(name)?;
                    return Ok(match session {
                        "" => Target::Uploads(name),
                        session => Target::Upload(name, decoded(session)?.into_owned()),
                    });
                }
            }
            _ => {}
        }
    }
    // A path that ends in none of the fixed words but could not be a name either is the caller's mistake in the name.
    if RepositoryName::from_str(rest.trim_end_matches('/')).is_err() {
        repository(rest)?;
    }
    Err(no_such_route(path))
}

fn manifest(name: &str, reference: &str) -> Result<Target, RegistryError> {
    let name = repository(name)?;
    let reference = decoded(reference)?;
    if reference.contains(':') {
        return Ok(Target::Manifest(name, Reference::Digest(parsed_digest(&reference)?)));
    }
    Ok(match reference.parse() {
        Ok(tag) => Target::Manifest(name, Reference::Tag(tag)),
        Err(_) => Target::NoManifest(name, reference.into_owned()),
    })
}

/// Checks a repository name as it came from a path or a query.
pub(crate) fn repository(name: &str) -> Result<RepositoryName, RegistryError> {
    // A valid name needs no escapes, so one that has any is refused whatever it would decode to.
    name.parse::<RepositoryName>()
        .map_err(|error| RegistryError::new(ErrorCode::NameInvalid, error.to_string()))
}

fn parsed_digest(text: &str) -> Result<Digest, RegistryError> {
    digest(&decoded(text)?)
}

/// Checks a digest that is already decoded.
pub(crate) fn digest(text: &str) -> Result<Digest, RegistryError> {
    text.parse::<Digest>().map_err(|error| RegistryError::new(ErrorCode::DigestInvalid, error.to_string()))
}

/// Decodes one segment, which has to stay one segment.
fn decoded(segment: &str) -> Result<Cow<'_, str>, RegistryError> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    let text = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| RegistryError::new(ErrorCode::NameInvalid, "the path is no UTF-8 once it is decoded"))?;
    if text.contains(['/', '\\', '%']) || text.chars().any(char::is_control) {
        return Err(RegistryError::new(
            ErrorCode::NameInvalid,
            "the path holds an encoded separator or control character: send it plainly",
        ));
    }
    Ok(text)
}

fn no_such_route(path: &str) -> RegistryError {
    let shown: String = path.chars().take(128).collect();
    RegistryError::not_found(
        ErrorCode::Unsupported,
        format!("`{shown}` is no part of the registry API: see OCI Distribution, \"Endpoints\""),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHA256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn reads_every_endpoint_from_its_end() {
        let digest: Digest = SHA256.parse().unwrap();
        let cases = [
            ("/v2".to_owned(), Target::Base),
            ("/v2/".to_owned(), Target::Base),
            ("/v2/_catalog".to_owned(), Target::Catalog),
            ("/v2/a/tags/list".to_owned(), Target::Tags(name("a"))),
            ("/v2/tags/list/tags/list".to_owned(), Target::Tags(name("tags/list"))),
            ("/v2/a/b/c/d/tags/list".to_owned(), Target::Tags(name("a/b/c/d"))),
            ("/v2/a/manifests/latest".to_owned(), Target::Manifest(name("a"), "latest".parse().unwrap())),
            (
                "/v2/a/manifests/manifests/latest".to_owned(),
                Target::Manifest(name("a/manifests"), "latest".parse().unwrap()),
            ),
            (
                "/v2/a/blobs/uploads/manifests/uploads".to_owned(),
                Target::Manifest(name("a/blobs/uploads"), "uploads".parse().unwrap()),
            ),
            (format!("/v2/a/manifests/{SHA256}"), Target::Manifest(name("a"), Reference::Digest(digest))),
            (
                format!("/v2/a/manifests/{}", SHA256.replace(':', "%3A")),
                Target::Manifest(name("a"), Reference::Digest(digest)),
            ),
            ("/v2/a/manifests/.x".to_owned(), Target::NoManifest(name("a"), ".x".to_owned())),
            (format!("/v2/a/blobs/{SHA256}"), Target::Blob(name("a"), digest)),
            (format!("/v2/a/referrers/{SHA256}"), Target::Referrers(name("a"), digest)),
            ("/v2/a/blobs/uploads".to_owned(), Target::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/".to_owned(), Target::Uploads(name("a"))),
            ("/v2/a/blobs/uploads/x-y".to_owned(), Target::Upload(name("a"), "x-y".to_owned())),
            ("/v2/a/b/blobs/uploads/x".to_owned(), Target::Upload(name("a/b"), "x".to_owned())),
        ];
        for (path, target) in cases {
            assert_eq!(parse(&path).unwrap(), target, "{path}");
        }
    }

    #[test]
    fn refuses_tricks_with_the_right_code() {
        let cases = [
            ("/v2/../manifests/latest", ErrorCode::NameInvalid),
            ("/v2/a/../b/manifests/latest", ErrorCode::NameInvalid),
            ("/v2/a/./b/manifests/latest", ErrorCode::NameInvalid),
            ("/v2/a%2fb/manifests/latest", ErrorCode::NameInvalid),
            ("/v2/a%2e%2e/manifests/latest", ErrorCode::NameInvalid),
            ("/v2/%61/manifests/latest", ErrorCode::NameInvalid),
            ("/v2/a//b/manifests/latest", ErrorCode::NameInvalid),
            ("/v2//manifests/latest", ErrorCode::NameInvalid),
            ("/v2/A/manifests/latest", ErrorCode::NameInvalid),
            ("/v2/a /manifests/latest", ErrorCode::NameInvalid),
            ("/v2/a/manifests/x%2fy", ErrorCode::NameInvalid),
            ("/v2/a/manifests/x%00", ErrorCode::NameInvalid),
            ("/v2/a/manifests/%ff", ErrorCode::NameInvalid),
            ("/v2/a/manifests/sha256:abc", ErrorCode::DigestInvalid),
            ("/v2/a/blobs/latest", ErrorCode::DigestInvalid),
            ("/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", ErrorCode::DigestInvalid),
            ("/v2/a/blobs/..", ErrorCode::DigestInvalid),
            ("/v2/a/blobs/sha256:..%2f..", ErrorCode::NameInvalid),
            ("/v2/a/referrers/x", ErrorCode::DigestInvalid),
            ("/v2/A/tags/list", ErrorCode::NameInvalid),
            ("/v2/a/tags", ErrorCode::Unsupported),
            ("/v2/a", ErrorCode::Unsupported),
            ("/v2x", ErrorCode::Unsupported),
        ];
        for (path, code) in cases {
            assert_eq!(parse(path).unwrap_err().code(), code, "{path}");
        }
        let long = format!("/v2/{}/manifests/latest", "a".repeat(256));
        assert_eq!(parse(&long).unwrap_err().code(), ErrorCode::NameInvalid);
    }

    proptest! {
        #[test]
        fn never_panics_and_never_lets_a_bad_name_through(path in "/v2/[a-zA-Z0-9._%/:-]{0,80}") {
            if let Ok(target) = parse(&path)
                && let Some(name) = target.repository()
            {
                let within = path.contains(&["/", name.as_str(), "/"].concat());
                prop_assert!(within);
                prop_assert!(name.as_str().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
            }
        }
    }
}
