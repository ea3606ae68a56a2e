//! Manifests: pulled (the hot path of every registry), pushed and deleted.

use axum::body::Body;
use axum::response::Response;
use blob_store::{Completeness, PutManifest};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderValue, StatusCode};
use oci::{Digest, Reference, RepositoryName, Tag, media_type};
use serde::Deserialize;

use crate::conditional;
use crate::error::{ErrorCode, RegistryError};
use crate::events::EventKind;
use crate::miss;
use crate::respond::{self, DOCKER_CONTENT_DIGEST, OCI_SUBJECT, OCI_TAG};
use crate::router::Asked;

/// GET and HEAD. What is stored is what is served: `Accept` is not read, because a client that is sent another type
/// than it knows can say so itself, and one that is sent a 406 cannot mirror.
pub(crate) fn get(
    asked: &Asked<'_>,
    name: &RepositoryName,
    reference: &Reference,
) -> Result<Response, RegistryError> {
    let Some(manifest) = asked.store().manifest(name, reference)? else {
        return miss::manifest(asked, name, reference);
    };
    let (etag, digest) = respond::digest_headers(&manifest.digest);
    let mut response = Response::new(Body::empty());
    if conditional::not_modified(&asked.head.headers, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        let length = manifest.bytes.len();
        let headers = response.headers_mut();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CONTENT_TYPE, respond::header_text(manifest.media_type));
        if !asked.is_head() {
            *response.body_mut() = Body::from(manifest.bytes);
            asked.observe(EventKind::ManifestPulled, name, reference, Some(&manifest.digest), length as u64);
        }
    }
    let headers = response.headers_mut();
    headers.insert(ETAG, etag);
    headers.insert(DOCKER_CONTENT_DIGEST.clone(), digest);
    Ok(response)
}

/// PUT, by tag or by digest, with any further tags in the query.
pub(crate) async fn put(
    asked: &Asked<'_>,
    name: RepositoryName,
    reference: Reference,
    body: &mut Body,
) -> Result<Response, RegistryError> {
    let mut tags = asked.query.tags.iter().map(|tag| parsed_tag(tag)).collect::<Result<Vec<Tag>, _>>()?;
    let in_query = tags.clone();
    let media_type = content_type(asked)?;
    let bytes = crate::body::collect(body, &asked.head.headers, asked.registry.options.manifest_limit)
        .await
        .map_err(
            // The same broken body that costs an upload its answer costs a manifest all of it.
            |error| match error.code() {
                ErrorCode::BlobUploadInvalid => RegistryError::new(
                    ErrorCode::ManifestInvalid,
                    "the manifest broke off before its end: send it again",
                ),
                _ => error,
            },
        )?;
    if let Some(media_type) = &media_type {
        check_unknown_type(media_type, &bytes)?;
    }
    let digest = match &reference {
        Reference::Digest(expected) => {
            let actual = Digest::of(expected.algorithm(), &bytes);
            if actual != *expected {
                return Err(RegistryError::new(
                    ErrorCode::DigestInvalid,
                    format!(
                        "the manifest was sent as {expected} and is {actual}: put it under its own digest"
                    ),
                ));
            }
            actual
        }
        Reference::Tag(tag) => {
            tags.push(tag.clone());
            Digest::sha256(&bytes)
        }
    };
    let length = bytes.len() as u64;
    let outcome = asked
        .store()
        .put_manifest(PutManifest {
            repository: name.clone(),
            digest,
            media_type,
            bytes,
            tags,
            completeness: Completeness::VisibleHere,
        })
        .await?;
    asked.observe(EventKind::ManifestPushed, &name, &reference, Some(&digest), length);

    let mut response = respond::created(&name, "manifests", &digest);
    let headers = response.headers_mut();
    if let Some(subject) = outcome.subject {
        headers.insert(OCI_SUBJECT.clone(), respond::header_text(subject.to_string()));
    }
    for tag in in_query {
        headers.append(OCI_TAG.clone(), respond::header_text(tag.as_str()));
    }
    Ok(response)
}

/// DELETE: by digest the manifest with all its tags, by tag only the tag.
pub(crate) async fn delete(
    asked: &Asked<'_>,
    name: &RepositoryName,
    reference: Reference,
) -> Result<Response, RegistryError> {
    let (deleted, kind, digest) = match &reference {
        Reference::Tag(tag) => (asked.store().delete_tag(name, tag).await?, EventKind::TagDeleted, None),
        Reference::Digest(digest) => {
            (asked.store().delete_manifest(name, digest).await?, EventKind::ManifestDeleted, Some(digest))
        }
    };
    if !deleted {
        return Err(RegistryError::manifest_unknown(name.as_str(), &reference.to_string()));
    }
    asked.observe(kind, name, &reference, digest, 0);
    Ok(respond::empty(StatusCode::ACCEPTED))
}

fn parsed_tag(text: &str) -> Result<Tag, RegistryError> {
    text.parse::<Tag>().map_err(|error| RegistryError::new(ErrorCode::ManifestInvalid, error.to_string()))
}

/// The `Content-Type` without its parameters, `None` where the document has to tell.
fn content_type(asked: &Asked<'_>) -> Result<Option<String>, RegistryError> {
    let Some(value) = asked.head.headers.get(CONTENT_TYPE) else { return Ok(None) };
    let text = value.to_str().map_err(|_| {
        RegistryError::new(
            ErrorCode::ManifestInvalid,
            "the Content-Type is no printable text: send the media type",
        )
    })?;
    let essence = media_type::essence(text);
    if essence.is_empty() {
        return Ok(None);
    }
    if essence.len() > 255 || !essence.contains('/') || essence.contains([' ', ',', '"']) {
        return Err(RegistryError::new(
            ErrorCode::ManifestInvalid,
            "the Content-Type is no media type: send `type/subtype` of 255 characters at most",
        ));
    }
    Ok(Some(essence.to_owned()))
}

/// A manifest of a type that nobody here knows still has to be JSON that does not contradict its header; what it
/// names is its own business.
fn check_unknown_type(media_type: &str, bytes: &[u8]) -> Result<(), RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed<'a> {
        #[serde(borrow, default)]
        media_type: Option<std::borrow::Cow<'a, str>>,
    }
    if media_type::is_image(media_type) || media_type::is_index(media_type) {
        return Ok(());
    }
    let typed: Typed<'_> = serde_json::from_slice(bytes).map_err(|error| {
        RegistryError::new(
            ErrorCode::ManifestInvalid,
            format!("the manifest is no JSON document: {error}; what is no manifest is pushed as a blob"),
        )
    })?;
    match typed.media_type.as_deref() {
        Some(own) if !own.is_empty() && own != media_type => Err(RegistryError::new(
            ErrorCode::ManifestInvalid,
            "the manifest's `mediaType` and its Content-Type differ: both have to be the same",
        )),
        _ => Ok(()),
    }
}
