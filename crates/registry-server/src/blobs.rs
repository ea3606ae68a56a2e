//! Blobs: pulled, whole or in part, and taken out of a repository.

use axum::body::Body;
use axum::response::Response;
use futures_util::TryStreamExt as _;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use http::{HeaderValue, StatusCode};
use oci::{Digest, Reference, RepositoryName};

use crate::conditional;
use crate::error::{ErrorCode, RegistryError};
use crate::events::EventKind;
use crate::miss;
use crate::range::{self, Wanted};
use crate::respond::{self, DOCKER_CONTENT_DIGEST};
use crate::router::Asked;

/// GET and HEAD. `Range` belongs to GET alone (RFC 9110 section 14.2).
pub(crate) fn get(
    asked: &Asked<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response, RegistryError> {
    let Some(blob) = asked.store().blob(name, digest)? else {
        return miss::blob(asked, name, digest);
    };
    let size = blob.size();
    let request = &asked.head.headers;
    let (etag, plain) = respond::digest_headers(digest);
    let mut response = Response::new(Body::empty());
    if conditional::not_modified(request, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else if asked.is_head() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    } else {
        let wanted = match request.get(RANGE) {
            Some(header) if conditional::range_applies(request, &etag) => {
                range::wanted(header.to_str().ok(), size)
            }
            _ => Wanted::Whole,
        };
        let range = match wanted {
            Wanted::Whole => 0..size,
            Wanted::Part(range) => {
                let shown = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                response.headers_mut().insert(CONTENT_RANGE, respond::header_text(shown));
                range
            }
            Wanted::Unsatisfiable => {
                return Err(RegistryError::new(
                    ErrorCode::SizeInvalid,
                    format!("the blob has {size} bytes and none of them is in the range"),
                )
                .with_status(StatusCode::RANGE_NOT_SATISFIABLE)
                .with_header(CONTENT_RANGE, respond::header_text(format!("bytes */{size}"))));
            }
        };
        let length = range.end - range.start;
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        if length > 0 {
            let digest = *digest;
            *response.body_mut() = Body::from_stream(blob.stream(range).inspect_err(move |error| {
                // The head is sent, so the client only sees its connection break.
                tracing::error!(%digest, %error, "blob cannot be read to its end");
            }));
        }
        asked.observe(EventKind::BlobPulled, name, &Reference::Digest(*digest), Some(digest), length);
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(ETAG, etag);
    headers.insert(DOCKER_CONTENT_DIGEST.clone(), plain);
    Ok(response)
}

/// DELETE: this repository sees the blob no longer; others are not touched.
pub(crate) async fn delete(
    asked: &Asked<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Response, RegistryError> {
    if !asked.store().unlink_blob(name, digest).await? {
        return Err(RegistryError::blob_unknown(name.as_str(), digest));
    }
    asked.observe(EventKind::BlobDeleted, name, &Reference::Digest(*digest), Some(digest), 0);
    Ok(respond::empty(StatusCode::ACCEPTED))
}
