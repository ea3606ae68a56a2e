//! Manifests: reading them with their digest checked, asking whether they are there, listing tags.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use oci::{Digest, Reference, RepositoryName, Tag};
use serde::Deserialize;

use crate::auth::Scope;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::paging::next_page;
use crate::send::Call;

/// Everything that a registry may hold. Without the index types a registry answers with the manifest of one
/// platform, and the digest is lost; without the last entry it refuses what it knows and we do not.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.artifact.manifest.v1+json, \
    */*;q=0.5";
/// The header in which registries tell the digest of what they send.
const CONTENT_DIGEST: &str = "docker-content-digest";
/// No list of tags is followed further than this many pages.
const MAX_PAGES: usize = 1000;
/// A page of a list is no larger than this many bytes.
const MAX_PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// A manifest as it came, its digest proved by its bytes.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// The answer's `Content-Type` without parameters; empty where it had none.
    pub media_type: String,
    /// The bytes, unchanged.
    pub bytes: Bytes,
}

/// What a registry says about a manifest without sending it. Nothing of it is proved.
#[derive(Clone, Debug)]
pub struct ManifestHead {
    /// `Docker-Content-Digest`, where the registry sends it.
    pub digest: Option<Digest>,
    /// The `Content-Type` without parameters; empty where it had none.
    pub media_type: String,
    /// The size in bytes, where the registry sends it.
    pub size: Option<u64>,
}

impl Client {
    /// Fetches a manifest. By digest, the bytes have that digest; by tag, they have the digest that the
    /// registry tells with them.
    pub async fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<FetchedManifest, Error> {
        let operation = operation("get manifest", repository, reference);
        let call = self.manifest_call(Method::GET, repository, reference, &operation);
        let answer = self.call(&call).await?;
        let media_type = media_type(answer.headers());
        let told = told_digest(answer.headers());
        let bytes = self.read_bounded(answer, self.inner.options.max_manifest_bytes, &operation).await?;
        let digest = match reference {
            Reference::Digest(asked) => *asked,
            Reference::Tag(_) => match told {
                Some(told) => told.map_err(|text| {
                    self.error(&operation, ErrorKind::Malformed(format!("its digest header is {text:?}")))
                })?,
                None => Digest::of(oci::Algorithm::Sha256, &bytes),
            },
        };
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != digest {
            return Err(self.error(&operation, ErrorKind::DigestMismatch { expected: digest, actual }));
        }
        Ok(FetchedManifest { digest, media_type, bytes })
    }

    /// Asks for a manifest without its bytes; `None` where there is none.
    pub async fn head_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestHead>, Error> {
        let operation = operation("look for manifest", repository, reference);
        let call = self.manifest_call(Method::HEAD, repository, reference, &operation);
        match self.call(&call).await {
            Ok(answer) => Ok(Some(ManifestHead {
                digest: told_digest(answer.headers()).and_then(Result::ok),
                media_type: media_type(answer.headers()),
                size: length(answer.headers()),
            })),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes a manifest (by digest) or a tag. `false` where it was not there.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<bool, Error> {
        let operation = operation("delete manifest", repository, reference);
        let url = self.repository_url(repository, &format!("manifests/{reference}"));
        let call = Call::new(Method::DELETE, url, Scope::Delete(repository.clone()), &operation);
        match self.call(&call).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// All tags of a repository. Names that are no tags by the specification are left out.
    pub async fn tags(&self, repository: &RepositoryName) -> Result<Vec<Tag>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let operation = format!("list tags of {repository}");
        let mut url = self.repository_url(repository, "tags/list?n=1000");
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let call = Call::new(Method::GET, url.clone(), Scope::Pull(repository.clone()), &operation);
            let answer = self.call(&call).await?;
            let next = next_page(&url, answer.headers());
            let body = self.read_bounded(answer, MAX_PAGE_BYTES, &operation).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|e| {
                self.error(&operation, ErrorKind::Malformed(format!("it is no tag list ({e})")))
            })?;
            tags.extend(page.tags.unwrap_or_default().iter().filter_map(|tag| tag.parse::<Tag>().ok()));
            match next {
                Some(next) => url = next,
                None => return Ok(tags),
            }
        }
        Err(self.error(&operation, ErrorKind::Malformed(format!("the list has more than {MAX_PAGES} pages"))))
    }

    fn manifest_call<'a>(
        &self,
        method: Method,
        repository: &RepositoryName,
        reference: &Reference,
        operation: &'a str,
    ) -> Call<'a> {
        let url = self.repository_url(repository, &format!("manifests/{reference}"));
        Call::new(method, url, Scope::Pull(repository.clone()), operation)
            .header(ACCEPT, HeaderValue::from_static(ACCEPTED))
    }
}

fn operation(verb: &str, repository: &RepositoryName, reference: &Reference) -> String {
    let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
    format!("{verb} {repository}{separator}{reference}")
}

pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The digest that the registry tells, or the text that should have been one.
fn told_digest(headers: &HeaderMap) -> Option<Result<Digest, String>> {
    let text = headers.get(CONTENT_DIGEST)?.to_str().ok()?;
    Some(text.parse::<Digest>().map_err(|_| text.to_owned()))
}
