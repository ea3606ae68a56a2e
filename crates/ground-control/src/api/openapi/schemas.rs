//! The shapes of bodies and answers, in JSON Schema.

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

/// Every schema by its name.
pub(super) fn all() -> Value {
    let text = || json!({"type": "string"});
    let secret = || json!({"type": "string", "format": "password"});
    let number = || json!({"type": "integer"});
    let truth = || json!({"type": "boolean"});
    let time = || json!({"type": "string", "format": "date-time"});
    let maybe = |kind: &str| json!({"type": [kind, "null"]});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let hex = || json!({"type": "string", "pattern": "^[0-9a-fA-F]{32}$"});
    let name = || json!({"type": "string", "pattern": "^[a-z0-9]+(?:[._-][a-z0-9]+)*$", "maxLength": 63});
    let role = || json!({"enum": ["viewer", "admin", "system_admin"]});
    let scope = || json!({"enum": ["read", "write", "admin", "registry:pull", "registry:push"]});
    let api_token = || {
        json!({
            "id": text(), "name": text(), "owner": text(), "scopes": {"type": "array", "items": scope()},
            "created_at": time(), "expires_at": time(), "last_used_at": maybe("string"),
        })
    };
    let schemas = [
        ("Error", object(json!({"message": text(), "code": number()}))),
        ("Empty", json!({"type": "object"})),
        (
            "ShutOut",
            json!({
                "type": "object",
                "properties": {"message": {
                    "type": "string", "description": "What still stands open to it; absent where that is nothing.",
                }},
            }),
        ),
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
            "WebhookPayload",
            json!({
                "type": "object", "description": "Harbor's default format; a hint, and no more than that.",
                "properties": {"type": text(), "event_data": {"type": "object", "properties": {
                    "repository": {"type": "object", "properties": {"repo_full_name": text()}},
                }}},
            }),
        ),
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
        ("AttestRequest", object(json!({"join_token": secret(), "csr": text()}))),
        ("RenewalNonce", object(json!({"nonce": text(), "expires_at": time()}))),
        (
            "RenewRequest",
            object(json!({"csr": text(), "spiffe_id": text(), "nonce": text(), "signature": text()})),
        ),
        ("SvidAnswer", object(json!({"svid": text(), "trust_bundle": text(), "expires_at": time()}))),
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
            "SatelliteImage",
            object(json!({
                "reference": text(), "digest": maybe("string"), "size_bytes": number(),
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
        (
            "SatelliteArtifact",
            object(json!({
                "group_name": maybe("string"), "repository": text(), "tag": texts(), "digest": maybe("string"),
                "state": {"enum": ["there", "fetching", "failed", "wanted", "unresolved", "undesired"]},
                "bytes": maybe("integer"), "total_bytes": maybe("integer"), "reason": maybe("string"),
                "since": maybe("string"), "attempts": maybe("integer"),
            })),
        ),
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
    ];
    schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect::<Map<_, _>>().into()
}
