//! Secrets in documents: who may read the registry's state project reads them all, so none may hold one.

use serde_json::Value;

/// What the last part of a key says of its value, however the words are joined.
const SECRET_KEYS: [&str; 9] =
    ["password", "passwd", "passphrase", "secret", "token", "secretkey", "privatekey", "accesskey", "apikey"];

/// Where in `document` a secret stands: a value under a key that names one, or a URL with a password in it. Each is a
/// path (`app_config.local_registry.password`); the value is never repeated.
pub fn secrets(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(document, &mut Vec::new(), &mut found);
    found
}

fn look(value: &Value, path: &mut Vec<String>, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                path.push(key.clone());
                if names_secret(key) && is_filled(member) {
                    found.push(path.join("."));
                } else {
                    look(member, path, found);
                }
                path.pop();
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(at.to_string());
                look(item, path, found);
                path.pop();
            }
        }
        Value::String(text) if has_password(text) => found.push(path.join(".")),
        _ => {}
    }
}

fn names_secret(key: &str) -> bool {
    let joined: String =
        key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_KEYS.iter().any(|name| joined.ends_with(name))
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        _ => false,
    }
}

/// Whether a text is a URL with a password before its host (RFC 3986 section 3.2.1).
fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_found_wherever_they_stand_and_not_repeated() {
        for (document, path) in [
            (json!({"state_config": {"auth": {"password": "hunter2"}}}), "state_config.auth.password"),
            (
                json!({"zot_config": {"http": {"auth": {"ldap": {"bindPassword": "hunter2"}}}}}),
                "zot_config.http.auth.ldap.bindPassword",
            ),
            (json!({"app_config": {"later": [{"Secret-Key": "hunter2"}]}}), "app_config.later.0.Secret-Key"),
            (
                json!({"app_config": {"harbor_registry_url": "https://u:hunter2@h/"}}),
                "app_config.harbor_registry_url",
            ),
            (json!({"token": 7}), "token"),
        ] {
            assert_eq!(secrets(&document), [path]);
        }
    }

    #[test]
    fn what_only_names_a_place_is_no_secret() {
        let document = json!({
            "auth": {"password": "", "username": "u", "password_file": "/run/secret", "token": null},
            "secret": {"path": "/run/x"}, "tls": {"key_file": "/k.pem"},
            "url": "https://host:8443/a:b@c", "image": "app@sha256:0", "secret_rotation": "daily",
        });
        assert_eq!(secrets(&document), Vec::<String>::new());
    }

    #[test]
    fn our_own_default_holds_none() {
        assert_eq!(secrets(&fleet_protocol::config::default_document()), Vec::<String>::new());
    }
}
