//! Headers that routes of a kind have in common: entity tags and changes that depend on them, and keys of requests that
//! make something once.

use serde_json::{Map, Value, json};

use crate::api::idempotency;

/// Changes that can depend on a version (`If-Match`): of something that `GET` shows with its entity tag.
const CONDITIONAL: &[(&str, &str)] = &[
    ("delete", "/api/configs/{config}"),
    ("delete", "/api/groups/satellite"),
    ("delete", "/api/groups/{group}"),
    ("delete", "/api/groups/{group}/replication-secret"),
    ("delete", "/api/satellites/{satellite}"),
    ("delete", "/api/users/{user}"),
    ("patch", "/api/configs/{config}"),
    ("patch", "/api/satellites/{satellite}/labels"),
    ("patch", "/api/users/password"),
    ("patch", "/api/users/{user}"),
    ("patch", "/api/users/{user}/password"),
    ("post", "/api/configs/satellite"),
    ("post", "/api/groups/satellite"),
    ("post", "/api/groups/sync"),
    ("post", "/api/groups/{group}/replication-secret"),
    ("post", "/api/groups/{group}/revisions/{revision}/restore"),
    ("post", "/api/satellites/register"),
    ("post", "/api/satellites/{satellite}/approve"),
    ("post", "/api/satellites/{satellite}/enable"),
    ("post", "/api/satellites/{satellite}/revoke"),
    ("put", "/api/groups/{group}/selector"),
];

/// Answers that show something with its entity tag.
const TAGGED: &[(&str, &str)] = &[
    ("get", "/api/configs/{config}"),
    ("get", "/api/groups/{group}"),
    ("get", "/api/satellites/{satellite}"),
    ("get", "/api/users/{user}"),
    ("patch", "/api/configs/{config}"),
    ("patch", "/api/satellites/{satellite}/labels"),
    ("post", "/api/configs"),
    ("post", "/api/groups/sync"),
    ("put", "/api/groups/{group}/selector"),
];

/// Whether a route takes `If-Match`.
pub(super) fn is_conditional(method: &str, path: &str) -> bool {
    CONDITIONAL.contains(&(method, path))
}

/// The parameters that such headers are.
pub(super) fn parameters() -> Map<String, Value> {
    let all = json!({
        "If-Match": {
            "name": "If-Match", "in": "header", "schema": {"type": "string"}, "example": "\"8f14e45fceea167a5a36dedd4bea2543\"",
            "description": "Change it only if it still is in one of these versions, as ETag told them (RFC 9110 section 13.1.1): of \
                            the group, config, satellite or account that the request changes. * stands for any: it has to be there. \
                            Anything else is 412, and nothing is changed. Weak tags never match.",
        },
        "Idempotency-Key": {
            "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 130},
            "example": "\"8e03978e-40d5-43dd-bc93-6894a57f9324\"",
            "description": "A text of 1 to 128 characters that no other request of the caller has (draft-ietf-httpapi-idempotency-key-header). \
                            The same request with the same key is answered again and makes nothing a second time: for 24 hours, and \
                            for 10 minutes where the answer holds a secret. After that, or where the answer got lost, and while the \
                            first is under way (with Retry-After), it is 409; another request with the key is 422. What was refused \
                            forgets its key.",
        },
    });
    all.as_object().cloned().unwrap_or_default()
}

/// The headers of an answer of this route.
pub(super) fn of_answer(method: &str, path: &str) -> Map<String, Value> {
    let mut headers = Map::new();
    if TAGGED.contains(&(method, path)) {
        headers.insert(
            "ETag".to_owned(),
            json!({
                "schema": {"type": "string"},
                "description": "The version of what people have set of it, for If-Match. What a satellite reports and what the \
                                registry answers does not change it.",
            }),
        );
    }
    if takes_key(method, path) {
        headers.insert(
            "Idempotency-Replayed".to_owned(),
            json!({
                "schema": {"const": "true"},
                "description": "There where the answer was given before, to the same Idempotency-Key.",
            }),
        );
    }
    headers
}

/// Whether a route takes `Idempotency-Key`.
pub(super) fn takes_key(method: &str, path: &str) -> bool {
    idempotency::takes_key(method, path).is_some()
}
