//! `WWW-Authenticate` (RFC 9110 section 11.6.1): which scheme a registry wants, and for a token where from.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// One challenge that we can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// URL of the token service.
        realm: String,
        /// Whom the token is for.
        service: Option<String>,
        /// What the token is for; several scopes stand in one value, separated by spaces.
        scope: Option<String>,
    },
}

/// All challenges of the answer that we can do something about; the others are left out.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()).flat_map(parse).collect()
}

/// Several challenges may stand in one header, separated by the same comma as their parameters: a word
/// without `=` behind it begins the next one.
fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        let after_blank = after.trim_start_matches([' ', '\t']);
        match after_blank.strip_prefix('=') {
            Some(value) => {
                let (value, tail) = parameter_value(value.trim_start_matches([' ', '\t']));
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = tail;
            }
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| understood(&scheme, parameters)).collect()
}

fn understood(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let take = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, v)| v.clone());
            Some(Challenge::Bearer {
                realm: take("realm")?,
                service: take("service"),
                scope: take("scope").filter(|s| !s.is_empty()),
            })
        }
        _ => None,
    }
}

/// A quoted string with its escapes, or a token. Returns what follows it too. A quote that never ends runs
/// to the end of the header.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn harbor() {
        let header =
            r#"Bearer realm="https://h/service/token",service="harbor-registry",scope="repository:a/b:pull""#;
        assert_eq!(
            parse(header),
            [bearer("https://h/service/token", Some("harbor-registry"), Some("repository:a/b:pull"))]
        );
        assert_eq!(parse(r#"Basic realm="harbor""#), [Challenge::Basic]);
    }

    #[test]
    fn odd_but_legal() {
        assert_eq!(
            parse(
                r#"Negotiate abc==, BEARER Realm = "https://x/\"y\"" , scope="a:b:pull,push c:d:pull",error="e", basic realm=x"#
            ),
            [bearer("https://x/\"y\"", None, Some("a:b:pull,push c:d:pull")), Challenge::Basic]
        );
        assert_eq!(parse("Bearer service=x"), []);
        assert_eq!(parse(""), []);
        assert_eq!(parse(r#"Bearer realm="https://x"#), [bearer("https://x", None, None)]);
        assert_eq!(parse("=,=,\"\" Basic"), []);
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_always_ends(text: String) {
            parse(&text);
            parse(&format!("Bearer realm=\"x\",{text}"));
        }

        #[test]
        fn values_come_through(realm in "[ -~]{1,40}", scope in "[ -~]{1,40}") {
            let quote = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!("Bearer realm=\"{}\", scope=\"{}\"", quote(&realm), quote(&scope));
            proptest::prop_assert_eq!(parse(&header), [bearer(&realm, None, Some(&scope))]);
        }
    }
}
