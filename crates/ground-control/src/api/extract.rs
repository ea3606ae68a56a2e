//! Bodies, path segments and query strings, read strictly and refused in our own words.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::domain::Paged;

/// A JSON body: an object, as every route takes.
///
/// The content type may be absent; one that is there must be JSON, so that no HTML form of a foreign page can
/// speak for a browser that remembers a password.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if let Some(value) = request.headers().get(header::CONTENT_TYPE) {
            let essence =
                value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
            if essence != "application/json"
                && !(essence.starts_with("application/") && essence.ends_with("+json"))
            {
                return Err(ApiError::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "the body must be JSON: send Content-Type: application/json",
                ));
            }
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let status = rejection.status();
            if status == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::new(status, "the body is too large")
            } else {
                ApiError::bad_request("the body could not be read to its end")
            }
        })?;
        // serde would also read a struct from a bare list of its fields, in the order in which they happen to stand.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err(ApiError::bad_request(
                "the body is not what this route takes: a JSON object is needed",
            ));
        }
        serde_json::from_slice(&bytes)
            .map(Body)
            .map_err(|error| ApiError::bad_request(format!("the body is not what this route takes: {error}")))
    }
}

/// The single parameter of a path, decoded.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Path::<String>::from_request_parts(parts, state)
            .await
            .map(|Path(text)| Self(text))
            .map_err(|_| ApiError::bad_request("the path is not valid UTF-8"))
    }
}

/// Which part of a list is asked for: `?page=1&page_size=100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    /// From 1.
    pub(crate) number: u32,
    /// 1 to 100.
    pub(crate) size: u32,
}

impl Page {
    /// The longest page, and the one taken where none is asked for.
    pub(crate) const MAX: u32 = 100;

    /// How many entries come before this page.
    pub(crate) fn offset(self) -> u64 {
        u64::from(self.number.saturating_sub(1)) * u64::from(self.size)
    }

    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut page = Self { number: 1, size: Self::MAX };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match name.as_ref() {
                "page" => {
                    page.number =
                        value.parse().ok().filter(|n| (1..=1_000_000).contains(n)).ok_or_else(|| {
                            ApiError::bad_request("page must be a number from 1 to 1000000")
                        })?;
                }
                "page_size" => {
                    page.size =
                        value.parse().ok().filter(|n| (1..=Self::MAX).contains(n)).ok_or_else(|| {
                            ApiError::bad_request("page_size must be a number from 1 to 100")
                        })?;
                }
                _ => {}
            }
        }
        Ok(page)
    }

    /// `Link` (RFC 8288) to the pages beside this one, if there are any.
    pub(crate) fn link(self, path: &str, total: u64) -> Option<String> {
        let mut links = Vec::new();
        let to = |number: u32, relation: &str| {
            let join = if path.contains('?') { '&' } else { '?' };
            format!("<{path}{join}page={number}&page_size={}>; rel=\"{relation}\"", self.size)
        };
        if self.number > 1 {
            links.push(to(self.number - 1, "prev"));
        }
        if self.offset() + u64::from(self.size) < total {
            links.push(to(self.number + 1, "next"));
        }
        (!links.is_empty()).then(|| links.join(", "))
    }
}

impl From<Page> for crate::domain::Page {
    fn from(page: Page) -> Self {
        Self::new(page.number, page.size)
    }
}

/// What stands beside a page of a list of `total`: `X-Total-Count` and `Link`.
pub(crate) fn page_headers(path: &str, page: Page, total: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("x-total-count"), HeaderValue::from(total));
    if let Some(link) = page.link(path, total).and_then(|link| HeaderValue::from_str(&link).ok()) {
        headers.insert(header::LINK, link);
    }
    headers
}

/// A page of a list as an answer: a JSON array, with [`page_headers`] beside it.
pub(crate) fn paged<T: Serialize>(path: &str, page: Page, list: Paged<T>) -> Response {
    let headers = page_headers(path, page, list.total);
    let mut response = Json(list.items).into_response();
    response.headers_mut().extend(headers);
    response
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query().unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded() {
        assert_eq!(Page::parse("").unwrap(), Page { number: 1, size: 100 });
        assert_eq!(Page::parse("page=3&page_size=7").unwrap(), Page { number: 3, size: 7 });
        for bad in ["page=0", "page=-1", "page=x", "page_size=0", "page_size=101", "page=99999999999"] {
            assert!(Page::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_lead_to_the_neighbours() {
        let page = Page { number: 2, size: 10 };
        assert_eq!(page.offset(), 10);
        assert_eq!(
            page.link("/api/groups", 30).unwrap(),
            "</api/groups?page=1&page_size=10>; rel=\"prev\", </api/groups?page=3&page_size=10>; rel=\"next\""
        );
        assert_eq!(Page { number: 1, size: 10 }.link("/api/groups", 10), None);
        assert_eq!(
            Page { number: 1, size: 10 }.link("/api/satellites?region=eu", 11).unwrap(),
            "</api/satellites?region=eu&page=2&page_size=10>; rel=\"next\""
        );
    }
}
