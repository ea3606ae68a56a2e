//! The `Authorization` header (RFC 9110 section 11.6.2): Basic (RFC 7617) and Bearer (RFC 6750).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// The longest header looked at, in bytes.
const LIMIT: usize = 16 * 1024;

/// What a request brought to prove who sends it.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// No `Authorization` header at all.
    None,
    /// A name and a password or secret.
    Basic {
        /// The name before the first colon.
        username: String,
        /// All behind it.
        password: SecretString,
    },
    /// A session, an API token or a registry token.
    Bearer(SecretString),
    /// A header that is neither, twice there, or does not parse.
    Malformed,
}

impl Credentials {
    /// Reads the header; anything odd is [`Credentials::Malformed`], never anonymous.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Self::None,
            (Some(value), None) if value.len() <= LIMIT => value,
            _ => return Self::Malformed,
        };
        let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
            return Self::Malformed;
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            return Self::Bearer(SecretString::from(rest));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Self::Malformed;
        }
        let Ok(decoded) = STANDARD.decode(rest).map(Zeroizing::new) else { return Self::Malformed };
        match std::str::from_utf8(&decoded).ok().and_then(|text| text.split_once(':')) {
            Some((username, password)) => Self::Basic {
                username: username.to_owned(),
                password: SecretString::from(password.to_owned()),
            },
            None => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn of(values: &[&str]) -> Credentials {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        Credentials::of(&headers)
    }

    #[test]
    fn headers_are_read_or_refused_but_never_taken_for_anonymous() {
        assert!(matches!(of(&[]), Credentials::None));
        let basic = format!("basic {}", STANDARD.encode("robot$edge-01:a:b"));
        let Credentials::Basic { username, password } = of(&[&basic]) else { panic!("not basic") };
        assert_eq!((username.as_str(), password.expose_secret()), ("robot$edge-01", "a:b"));
        assert!(matches!(of(&["Bearer abc"]), Credentials::Bearer(token) if token.expose_secret() == "abc"));
        let no_colon = format!("Basic {}", STANDARD.encode("name"));
        for bad in [
            &["Basic"][..],
            &["Basic !"],
            &[&no_colon],
            &["Digest x"],
            &["Bearer "],
            &["Bearer a", "Bearer b"],
        ] {
            assert!(matches!(of(bad), Credentials::Malformed), "{bad:?}");
        }
    }
}
