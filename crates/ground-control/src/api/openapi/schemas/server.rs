//! Of every route, of the server itself and of the audit.

use serde_json::{Value, json};

use super::{maybe, number, object, partly, text, time, truth};

/// Every schema by its name.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("Error", object(json!({"message": text(), "code": number()}))),
        ("Empty", json!({"type": "object"})),
        ("Message", object(json!({"message": text()}))),
        (
            "AuditEntry",
            object(json!({
                "sequence": {"type": "integer", "description": "Later rows have greater numbers; none is seen before a smaller one."},
                "at": time(), "action": text(), "outcome": {"enum": ["done", "refused"]}, "subject": text(),
                "actor_kind": {"enum": ["user", "token", "satellite", "hook", "system", "anonymous"]}, "actor": text(),
                "source": text(), "request_id": text(), "authenticated_by": text(),
                "count": {"type": "integer", "description": "How many equal refusals it stands for."},
                "details": {"type": "object"},
            })),
        ),
        ("Health", object(json!({"status": {"enum": ["healthy", "unhealthy"]}}))),
        (
            "Readiness",
            object(json!({
                "status": {"enum": ["ready", "not ready", "draining"]},
                "database": object(json!({"kind": {"enum": ["sqlite", "postgresql"]}, "ok": truth()})),
                "registry": partly(&["ok", "backend", "revocation"], json!({
                    "ok": truth(), "backend": {"enum": ["builtin", "oci"]},
                    "revocation": {
                        "enum": ["immediate", "ground-control-only"],
                        "description": "What a revocation ends: a shared pull account of the registry goes on.",
                    },
                    "url": text(), "asked_at": maybe("string"),
                    "webhooks": {
                        "type": ["object", "null"],
                        "description": "Projects by how Harbor's webhook policy stands; where it is forbidden they are swept.",
                        "properties": {"kept": number(), "forbidden": number(), "pending": number(),
                                       "reason": maybe("string"), "checked_at": maybe("string")},
                    },
                })),
                "publisher": object(json!({
                    "ok": truth(), "waiting": number(), "failing": number(), "oldest": maybe("string"),
                })),
                "identity": {
                    "type": ["object", "null"], "description": "Our own SVID, where identities are SPIFFE's.",
                    "properties": {"ok": truth(), "spiffe_id": maybe("string"), "expires_at": maybe("string")},
                },
                "audit": object(json!({"sinks": {"type": "array", "items": object(json!({
                    "sink": {"enum": ["syslog", "otlp"]}, "ok": truth(), "lag": number(), "lost": number(),
                }))}})),
                "version": text(),
            })),
        ),
    ]
}
