//! What is here: tags, repositories, referrers (OCI Distribution, "Content Discovery").

use axum::response::Response;
use http::HeaderValue;
use http::header::LINK;
use oci::{Descriptor, Digest, RepositoryName, Tag, media_type};
use serde::Serialize;

use crate::error::{ErrorCode, RegistryError};
use crate::respond::{self, OCI_FILTERS_APPLIED};
use crate::router::Asked;

/// Bytes of descriptors in one answer: an index that is larger than a manifest may be would be refused by clients.
const REFERRERS_BYTES: usize = 3 * 1024 * 1024;

/// Repositories that are looked at in one step while a caller's own are searched.
const CATALOG_STEP: usize = 256;

/// `GET /v2/<name>/tags/list`
pub(crate) fn tags(asked: &Asked<'_>, name: &RepositoryName) -> Result<Response, RegistryError> {
    #[derive(Serialize)]
    struct Tags<'a> {
        name: &'a str,
        tags: Vec<&'a str>,
    }
    let store = asked.store();
    if !store.has_repository(name)? {
        return Err(RegistryError::new(ErrorCode::NameUnknown, format!("there is no repository `{name}`")));
    }
    let n = page_size(asked)?;
    let page = match n {
        0 => blob_store::Page::default(),
        n => store.tags(name, asked.query.last.as_deref().filter(|last| !last.is_empty()), n)?,
    };
    let document = Tags { name: name.as_str(), tags: page.items.iter().map(Tag::as_str).collect() };
    let mut response = json(asked, "application/json", &document)?;
    if page.more
        && let Some(last) = page.items.last()
    {
        let link = respond::next_link(
            &format!("/v2/{name}/tags/list"),
            &[("n", &n.to_string()), ("last", last.as_str())],
        );
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

/// `GET /v2/_catalog`: the repositories that the caller may pull from.
pub(crate) async fn catalog(asked: &Asked<'_>) -> Result<Response, RegistryError> {
    #[derive(Serialize)]
    struct Repositories<'a> {
        repositories: Vec<&'a str>,
    }
    let n = page_size(asked)?;
    let mut found: Vec<RepositoryName> = Vec::new();
    let mut last = asked.query.last.as_deref().filter(|last| !last.is_empty()).map(str::to_owned);
    let mut more = n > 0;
    // One more than asked for tells whether there is another page.
    while more && found.len() <= n {
        let page = asked.store().repositories(last.as_deref(), CATALOG_STEP)?;
        more = page.more;
        last = page.items.last().map(|name| name.as_str().to_owned());
        found.extend(page.items.into_iter().filter(|name| asked.may_pull(name)));
        tokio::task::yield_now().await;
    }
    let more = n > 0 && found.len() > n;
    found.truncate(n);
    let document = Repositories { repositories: found.iter().map(RepositoryName::as_str).collect() };
    let mut response = json(asked, "application/json", &document)?;
    if more && let Some(last) = found.last() {
        let link = respond::next_link("/v2/_catalog", &[("n", &n.to_string()), ("last", last.as_str())]);
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

/// `GET /v2/<name>/referrers/<digest>`: always 200, as a 404 would tell clients that the API itself is missing.
pub(crate) fn referrers(
    asked: &Asked<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response, RegistryError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Index {
        schema_version: u8,
        media_type: &'static str,
        manifests: Vec<Box<serde_json::value::RawValue>>,
    }
    let after = match asked.query.last.as_deref() {
        None | Some("") => None,
        Some(last) => Some(crate::path::digest(last)?),
    };
    // A plus sign in a query is a space, and a media type with a space is one whose plus was not encoded.
    let filter = asked.query.artifact_type.as_deref().map(|wanted| wanted.replace(' ', "+"));
    let filter = filter.as_deref().filter(|wanted| !wanted.is_empty());
    let n = page_size(asked)?;

    let mut all: Vec<Descriptor> = asked.store().referrers(name, digest)?;
    all.retain(|descriptor| {
        after.is_none_or(|after| descriptor.digest > after)
            && filter.is_none_or(|wanted| descriptor.artifact_type.as_deref() == Some(wanted))
    });
    all.sort_by_key(|descriptor| descriptor.digest);

    let mut manifests = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    for descriptor in all.iter().take(n) {
        let json = serde_json::value::to_raw_value(descriptor).map_err(broken)?;
        bytes += json.get().len();
        if bytes > REFERRERS_BYTES && !manifests.is_empty() {
            break;
        }
        last = Some(descriptor.digest);
        manifests.push(json);
    }
    let more = manifests.len() < all.len() && n > 0;
    let index = Index { schema_version: 2, media_type: media_type::OCI_INDEX, manifests };
    let mut response = json(asked, media_type::OCI_INDEX, &index)?;
    if filter.is_some() {
        response.headers_mut().insert(OCI_FILTERS_APPLIED.clone(), HeaderValue::from_static("artifactType"));
    }
    if more && let Some(last) = last {
        let (n, last) = (n.to_string(), last.to_string());
        let mut parameters = vec![("n", n.as_str()), ("last", last.as_str())];
        if let Some(filter) = filter {
            parameters.push(("artifactType", filter));
        }
        let link = respond::next_link(&format!("/v2/{name}/referrers/{digest}"), &parameters);
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

/// The `n` of the query, at most a page; a page where there is none.
fn page_size(asked: &Asked<'_>) -> Result<usize, RegistryError> {
    let limit = asked.registry.options.page_limit;
    match asked.query.n.as_deref() {
        None | Some("") => Ok(limit),
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(text.parse().unwrap_or(usize::MAX).min(limit))
        }
        Some(_) => {
            Err(RegistryError::bad_request("`n` is the number of entries on a page: 0 or more, in digits"))
        }
    }
}

fn json(
    asked: &Asked<'_>,
    content_type: &'static str,
    document: &impl Serialize,
) -> Result<Response, RegistryError> {
    let bytes = serde_json::to_vec(document).map_err(broken)?;
    Ok(respond::json(content_type, bytes, asked.is_head()))
}

fn broken(error: serde_json::Error) -> RegistryError {
    RegistryError::new(ErrorCode::Unknown, format!("the answer cannot be written: {error}"))
}
