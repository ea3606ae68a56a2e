//! Of satellites, their configs and their identities, as people see them.

use serde_json::{Value, json};

use super::{hex, maybe, name, number, object, partly, reference, text, texts, time, truth};

/// Every schema by its name.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    vec![
        (
            "ShutOut",
            json!({
                "type": "object",
                "properties": {"message": {
                    "type": "string", "description": "What still stands open to it; absent where that is nothing.",
                }},
            }),
        ),
        (
            "Document",
            json!({"type": "object", "description": "A satellite's config document, or a merge patch of one."}),
        ),
        (
            "Config",
            object(json!({
                "id": text(), "config_name": text(), "registry_url": text(), "config": reference("Document"),
                "created_at": time(), "updated_at": time(),
            })),
        ),
        (
            "NewConfig",
            partly(
                &["config_name", "config"],
                json!({
                    "config_name": name(), "registry": {"type": ["string", "null"], "description": "Read and ignored."},
                    "config": reference("Document"),
                }),
            ),
        ),
        ("ConfigAssignment", object(json!({"satellite": text(), "config_name": text()}))),
        (
            "Satellite",
            object(json!({
                "id": text(), "name": text(), "region": text(), "spiffe_id": maybe("string"),
                "state": {"enum": ["pending", "awaiting_approval", "online", "stale", "revoked"]},
                "groups": texts(), "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "config_name": maybe("string"), "last_seen": maybe("string"),
                "heartbeat_interval": maybe("string"), "created_at": time(), "updated_at": time(),
            })),
        ),
        (
            "LabelsPatch",
            json!({
                "type": "object", "additionalProperties": {"type": ["string", "null"], "maxLength": 63},
                "description": "A text sets a label, null removes it; keys and values in Kubernetes' syntax, at most 64 labels.",
            }),
        ),
        (
            "NewSatellite",
            partly(
                &["name"],
                json!({
                    "name": name(), "groups": {"type": ["array", "null"], "items": text()},
                    "config_name": {"type": ["string", "null"], "description": "Absent or empty: default."},
                }),
            ),
        ),
        ("NewSatelliteAnswer", object(json!({"token": hex()}))),
        (
            "RegisterSatellite",
            partly(
                &["satellite_name"],
                json!({
                    "satellite_name": name(), "region": name(),
                    "selectors": {
                        "type": "array", "maxItems": 32,
                        "items": {"type": "string", "pattern": "^[^:\\s]+:.+$", "description": "type:value, as unix:uid:0"},
                    },
                    "attestation_method": {"enum": ["join_token", "x509pop", "sshpop"], "default": "join_token"},
                    "ttl_seconds": {
                        "type": ["integer", "null"], "minimum": 1, "maximum": 2_592_000, "default": 600,
                        "description": "Life of the join token.",
                    },
                    "parent_agent_id": {
                        "type": ["string", "null"],
                        "description": "SPIFFE ID of the agent: required with sshpop, found by its certificate with x509pop.",
                    },
                    "groups": {"type": ["array", "null"], "items": text()},
                    "config_name": {"type": ["string", "null"], "description": "Absent or empty: default, or unchanged."},
                }),
            ),
        ),
        (
            "RegisteredSatellite",
            object(json!({
                "satellite": text(), "region": text(), "spiffe_id": text(), "parent_agent_id": text(),
                "join_token": {"type": ["string", "null"], "format": "password"}, "expires_at": maybe("string"),
                "spire_server_address": maybe("string"), "spire_server_port": maybe("integer"),
                "trust_domain": text(), "trust_bundle": {"type": "string", "description": "Certificates, PEM."},
            })),
        ),
        (
            "EnabledSatellite",
            json!({"oneOf": [reference("RegisteredSatellite"), reference("NewSatelliteAnswer")]}),
        ),
        (
            "SpireStatus",
            object(json!({
                "enabled": truth(), "trust_domain": maybe("string"),
                "provider": {"enum": ["sidecar", "static", "builtin", null]}, "connected": truth(),
            })),
        ),
        (
            "SpireAgents",
            object(json!({"agents": {"type": "array", "items": object(json!({
                "spiffe_id": text(), "attestation_type": text(), "selectors": texts(), "expires_at": maybe("string"),
            }))}})),
        ),
        (
            "SatelliteStatus",
            json!({"allOf": [reference("Heartbeat"), object(json!({"received_at": time()}))]}),
        ),
        (
            "SatelliteAccounts",
            object(json!({
                "state": {"enum": ["none", "ready", "preparing", "failed", "removal_pending", "removed"]},
                "error": maybe("string"), "error_since": maybe("string"), "attempts": number(), "next_try": maybe("string"),
                "accounts": {"type": "array", "items": object(json!({
                    "role": {"enum": ["making", "prepared", "current", "retiring", "condemned", "removed"]},
                    "username": maybe("string"), "projects": texts(), "created_at": maybe("string"),
                    "expires_at": maybe("string"), "given_at": maybe("string"), "used_at": maybe("string"),
                }))},
            })),
        ),
        (
            "SatelliteImage",
            object(json!({
                "reference": text(), "digest": maybe("string"), "size_bytes": number(),
            })),
        ),
        (
            "SatelliteArtifact",
            object(json!({
                "group_name": maybe("string"), "repository": text(), "tag": texts(), "digest": maybe("string"),
                "state": {"enum": ["there", "fetching", "failed", "wanted", "unresolved", "undesired"]},
                "bytes": maybe("integer"), "total_bytes": maybe("integer"), "reason": maybe("string"),
                "since": maybe("string"), "attempts": maybe("integer"),
            })),
        ),
    ]
}
