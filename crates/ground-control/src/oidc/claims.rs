//! What a provider says of a person, read for two things: values that give a role, and a name to show.

use serde_json::{Map, Value};

/// Claims by name.
pub(super) type Claims = Map<String, Value>;

/// The claim of this name, or the one that its dots lead to. A name that stands there as it is comes first: claims named by
/// URLs hold dots.
fn find<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    rest.split('.').try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
}

/// Whether there is such a claim.
pub(super) fn has(claims: &Claims, path: &str) -> bool {
    find(claims, path).is_some_and(|value| !value.is_null())
}

/// The texts of a claim that is a text or a list; what is no text gives nothing.
pub(super) fn texts<'a>(claims: &'a Claims, path: &str) -> Vec<&'a str> {
    match find(claims, path) {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A name for the account; nothing is decided by it.
pub(super) fn name(claims: &Claims) -> Option<&str> {
    ["preferred_username", "email", "name"]
        .into_iter()
        .find_map(|claim| claims.get(claim)?.as_str().filter(|name| !name.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims() -> Claims {
        let claims = json!({
            "groups": ["ops", 7, "everyone", null],
            "role": "admin",
            "realm_access": {"roles": ["realm"], "deep": {"er": "x"}},
            "https://example.com/groups": ["by-url"],
            "level": 9,
            "email": "jane@example.com",
            "preferred_username": " ",
        });
        claims.as_object().unwrap().clone()
    }

    #[test]
    fn lists_texts_and_paths_are_read() {
        let claims = claims();
        for (path, values) in [
            ("groups", vec!["ops", "everyone"]),
            ("role", vec!["admin"]),
            ("realm_access.roles", vec!["realm"]),
            ("realm_access.deep.er", vec!["x"]),
            ("https://example.com/groups", vec!["by-url"]),
            ("level", vec![]),
            ("realm_access", vec![]),
            ("realm_access.none.x", vec![]),
            ("none", vec![]),
            ("role.x", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(texts(&claims, path), values, "{path}");
        }
        assert!(has(&claims, "level") && has(&claims, "realm_access.roles") && !has(&claims, "none"));
    }

    #[test]
    fn the_name_is_one_that_says_something() {
        assert_eq!(name(&claims()), Some("jane@example.com"));
        assert_eq!(name(&Claims::new()), None);
    }
}
