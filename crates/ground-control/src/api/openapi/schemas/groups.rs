//! Of groups and their history.

use serde_json::{Value, json};

use super::{list, maybe, name, number, object, partly, reference, secret, text, texts, time, truth};

/// Every schema by its name.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Artifact",
            partly(
                &["repository"],
                json!({
                    "repository": text(),
                    "tag": {"description": "A list; a single string is read too.", "type": ["array", "string"], "items": text()},
                    "match": reference("Pattern"),
                    "keep": {"type": ["integer", "null"], "minimum": 1, "maximum": 100, "default": 1,
                             "description": "How many of the tags that the rule matches, newest first."},
                    "platforms": {"type": ["array", "null"], "items": text(),
                                  "description": "os/architecture[/variant]; empty: whatever a satellite takes."},
                    "labels": {"type": ["array", "null"], "items": {"type": ["string", "object"]}},
                    "type": {"type": ["string", "null"], "default": "image"},
                    "digest": {"type": ["string", "null"], "description": "Authoritative; where absent, the tag is resolved."},
                    "deleted": {"type": "boolean", "default": false},
                }),
            ),
        ),
        (
            "Pattern",
            json!({
                "type": ["object", "null"], "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
                "description": "A rule in place of tags. The newest are kept: by version, else by the time of the push, else \
                                by that of the image.",
                "properties": {
                    "glob": {"type": "string", "description": "A shell pattern over the whole tag: 1.*"},
                    "semver": {"type": "string", "description": "A requirement in Cargo's syntax: ^1.2. A tag may begin \
                               with v; a pre-release is chosen only where the requirement names one of the same version."},
                },
            }),
        ),
        ("ReplicationUrl", object(json!({"url": secret()}))),
        (
            "GroupDetail",
            json!({"allOf": [reference("Group"), object(json!({
                "resolutions": list("ArtifactResolution"),
            }))]}),
        ),
        (
            "ArtifactResolution",
            object(json!({
                "repository": text(), "tag": maybe("string"), "digest": maybe("string"),
                "match": reference("Pattern"), "keep": maybe("integer"),
                "resolved": {"type": "array", "description": "What satellites are given.", "items": object(json!({
                    "tag": maybe("string"), "digest": text(),
                    "referrers": {"type": ["string", "null"], "description": "Another one where a referrer came or went."},
                }))},
                "resolved_at": maybe("string"),
                "unresolved": {
                    "type": ["object", "null"],
                    "description": "Why nothing is found at this moment: what was found before stays.",
                    "properties": {"reason": text(), "since": time()},
                },
            })),
        ),
        (
            "GroupState",
            partly(
                &["group"],
                json!({
                    "group": name(), "registry": {"type": "string", "description": "Read and ignored."},
                    "artifacts": list("Artifact"),
                }),
            ),
        ),
        (
            "Group",
            object(json!({
                "id": text(), "group_name": text(), "registry_url": text(), "projects": texts(),
                "artifacts": list("Artifact"), "selector": maybe("string"), "created_at": time(), "updated_at": time(),
            })),
        ),
        (
            "GroupDifference",
            object(json!({
                "added": list("Artifact"), "removed": list("Artifact"),
                "changed": {"type": "array", "items": object(json!({
                    "from": reference("Artifact"), "to": reference("Artifact"),
                }))},
                "reordered": {"type": "boolean", "description": "Those that stayed stand in another order."},
            })),
        ),
        (
            "GroupRevision",
            object(json!({
                "number": number(), "author": {"type": "string", "description": "Empty where that was not kept yet."},
                "created_at": time(), "restored_from": maybe("integer"), "added": number(), "removed": number(),
                "changed": number(), "reordered": truth(),
            })),
        ),
        (
            "GroupRevisionDetail",
            json!({"allOf": [reference("GroupRevision"), object(json!({
                "artifacts": list("Artifact"), "difference": reference("GroupDifference"),
            }))]}),
        ),
        (
            "GroupSelector",
            partly(
                &[],
                json!({
                    "selector": {
                        "type": ["string", "null"], "maxLength": 4096,
                        "description": "Kubernetes' syntax, with a label that has to be there; absent or empty: only by name.",
                    },
                }),
            ),
        ),
        ("GroupMember", object(json!({"satellite": text(), "group": text()}))),
        (
            "GroupAccounts",
            object(json!({
                "projects": texts(), "held_back": truth(), "satellites": number(), "ready": number(),
                "waiting": number(), "failed": number(),
                "failures": {"type": "array", "items": object(json!({
                    "satellite": text(), "error": text(), "since": maybe("string"), "attempts": number(),
                    "next_try": maybe("string"),
                }))},
            })),
        ),
        (
            "Rollout",
            object(json!({
                "group_name": text(), "digest": maybe("string"), "published_at": maybe("string"),
                "artifacts": number(),
                "settling": {
                    "type": "boolean", "description": "Whether satellites are still looked at since the list was published.",
                },
                "totals": object(json!({
                    "wanted": number(), "current": number(), "fetching": number(), "failed": number(),
                    "waiting": number(), "unreachable": number(),
                })),
                "satellites": {"type": "array", "items": object(json!({
                    "satellite": text(),
                    "state": {"enum": ["pending", "awaiting_approval", "online", "stale", "revoked"]},
                    "progress": {"enum": ["current", "fetching", "failed", "waiting", "unreachable"]},
                    "reason": maybe("string"), "since": maybe("string"), "bytes": number(),
                    "total_bytes": number(), "last_seen": maybe("string"),
                }))},
            })),
        ),
    ]
}
