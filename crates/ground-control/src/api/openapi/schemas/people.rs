//! Of logins, accounts and API tokens.

use serde_json::{Value, json};

use super::{api_token, object, partly, role, scope, secret, text, time};

/// Every schema by its name.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("LoginRequest", object(json!({"username": text(), "password": secret()}))),
        ("LoginAnswer", object(json!({"token": secret(), "expires_at": time()}))),
        ("IdentityProvider", object(json!({"issuer": text(), "login_url": text()}))),
        ("LoginCode", object(json!({"code": secret(), "code_verifier": secret()}))),
        (
            "SignedIn",
            object(json!({"token": secret(), "expires_at": time(), "username": text(), "role": role()})),
        ),
        (
            "OwnSession",
            partly(
                &["username", "role"],
                json!({"username": text(), "role": role(), "csrf_token": secret()}),
            ),
        ),
        ("LogoutForm", object(json!({"csrf_token": secret()}))),
        ("User", object(json!({"id": text(), "username": text(), "role": role(), "created_at": time()}))),
        (
            "NewUser",
            partly(
                &["username", "password"],
                json!({
                    "username": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"},
                    "password": secret(), "role": {"enum": ["viewer", "admin", "system_admin"], "default": "admin"},
                }),
            ),
        ),
        ("SetRole", object(json!({"role": role()}))),
        ("ChangePassword", object(json!({"current_password": secret(), "new_password": secret()}))),
        ("SetPassword", object(json!({"new_password": secret()}))),
        (
            "NewApiToken",
            partly(
                &["name", "scopes"],
                json!({
                    "name": {"type": "string", "minLength": 1, "maxLength": 64},
                    "scopes": {"type": "array", "minItems": 1, "items": scope()},
                    "expires_at": {
                        "type": ["string", "null"], "format": "date-time",
                        "description": "After 90 days where nothing is said, 366 days from now at most.",
                    },
                }),
            ),
        ),
        ("ApiToken", object(api_token())),
        ("CreatedApiToken", {
            let mut properties = api_token();
            properties["token"] = secret();
            object(properties)
        }),
    ]
}
