//! What refers to a manifest: signatures, SBOMs, attestations.

use http::header::{ACCEPT, HeaderName};
use http::{HeaderValue, Method};
use oci::{Descriptor, Digest, Manifest, Reference, RepositoryName, Tag};

use crate::auth::Scope;
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::manifest::media_type;
use crate::paging::next_page;
use crate::send::Call;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const MAX_PAGES: usize = 100;
const MAX_REFERRERS: usize = 10_000;

/// The manifests whose `subject` is the one that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Referrers {
    /// Their descriptors, as the registry lists them.
    pub descriptors: Vec<Descriptor>,
    /// Whether they come from the tag `<algorithm>-<hex>` since the registry has no referrers API. That list
    /// is kept by clients, and may name what does not refer to the subject.
    pub from_tag: bool,
}

/// The tag under which clients keep the list where a registry has no referrers API
/// (OCI Distribution 1.1, "Referrers Tag Schema").
pub fn fallback_tag(digest: &Digest) -> Option<Tag> {
    let text: String = format!("{}-{}", digest.algorithm(), digest.hex()).chars().take(128).collect();
    text.parse().ok()
}

impl Client {
    /// Lists the referrers of a manifest, of one artifact type or of all. Pages are followed; where the
    /// registry does not filter, the filter is applied here; where it has no referrers API, the tag is read.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Error> {
        let operation = format!("list referrers of {repository}@{digest}");
        let first = {
            let mut url = self.repository_url(repository, &format!("referrers/{digest}"));
            if let Some(wanted) = artifact_type {
                url.query_pairs_mut().append_pair("artifactType", wanted);
            }
            url
        };
        let mut next = Some(first);
        let mut descriptors = Vec::new();
        for page in 0.. {
            let Some(url) = next else { break };
            if page == MAX_PAGES {
                let text = format!("the list has more than {MAX_PAGES} pages");
                return Err(self.error(&operation, ErrorKind::Malformed(text)));
            }
            let call = Call::new(Method::GET, url.clone(), Scope::Pull(repository.clone()), &operation)
                .header(ACCEPT, HeaderValue::from_static(oci::media_type::OCI_INDEX));
            let answer = match self.call(&call).await {
                Ok(answer) => answer,
                Err(error) if page == 0 && has_no_api(&error) => {
                    return self.referrers_from_tag(repository, digest, artifact_type).await;
                }
                Err(error) => return Err(error),
            };
            // A page of a web interface is what some answer to routes that they do not know.
            if page == 0 && !media_type(answer.headers()).contains("json") {
                return self.referrers_from_tag(repository, digest, artifact_type).await;
            }
            next = next_page(&url, answer.headers());
            let filtered = answer
                .headers()
                .get_all(FILTERS_APPLIED)
                .iter()
                .filter_map(|v| v.to_str().ok())
                .any(|v| v.split(',').any(|f| f.trim().eq_ignore_ascii_case("artifactType")));
            let body = self.read_bounded(answer, self.inner.options.max_manifest_bytes, &operation).await?;
            let wanted = if filtered { None } else { artifact_type };
            descriptors.extend(self.entries(&body, wanted, &operation)?);
            if descriptors.len() > MAX_REFERRERS {
                let text = format!("more than {MAX_REFERRERS} referrers");
                return Err(self.error(&operation, ErrorKind::Malformed(text)));
            }
        }
        Ok(Referrers { descriptors, from_tag: false })
    }

    async fn referrers_from_tag(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Referrers, Error> {
        let Some(tag) = fallback_tag(digest) else { return Ok(Referrers::default()) };
        match self.manifest(repository, &Reference::Tag(tag)).await {
            Ok(index) => {
                let operation = format!("read the referrers tag of {repository}@{digest}");
                let descriptors = self.entries(&index.bytes, artifact_type, &operation)?;
                Ok(Referrers { descriptors, from_tag: true })
            }
            Err(error) if error.is_not_found() => Ok(Referrers { descriptors: Vec::new(), from_tag: true }),
            Err(error) => Err(error),
        }
    }

    fn entries(&self, body: &[u8], wanted: Option<&str>, operation: &str) -> Result<Vec<Descriptor>, Error> {
        let index = Manifest::parse(Some(oci::media_type::OCI_INDEX), body)
            .map_err(|e| self.error(operation, ErrorKind::Malformed(format!("it is no index ({e})"))))?;
        let mut entries = index.manifests;
        if let Some(wanted) = wanted {
            entries.retain(|entry| entry.artifact_type.as_deref() == Some(wanted));
        }
        Ok(entries)
    }
}

/// 404 is what the specification names; the others are what registries of before it answer to an unknown route.
fn has_no_api(error: &Error) -> bool {
    error.is_not_found()
        || matches!(
            error.kind(),
            ErrorKind::Refused { status: 405, .. } | ErrorKind::Unavailable { status: 501, .. }
        )
}
