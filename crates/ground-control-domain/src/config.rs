//! Configurations: named documents that satellites are given.

use fleet_protocol::ConfigDocument;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{ConfigId, leak};

/// The configuration that the first start creates, and that a satellite has where none is named.
pub const DEFAULT_CONFIG: &str = "default";

/// A configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its identifier.
    pub id: ConfigId,
    /// Its name.
    pub name: String,
    /// The document as it was given and patched: exactly what is published.
    pub document: Value,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// The largest document, in bytes of its JSON.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// Checks a document before it is kept; the message names everything that is wrong.
pub fn check(document: &Value) -> Result<(), String> {
    if !document.is_object() {
        return Err("the config is no JSON object".to_owned());
    }
    if document.to_string().len() > MAX_DOCUMENT {
        return Err(format!("the config is larger than {MAX_DOCUMENT} bytes"));
    }
    let typed =
        ConfigDocument::deserialize(document).map_err(|error| format!("the config is not valid: {error}"))?;
    let mut wrong = fleet_protocol::config::validate(&typed);
    let user = document.pointer("/state_config/auth/username").and_then(Value::as_str);
    if user.is_some_and(|user| !user.is_empty()) {
        wrong.push(
            "state_config.auth.username: accounts are handed out at registration, and stand in no document"
                .to_owned(),
        );
    }
    for path in leak::secrets(document) {
        // What is known by its key says better what to do instead.
        if !wrong.iter().any(|known| known.starts_with(&format!("{path}:"))) {
            wrong.push(format!("{path}: a config document holds no secret"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// Applies a JSON merge patch (RFC 7396): members replace, `null` removes, objects are merged.
pub fn merge_patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut merged = match target {
        Value::Object(members) => members,
        _ => serde_json::Map::new(),
    };
    for (name, change) in patch {
        if change.is_null() {
            merged.remove(name);
        } else {
            let before = merged.remove(name).unwrap_or(Value::Null);
            merged.insert(name.clone(), merge_patch(before, change));
        }
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    /// The examples of RFC 7396, Appendix A.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            assert_eq!(merge_patch(target, &patch), result);
        }
    }

    #[test]
    fn a_document_is_checked() {
        assert_eq!(check(&fleet_protocol::config::default_document()), Ok(()));
        assert_eq!(check(&json!({})), Ok(()));
        assert!(check(&json!([])).is_err());
        assert!(
            check(&json!({"app_config": {"heartbeat_interval": "soon"}})).unwrap_err().contains("heartbeat")
        );
        let secret = json!({"state_config": {"auth": {"password": "p"}}});
        assert_eq!(
            check(&secret).unwrap_err(),
            "state_config.auth.password: a config document holds no secret"
        );
        let elsewhere = json!({"zot_config": {"http": {"auth": {"ldap": {"bindPassword": "p"}}}}});
        assert!(check(&elsewhere).unwrap_err().starts_with("zot_config.http.auth.ldap.bindPassword:"));
        let user = json!({"state_config": {"auth": {"username": "robot"}}});
        assert!(check(&user).unwrap_err().starts_with("state_config.auth.username:"));
        assert!(check(&json!({"x": "y".repeat(MAX_DOCUMENT)})).unwrap_err().contains("larger"));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from), object(inner)]
        })
    }

    fn object(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
        let members = proptest::collection::btree_map("[a-d]", values, 0..4);
        members.prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn a_patch_applied_twice_is_a_patch_applied_once(target in value(), patch in value()) {
            let once = merge_patch(target, &patch);
            prop_assert_eq!(merge_patch(once.clone(), &patch), once);
        }

        #[test]
        fn an_empty_patch_changes_no_object(target in object(value())) {
            prop_assert_eq!(merge_patch(target.clone(), &json!({})), target);
        }
    }
}
