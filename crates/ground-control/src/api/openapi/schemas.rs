//! The shapes of bodies and answers, in JSON Schema.

mod groups;
mod machines;
mod people;
mod satellites;
mod server;

use serde_json::{Map, Value, json};

/// An object of these properties, all of them always there in an answer.
fn object(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// An object of which only these properties have to be given.
fn partly(required: &[&str], properties: Value) -> Value {
    json!({"type": "object", "required": required, "properties": properties})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn list(schema: &str) -> Value {
    json!({"type": "array", "items": reference(schema)})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn secret() -> Value {
    json!({"type": "string", "format": "password"})
}

fn number() -> Value {
    json!({"type": "integer"})
}

fn truth() -> Value {
    json!({"type": "boolean"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// What may be absent.
fn maybe(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn texts() -> Value {
    json!({"type": "array", "items": {"type": "string"}})
}

/// 128 random bits of ours.
fn hex() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-fA-F]{32}$"})
}

fn name() -> Value {
    json!({"type": "string", "pattern": "^[a-z0-9]+(?:[._-][a-z0-9]+)*$", "maxLength": 63})
}

fn role() -> Value {
    json!({"enum": ["viewer", "admin", "system_admin"]})
}

fn scope() -> Value {
    json!({"enum": ["read", "write", "admin", "registry:pull", "registry:push"]})
}

fn api_token() -> Value {
    json!({
        "id": text(), "name": text(), "owner": text(), "scopes": {"type": "array", "items": scope()},
        "created_at": time(), "expires_at": time(), "last_used_at": maybe("string"),
    })
}

/// Every schema by its name.
pub(super) fn all() -> Value {
    let parts = [server::all(), people::all(), groups::all(), satellites::all(), machines::all()];
    parts.into_iter().flatten().map(|(name, schema)| (name.to_owned(), schema)).collect::<Map<_, _>>().into()
}
