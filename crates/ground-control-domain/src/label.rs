//! Labels of satellites, and the selectors that choose by them: the syntax and the meaning are those of Kubernetes.

mod selector;

use std::collections::BTreeMap;

use serde_json::Value;

pub use selector::{MAX_REQUIREMENTS, MAX_SELECTOR, Requirement, Selector};

/// The most labels that one satellite may have.
pub const MAX_LABELS: usize = 64;
/// The longest name of a key, and the longest value, in bytes.
const MAX_NAME: usize = 63;
/// The longest prefix of a key, in bytes.
const MAX_PREFIX: usize = 253;

/// The labels of a satellite: what people say of it.
pub type Labels = BTreeMap<String, String>;

/// Checks the key of a label: `[prefix/]name`, the prefix being a DNS name.
pub fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !is_name(name) {
        return Err(format!(
            "the label key {key:?} is wrong: its name is 1 to 63 of A-Z a-z 0-9 - _ . and begins and ends with a letter or digit"
        ));
    }
    if prefix.is_some_and(|prefix| !is_dns_name(prefix)) {
        return Err(format!(
            "the label key {key:?} is wrong: what stands before / must be a lower-case DNS name"
        ));
    }
    Ok(())
}

/// Checks the value of a label, which may be empty.
pub fn check_value(value: &str) -> Result<(), String> {
    if value.is_empty() || is_name(value) {
        return Ok(());
    }
    Err(format!(
        "the label value {value:?} is wrong: it is at most 63 of A-Z a-z 0-9 - _ . and begins and ends with a letter or digit"
    ))
}

/// Applies a merge patch (RFC 7396) to labels: a text sets, `null` removes; everything else is refused.
pub fn patched(labels: &Labels, patch: &Value) -> Result<Labels, String> {
    let Value::Object(patch) = patch else {
        return Err("a merge patch of labels is a JSON object of texts and nulls".to_owned());
    };
    let mut labels = labels.clone();
    for (key, change) in patch {
        match change {
            Value::Null => {
                labels.remove(key);
            }
            Value::String(value) => {
                check_key(key)?;
                check_value(value)?;
                labels.insert(key.clone(), value.clone());
            }
            _ => return Err(format!("the label {key:?} is neither a text nor null")),
        }
    }
    if labels.len() > MAX_LABELS {
        return Err(format!("the satellite would have {} labels, more than {MAX_LABELS}", labels.len()));
    }
    Ok(labels)
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
    ends && bytes.len() <= MAX_NAME
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_dns_name(text: &str) -> bool {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let lower = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.first().is_some_and(lower)
            && bytes.last().is_some_and(lower)
            && bytes.iter().all(|byte| lower(byte) || *byte == b'-')
    };
    text.len() <= MAX_PREFIX && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn keys_and_values() {
        for good in
            ["env", "a", "example.com/env", "A_b.c-9", &format!("{}/{}", "a".repeat(253), "n".repeat(63))]
        {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        for bad in
            ["", "-a", "a-", "a b", "é", "/a", "a/", "A.com/a", "a..b/c", "a/b/c", "a=b", &"n".repeat(64)]
        {
            assert!(check_key(bad).is_err(), "{bad}");
        }
        for good in ["", "eu-west", "1.2_3"] {
            assert_eq!(check_value(good), Ok(()), "{good}");
        }
        for bad in [" ", "a,b", ".a", &"v".repeat(64)] {
            assert!(check_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_patch_sets_and_removes() {
        let labels = Labels::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let after = patched(&labels, &json!({"a": null, "b": "3", "c": "", "gone": null})).unwrap();
        assert_eq!(after, Labels::from([("b".into(), "3".into()), ("c".into(), String::new())]));
        // What has no good name can still be taken away.
        assert_eq!(patched(&labels, &json!({"no good": null})).unwrap(), labels);
        for bad in
            [json!([]), json!(null), json!({"a": 1}), json!({"a": {"b": "c"}}), json!({"no good": "x"})]
        {
            assert!(patched(&labels, &bad).is_err(), "{bad}");
        }
        let many: serde_json::Map<String, Value> =
            (0..MAX_LABELS).map(|n| (format!("k{n}"), json!("v"))).collect();
        assert_eq!(patched(&Labels::new(), &Value::Object(many.clone())).unwrap().len(), MAX_LABELS);
        assert!(patched(&labels, &Value::Object(many)).unwrap_err().contains("more than 64"));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_labels_stay_good(key in ".{0,8}", value in ".{0,8}") {
            if let Ok(labels) = patched(&Labels::new(), &json!({&key: &value})) {
                prop_assert!(check_key(&key).is_ok() && check_value(&value).is_ok());
                prop_assert_eq!(labels.get(&key), Some(&value));
            }
        }
    }
}
