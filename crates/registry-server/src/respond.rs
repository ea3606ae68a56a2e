//! Small parts of answers.

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, StatusCode};
use oci::{Digest, RepositoryName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

pub(crate) static DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) static DOCKER_UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(crate) static OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(crate) static OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
pub(crate) static OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
pub(crate) static OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");
pub(crate) static OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");

/// What may stand in a query value as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    // RFC 9110 section 8.6: none on a 204.
    if status != StatusCode::NO_CONTENT {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// An answer with a JSON document, without it for HEAD.
pub(crate) fn json(content_type: &'static str, document: Vec<u8>, head: bool) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
    if !head {
        *response.body_mut() = Body::from(document);
    }
    response
}

/// The digest as a strong entity tag and as itself: two header values over one buffer.
pub(crate) fn digest_headers(digest: &Digest) -> (HeaderValue, HeaderValue) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let hash = digest.bytes();
    let algorithm = digest.algorithm().as_str();
    let mut quoted = BytesMut::with_capacity(algorithm.len() + 3 + 2 * hash.len());
    quoted.put_u8(b'"');
    quoted.put_slice(algorithm.as_bytes());
    quoted.put_u8(b':');
    for byte in hash {
        quoted.put_u8(HEX[usize::from(byte >> 4)]);
        quoted.put_u8(HEX[usize::from(byte & 15)]);
    }
    quoted.put_u8(b'"');
    let quoted = quoted.freeze();
    let plain = quoted.slice(1..quoted.len() - 1);
    (header_value(quoted), header_value(plain))
}

/// A header value of bytes that are known to be printable; anything else becomes an empty value.
pub(crate) fn header_value(bytes: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes).unwrap_or(HeaderValue::from_static(""))
}

/// A header value of a text that is known to be printable; anything else becomes an empty value.
pub(crate) fn header_text(text: impl Into<String>) -> HeaderValue {
    header_value(Bytes::from(text.into()))
}

/// 201 for content that can now be pulled from its URL.
pub(crate) fn created(repository: &RepositoryName, kind: &str, digest: &Digest) -> Response {
    let (_, plain) = digest_headers(digest);
    let mut response = empty(StatusCode::CREATED);
    response.headers_mut().insert(LOCATION, header_text(format!("/v2/{repository}/{kind}/{digest}")));
    response.headers_mut().insert(DOCKER_CONTENT_DIGEST.clone(), plain);
    response
}

/// The `Link` of a page that is not the last (RFC 8288).
pub(crate) fn next_link(path: &str, parameters: &[(&str, &str)]) -> HeaderValue {
    let mut target = format!("<{path}");
    for (index, (key, value)) in parameters.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.push_str(key);
        target.push('=');
        target.extend(utf8_percent_encode(value, QUERY));
    }
    target.push_str(">; rel=\"next\"");
    header_text(target)
}

#[cfg(test)]
mod tests {
    use oci::Algorithm;

    use super::*;

    #[test]
    fn digest_headers_hold_the_digest() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"content");
            let (quoted, plain) = digest_headers(&digest);
            assert_eq!(plain.to_str().unwrap(), digest.to_string());
            assert_eq!(quoted.to_str().unwrap(), format!("\"{digest}\""));
        }
    }

    #[test]
    fn links_are_encoded() {
        let link = next_link("/v2/a/tags/list", &[("n", "2"), ("last", "a b&c")]);
        assert_eq!(link, "</v2/a/tags/list?n=2&last=a%20b%26c>; rel=\"next\"");
    }
}
