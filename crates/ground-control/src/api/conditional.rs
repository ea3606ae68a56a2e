//! Entity tags of what people change, and changes that depend on them (RFC 9110 sections 8.8.3 and 13.1.1).

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;

use super::error::ApiError;
use crate::domain::version::{Condition, Version};

/// A body with the entity tag of what it shows.
#[derive(Debug)]
pub(crate) struct Tagged<T>(pub(crate) Version, pub(crate) T);

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.1).into_response();
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", self.0)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// What `If-Match` makes a change depend on; `None` where there is no such header.
///
/// # Errors
/// 400 for what is neither `*` nor a list of entity tags: whoever wanted a condition must not get a change without one.
pub(crate) fn condition(headers: &HeaderMap) -> Result<Option<Condition>, ApiError> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(None);
    }
    let wrong = || {
        ApiError::bad_request("If-Match is neither * nor a list of entity tags in quotes, as ETag shows them")
    };
    let lines: Result<Vec<&str>, _> =
        headers.get_all(header::IF_MATCH).iter().map(HeaderValue::to_str).collect();
    let value = lines.map_err(|_| wrong())?.join(",");
    if value.trim() == "*" {
        return Ok(Some(Condition::Exists));
    }
    strong_tags(&value).map(|tags| Some(Condition::OneOf(tags))).ok_or_else(wrong)
}

/// The opaque parts of the strong tags of a list. Weak ones never match (section 8.8.3.2), so that they are left out.
fn strong_tags(list: &str) -> Option<Vec<String>> {
    let (mut tags, mut seen, mut rest) = (Vec::new(), 0, list);
    loop {
        // Empty elements of a list are to be read over (section 5.6.1.2).
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return (seen > 0).then_some(tags);
        }
        let (weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |after| (true, after));
        let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        if !tag.bytes().all(|byte| byte == 0x21 || (0x23..=0x7e).contains(&byte)) {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
        seen += 1;
        if !weak {
            tags.push(tag.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Result<Option<Condition>, u16> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, line.parse().unwrap());
        }
        condition(&headers).map_err(|error| error.status().as_u16())
    }

    fn one_of(tags: &[&str]) -> Result<Option<Condition>, u16> {
        Ok(Some(Condition::OneOf(tags.iter().map(|&tag| tag.to_owned()).collect())))
    }

    #[test]
    fn conditions_are_read_as_the_rfc_writes_them() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["*"]), Ok(Some(Condition::Exists)));
        assert_eq!(of(&["\"xyzzy\""]), one_of(&["xyzzy"]));
        assert_eq!(of(&["\"a\", \"b,c\" ,,\"\""]), one_of(&["a", "b,c", ""]));
        assert_eq!(of(&["\"a\"", "\"b\""]), one_of(&["a", "b"]));
        assert_eq!(of(&["W/\"a\", \"b\""]), one_of(&["b"]));
        assert_eq!(of(&["W/\"a\""]), one_of(&[]));
        for bad in ["", ",", "abc", "\"a", "\"a\"\"b\"", "*, \"a\"", "w/\"a\"", "\"a b\"", "\"a\" b"] {
            assert_eq!(of(&[bad]), Err(400), "{bad}");
        }
        assert_eq!(of(&["*", "*"]), Err(400));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tags in prop::collection::vec("[!#-~]{0,12}", 1..5)) {
            let line = tags.iter().map(|tag| format!("\"{tag}\"")).collect::<Vec<_>>().join(", ");
            prop_assert_eq!(strong_tags(&line), Some(tags));
        }

        #[test]
        fn no_text_is_read_as_more_than_it_is(text in "[a\",W/* ]{0,16}") {
            if let Some(tags) = strong_tags(&text) {
                prop_assert!(tags.len() <= text.matches('"').count() / 2);
            }
        }
    }
}
