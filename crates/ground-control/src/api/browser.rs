//! Sessions in a browser's cookie: which cookies there are, and what shows that a request is the person's own.
//!
//! A browser sends a cookie with whatever a foreign page makes it ask. So a change by cookie needs a token, too, that only
//! a page of ours can have read: it follows from the session under the server key and is kept nowhere.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};

use super::error::ApiError;
use crate::auth::People;

/// The header that has to come with a change by cookie.
pub(crate) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");

/// The session. `__Host-`: of this host alone, Secure, for every path (RFC 6265bis section 4.1.3.2).
pub(crate) const SESSION: &str = "__Host-ground-control";
/// What binds a login that is under way to its browser.
pub(crate) const LOGIN: &str = "__Host-ground-control-login";

/// The longest value of a cookie of ours.
const LONGEST: usize = 128;

/// A cookie of ours; `None` where it is not there, twice there, or holds what we never gave.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<SecretString> {
    let mut found = None;
    for line in headers.get_all(header::COOKIE) {
        for pair in line.to_str().ok()?.split(';') {
            let Some((key, value)) = pair.trim().split_once('=') else { continue };
            if key == name && found.replace(value).is_some() {
                return None;
            }
        }
    }
    let plain = |value: &&str| {
        (1..=LONGEST).contains(&value.len())
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    found.filter(plain).map(SecretString::from)
}

/// The line that gives a browser a cookie for this long. `Lax`: the provider's redirect, which comes from another site, has
/// to bring it.
pub(crate) fn give(name: &str, value: &SecretString, life: Duration) -> Option<HeaderValue> {
    let (value, seconds) = (value.expose_secret(), life.as_secs());
    let line = format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax");
    let mut line = HeaderValue::from_str(&line).ok()?;
    line.set_sensitive(true);
    Some(line)
}

/// The line that takes it away.
pub(crate) fn take(name: &'static str) -> HeaderValue {
    let line = format!("{name}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax");
    HeaderValue::from_str(&line).unwrap_or(HeaderValue::from_static(""))
}

/// Whether a request by cookie may do what it asks for: reading always, a change with the session's token.
///
/// # Errors
/// 403.
pub(crate) fn check_csrf(parts: &Parts, people: &People, session: &SecretString) -> Result<(), ApiError> {
    if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let given = parts.headers.get(&CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or("");
    if people.is_csrf_token(session, given) {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "a change by cookie needs the header X-CSRF-Token; GET /auth/session tells its value",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        cookie(&headers, SESSION).map(|value| value.expose_secret().to_owned())
    }

    #[test]
    fn only_a_cookie_that_is_there_once_counts() {
        assert_eq!(of(&["a=b; __Host-ground-control=abc; c=d"]).as_deref(), Some("abc"));
        assert_eq!(of(&["a=b", "__Host-ground-control=abc"]).as_deref(), Some("abc"));
        for bad in [
            &["ground-control=abc"][..],
            &["__Host-ground-control="],
            &["__Host-ground-control=a b"],
            &["__Host-ground-control=a; __Host-ground-control=b"],
            &["__Host-ground-control=a", "__Host-ground-control=a"],
            &["__Host-ground-control-login=abc"],
            &[],
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
        assert_eq!(of(&[&format!("{SESSION}={}", "a".repeat(129))]), None);
    }

    #[test]
    fn cookies_are_the_hosts_own_and_out_of_the_reach_of_scripts() {
        let line = give(SESSION, &SecretString::from("abc"), Duration::from_secs(60)).unwrap();
        assert!(line.is_sensitive());
        assert_eq!(
            line.to_str().unwrap(),
            "__Host-ground-control=abc; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax"
        );
        assert!(take(SESSION).to_str().unwrap().contains("Max-Age=0; Secure"));
    }
}
