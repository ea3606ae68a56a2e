//! Of what satellites and registries ask for.

use serde_json::{Value, json};

use super::{hex, maybe, number, object, partly, secret, text, texts, time};

/// Every schema by its name.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    vec![
        (
            "WebhookPayload",
            json!({
                "type": "object", "description": "Harbor's default format; a hint, and no more than that.",
                "properties": {"type": text(), "event_data": {"type": "object", "properties": {
                    "repository": {"type": "object", "properties": {"repo_full_name": text()}},
                }}},
            }),
        ),
        ("AttestRequest", object(json!({"join_token": secret(), "csr": text()}))),
        ("RenewalNonce", object(json!({"nonce": text(), "expires_at": time()}))),
        (
            "RenewRequest",
            object(json!({"csr": text(), "spiffe_id": text(), "nonce": text(), "signature": text()})),
        ),
        ("SvidAnswer", object(json!({"svid": text(), "trust_bundle": text(), "expires_at": time()}))),
        ("ZtrRequest", object(json!({"token": hex(), "nonce": hex()}))),
        (
            "StateConfig",
            object(json!({
                "auth": object(json!({"url": text(), "username": text(), "password": secret()})), "state": text(),
            })),
        ),
        (
            "Heartbeat",
            partly(
                &[],
                json!({
                    "name": text(), "activity": text(), "state_report_interval": text(), "latest_state_digest": text(),
                    "latest_config_digest": text(), "memory_used_bytes": number(), "storage_used_bytes": number(),
                    "cpu_percent": {"type": "number"}, "request_created_time": maybe("string"),
                    "last_sync_duration_ms": number(), "image_count": number(),
                    "cached_images": {"type": ["array", "null"], "items": object(json!({
                        "reference": text(), "size_bytes": number(),
                    }))},
                    "inventory_digest": {
                        "type": "string", "description": "Of all images: where it has not changed, they need not be listed.",
                    },
                    "registry_username": text(), "generation": number(),
                    "fetching": {"type": "array", "items": {"type": "object"}},
                    "failed": {"type": "array", "items": {"type": "object"}},
                    "conflicts": {"type": "array", "items": {"type": "object"}},
                    "config_refusals": texts(), "document_errors": {"type": "array", "items": {"type": "object"}},
                    "nodes": {
                        "type": "array",
                        "description": "Of the site's cluster: what each node's runtime has of what the site holds; at most 512. Where nodes_digest has not changed, they need not be listed.",
                        "items": partly(&["name", "present"], json!({
                            "name": text(), "runtime": text(), "runtime_version": text(), "agent_version": text(),
                            "present": number(), "missing": number(), "failed": number(),
                            "failures": {"type": "array", "items": object(json!({"reference": text(), "reason": text()}))},
                            "problem": maybe("string"), "silent_since": maybe("string"),
                        })),
                    },
                    "nodes_digest": {"type": "string", "description": "Of all nodes, as the satellite names their list."},
                    "version": text(),
                }),
            ),
        ),
        (
            "HeartbeatAnswer",
            partly(
                &[],
                json!({
                    "events": texts(),
                    "desired": {
                        "type": "object",
                        "description": "Manifest digests of what is published for the satellite; absent before anything is.",
                        "properties": {
                            "generation": number(), "state": maybe("string"), "config": maybe("string"),
                            "groups": {"type": "object", "additionalProperties": {"type": "string"}},
                        },
                    },
                    "inventory_digest": {
                        "type": "string",
                        "description": "Of the list of images that is kept, for who sends one: where it is another, the list is to be sent.",
                    },
                    "nodes_digest": {
                        "type": "string",
                        "description": "Of the list of nodes that is kept, for who sends one: where it is another, the list is to be sent.",
                    },
                }),
            ),
        ),
        (
            "TokenForm",
            partly(
                &["grant_type", "username", "password"],
                json!({
                    "grant_type": {"const": "password"}, "username": text(), "password": secret(),
                    "service": {"const": "ground-control"}, "scope": text(), "client_id": text(),
                }),
            ),
        ),
        (
            "RegistryToken",
            object(json!({
                "token": secret(), "access_token": secret(), "expires_in": number(), "issued_at": time(),
            })),
        ),
        (
            "RegistryError",
            object(json!({
                "errors": {"type": "array", "items": object(json!({"code": text(), "message": text()}))},
            })),
        ),
    ]
}
