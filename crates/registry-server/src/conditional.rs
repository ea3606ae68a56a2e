//! Conditional requests (RFC 9110 section 13): the digest of content is its strong entity tag.

use http::header::{IF_NONE_MATCH, IF_RANGE};
use http::{HeaderMap, HeaderValue};

/// Whether `If-None-Match` names this entity tag, so that 304 answers the request.
pub(crate) fn not_modified(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().any(|line| {
        line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|candidate| {
            candidate == b"*" || candidate.strip_prefix(b"W/").unwrap_or(candidate) == etag.as_bytes()
        })
    })
}

/// Whether a `Range` is to be honoured: `If-Range` is absent or names exactly this content. A date never does, as no
/// `Last-Modified` is sent.
pub(crate) fn range_applies(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers.get(IF_RANGE).is_none_or(|value| value.as_bytes().trim_ascii() == etag.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags() {
        let etag = HeaderValue::from_static("\"sha256:a\"");
        for (value, matches) in [
            ("\"sha256:a\"", true),
            ("W/\"sha256:a\"", true),
            ("\"x\", \"sha256:a\"", true),
            ("*", true),
            ("\"sha256:b\"", false),
            ("sha256:a", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_static(value));
            assert_eq!(not_modified(&headers, &etag), matches, "{value}");
        }
        assert!(!not_modified(&HeaderMap::new(), &etag));
    }

    #[test]
    fn if_range() {
        let etag = HeaderValue::from_static("\"sha256:a\"");
        assert!(range_applies(&HeaderMap::new(), &etag));
        for (value, applies) in
            [("\"sha256:a\"", true), ("W/\"sha256:a\"", false), ("Wed, 21 Oct 2015 07:28:00 GMT", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(IF_RANGE, HeaderValue::from_static(value));
            assert_eq!(range_applies(&headers, &etag), applies, "{value}");
        }
    }
}
