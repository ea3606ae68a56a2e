//! The OpenAPI 3.1 document of every route, made from one table and served at `/openapi.json`.
//!
//! A test compares the table with the router in both directions. What lies under `/v2/` is OCI Distribution 1.1 and
//! described there.

mod headers;
mod page;
mod schemas;
mod tags;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};

pub(crate) use page::show as page;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anybody,
    /// A person in a browser that is signed in.
    Browser,
    Viewer,
    Admin,
    SystemAdmin,
    /// A satellite, by its X.509-SVID or by HTTP Basic of its robot.
    Satellite,
    /// A satellite, by its X.509-SVID alone.
    Svid,
    /// HTTP Basic of a person or a robot.
    Account,
}

/// What is answered when all went well.
#[derive(Debug, Clone, Copy)]
enum Gives {
    /// A JSON object of this schema.
    One(&'static str),
    /// A page of these.
    Page(&'static str),
    /// Some of these, and by a cursor those that follow.
    Rows(&'static str),
    /// Plain text.
    Text,
    /// A page for a person.
    Html,
    /// Elsewhere.
    Redirect,
    /// No body.
    Nothing,
}

struct Operation(
    &'static str,
    &'static str,
    &'static str,
    Who,
    Option<&'static str>,
    u16,
    Gives,
    &'static [u16],
);

/// Method, path, what it does, who may, body, status, answer, and how it can fail besides the usual.
#[rustfmt::skip]
const OPERATIONS: &[Operation] = {
    use Gives::{Html, Nothing, One, Page, Redirect, Rows, Text};
    use Who::{Account, Admin, Anybody, Browser, Satellite, Svid, SystemAdmin, Viewer};
    &[
        Operation("get", "/ping", "Whether the process answers", Anybody, None, 200, Text, &[]),
        Operation("get", "/health", "Whether process and database answer", Anybody, None, 200, One("Health"), &[503]),
        Operation("get", "/health/ready", "Whether requests may be sent here, and how far publishing is behind", Anybody, None, 200, One("Readiness"), &[503]),
        Operation("get", "/openapi.json", "This document", Anybody, None, 200, One("Empty"), &[]),
        Operation("get", "/docs", "This document as a page, for people to read", Anybody, None, 200, Html, &[]),
        Operation("post", "/login", "A session for a name and a password", Anybody, Some("LoginRequest"), 200, One("LoginAnswer"), &[400, 401, 413, 415, 429]),
        Operation("post", "/api/logout", "Ends the session that asks", Viewer, None, 204, Nothing, &[]),
        Operation("get", "/auth/oidc", "The identity provider whose people log in here", Anybody, None, 200, One("IdentityProvider"), &[404]),
        Operation("get", "/auth/oidc/login", "Sends a browser to the identity provider; a command line says where it listens", Anybody, None, 303, Redirect, &[400, 404, 429, 503]),
        Operation("get", "/auth/oidc/callback", "The identity provider's answer: sets the cookie of a session, or leads back to the command line with a one-time code", Anybody, None, 303, Redirect, &[400, 403, 404, 429, 503]),
        Operation("post", "/auth/oidc/token", "A session for a command line's one-time code, good for 60 seconds", Anybody, Some("LoginCode"), 200, One("SignedIn"), &[400, 401, 404, 413, 415, 429]),
        Operation("get", "/auth/session", "Who asks, and the token that changes by cookie need", Viewer, None, 200, One("OwnSession"), &[]),
        Operation("get", "/auth/signed-in", "Who is signed in, for a person", Browser, None, 200, Html, &[]),
        Operation("post", "/auth/logout", "Ends the browser's session", Browser, Some("LogoutForm"), 200, Html, &[413]),
        Operation("get", "/api/users", "Accounts, by name", Admin, None, 200, Page("User"), &[]),
        Operation("post", "/api/users", "Makes an account", SystemAdmin, Some("NewUser"), 201, One("User"), &[400, 409, 413, 415]),
        Operation("get", "/api/users/{user}", "An account", Admin, None, 200, One("User"), &[404]),
        Operation("patch", "/api/users/{user}", "Gives an account another role, from its next request on; not the last system_admin", SystemAdmin, Some("SetRole"), 200, One("User"), &[400, 404, 409, 413, 415]),
        Operation("delete", "/api/users/{user}", "Deletes an account; not oneself, not the last system_admin", SystemAdmin, None, 204, Nothing, &[404, 409]),
        Operation("patch", "/api/users/password", "Changes one's own password; one's sessions end, one's API tokens stay", Viewer, Some("ChangePassword"), 204, Nothing, &[400, 413, 415]),
        Operation("patch", "/api/users/{user}/password", "Sets a password; that account's sessions and API tokens end", SystemAdmin, Some("SetPassword"), 204, Nothing, &[400, 404, 413, 415]),
        Operation("get", "/api/tokens", "API tokens, by name: one's own, of a system_admin everybody's; those that ended within a month, too. Not with an API token", Viewer, None, 200, Page("ApiToken"), &[403]),
        Operation("post", "/api/tokens", "Makes an API token for a program; it is shown here only. Not with an API token", Viewer, Some("NewApiToken"), 201, One("CreatedApiToken"), &[400, 403, 409, 413, 415]),
        Operation("delete", "/api/tokens/{token}", "Deletes an API token by its id: one's own, of a system_admin everybody's. Not with an API token", Viewer, None, 204, Nothing, &[403, 404]),
        Operation("get", "/api/audit", "Who changed what, and who was refused: the newest rows first, or those that follow a row", SystemAdmin, None, 200, Rows("AuditEntry"), &[400]),
        Operation("get", "/api/groups", "Groups, by name", Viewer, None, 200, Page("Group"), &[]),
        Operation("post", "/api/groups/sync", "Replaces a group's artifacts; makes the group if it is not there", Admin, Some("GroupState"), 200, One("Group"), &[400, 409, 413, 415]),
        Operation("get", "/api/groups/{group}", "A group, and what its list stands for at this moment", Viewer, None, 200, One("GroupDetail"), &[404]),
        Operation("delete", "/api/groups/{group}", "Deletes a group; its satellites lose it", SystemAdmin, None, 200, One("Empty"), &[404]),
        Operation("get", "/api/groups/{group}/accounts", "How many of a group's satellites have accounts at Harbor that may read what it lists, and who not, and why", Viewer, None, 200, One("GroupAccounts"), &[404]),
        Operation("post", "/api/groups/{group}/replication-secret", "Makes the URL for the group's replication adapter, which is shown here only; the one before is worth nothing from then on", Admin, None, 200, One("ReplicationUrl"), &[404]),
        Operation("delete", "/api/groups/{group}/replication-secret", "Takes the URL of the group's replication adapter away", Admin, None, 200, One("Empty"), &[404]),
        Operation("get", "/api/groups/{group}/revisions", "Changes of a group's list, newest first; the last 100 are kept", Viewer, None, 200, Page("GroupRevision"), &[404]),
        Operation("get", "/api/groups/{group}/revisions/{revision}", "A change of a group's list, with the list that it made", Viewer, None, 200, One("GroupRevisionDetail"), &[400, 404]),
        Operation("post", "/api/groups/{group}/revisions/{revision}/restore", "Gives a group the list of an earlier revision, as a new one", Admin, None, 200, One("GroupRevisionDetail"), &[400, 404, 409]),
        Operation("get", "/api/groups/{group}/rollout", "How far the list that a group published last is at its satellites, by page; progress=failed and the like choose among them", Viewer, None, 200, One("Rollout"), &[400, 404]),
        Operation("get", "/api/groups/{group}/satellites", "Satellites of a group, by name", Viewer, None, 200, Page("Satellite"), &[404]),
        Operation("put", "/api/groups/{group}/selector", "Chooses satellites by their labels, beside those that are in the group by name", Admin, Some("GroupSelector"), 200, One("Group"), &[400, 404, 409, 413, 415]),
        Operation("post", "/api/groups/satellite", "Puts a satellite into a group", Admin, Some("GroupMember"), 200, One("Message"), &[400, 404, 409, 413, 415]),
        Operation("delete", "/api/groups/satellite", "Takes a satellite out of a group", Admin, Some("GroupMember"), 200, One("Message"), &[400, 404, 409, 413, 415]),
        Operation("get", "/api/configs", "Configs, by name", Viewer, None, 200, Page("Config"), &[]),
        Operation("post", "/api/configs", "Makes a config", Admin, Some("NewConfig"), 201, One("Config"), &[400, 409, 413, 415]),
        Operation("get", "/api/configs/{config}", "A config", Viewer, None, 200, One("Config"), &[404]),
        Operation("patch", "/api/configs/{config}", "Applies a merge patch (RFC 7396) to a config's document", Admin, Some("Document"), 200, One("Config"), &[400, 404, 413, 415]),
        Operation("delete", "/api/configs/{config}", "Deletes a config that no satellite has", Admin, None, 200, One("Empty"), &[400, 404]),
        Operation("post", "/api/configs/satellite", "Gives a satellite a config", Admin, Some("ConfigAssignment"), 200, One("Empty"), &[400, 404, 413, 415]),
        Operation("get", "/api/satellites", "Satellites, by name", Viewer, None, 200, Page("Satellite"), &[]),
        Operation("post", "/api/satellites", "Makes a satellite; its one-time token is shown here only", Admin, Some("NewSatellite"), 200, One("NewSatelliteAnswer"), &[400, 404, 409, 413, 415]),
        Operation("get", "/api/satellites/active", "Satellites whose heartbeats come", Viewer, None, 200, Page("Satellite"), &[]),
        Operation("get", "/api/satellites/stale", "Satellites whose heartbeats stay away", Viewer, None, 200, Page("Satellite"), &[]),
        Operation("get", "/api/satellites/{satellite}", "A satellite", Viewer, None, 200, One("Satellite"), &[404]),
        Operation("delete", "/api/satellites/{satellite}", "Deletes a satellite; its credentials end at once, and what does not end is told", Admin, None, 200, One("ShutOut"), &[404]),
        Operation("get", "/api/satellites/{satellite}/accounts", "A satellite's accounts at Harbor, without secrets", Viewer, None, 200, One("SatelliteAccounts"), &[404]),
        Operation("get", "/api/satellites/{satellite}/status", "What a satellite said of itself last; 404 before its first heartbeat", Viewer, None, 200, One("SatelliteStatus"), &[404]),
        Operation("get", "/api/satellites/{satellite}/images", "Images that a satellite holds", Viewer, None, 200, Page("SatelliteImage"), &[404]),
        Operation("get", "/api/satellites/{satellite}/artifacts", "What a satellite shall have, and then what it holds and nobody wants", Viewer, None, 200, Page("SatelliteArtifact"), &[404]),
        Operation("patch", "/api/satellites/{satellite}/labels", "Applies a merge patch (RFC 7396) to a satellite's labels", Admin, Some("LabelsPatch"), 200, One("Satellite"), &[400, 404, 409, 413, 415]),
        Operation("post", "/api/satellites/register", "Gives a satellite an identity; repeating it brings the registration up to date. The join token is shown here only", SystemAdmin, Some("RegisterSatellite"), 200, One("RegisteredSatellite"), &[400, 404, 409, 413, 415, 503]),
        Operation("post", "/api/satellites/{satellite}/revoke", "Refuses a satellite from now on; what does not end is told", Admin, None, 200, One("ShutOut"), &[404]),
        Operation("post", "/api/satellites/{satellite}/enable", "Lets a revoked satellite in again; what it needs for that is shown here only", Admin, None, 200, One("EnabledSatellite"), &[400, 404, 409, 503]),
        Operation("post", "/api/satellites/{satellite}/approve", "Lets a satellite in that introduced itself", Admin, None, 200, One("Empty"), &[404, 409]),
        Operation("get", "/api/spire/status", "Whether identities are SPIFFE's, and whether their maker answers", SystemAdmin, None, 200, One("SpireStatus"), &[]),
        Operation("get", "/api/spire/agents", "Node agents that attested", SystemAdmin, None, 200, One("SpireAgents"), &[400, 503]),
        Operation("post", "/satellites/ztr", "Registers a satellite by its one-time token and a nonce", Anybody, Some("ZtrRequest"), 200, One("StateConfig"), &[400, 401, 403, 409, 413, 415, 429]),
        Operation("get", "/satellites/ztr/{token}", "Registers a satellite by its one-time token: the earlier form, without a nonce", Anybody, None, 200, One("StateConfig"), &[400, 401, 403, 409, 429]),
        Operation("get", "/satellites/spiffe-ztr", "Registers a satellite by its SVID; the answer brings a fresh secret", Svid, None, 200, One("StateConfig"), &[503]),
        Operation("post", "/satellites/sync", "A satellite's heartbeat; with Prefer: wait=N (at most 60 seconds) it is answered when there is news, or then", Satellite, Some("Heartbeat"), 200, One("HeartbeatAnswer"), &[400, 413, 415]),
        Operation("post", "/satellites/credentials", "Fresh credentials of the registry; a secret of its own in use stays good until the new one is used", Satellite, None, 200, One("StateConfig"), &[409, 503]),
        Operation("post", "/satellites/attest", "An SVID of the built-in authority for a one-time join token", Anybody, Some("AttestRequest"), 200, One("SvidAnswer"), &[400, 401, 403, 404, 413, 415, 429]),
        Operation("get", "/satellites/renew", "A nonce for a renewal, good once", Anybody, None, 200, One("RenewalNonce"), &[404, 429]),
        Operation("post", "/satellites/renew", "A new SVID of the built-in authority, vouched for by the key of the last one", Anybody, Some("RenewRequest"), 200, One("SvidAnswer"), &[400, 401, 403, 404, 413, 415, 429]),
        Operation("post", "/hooks/harbor", "A registry's word that something changed in a repository; Authorization holds the webhook's secret", Anybody, Some("WebhookPayload"), 200, One("Empty"), &[400, 401, 413, 415]),
        Operation("post", "/hooks/replication/{secret}", "What a replication adapter pushed, merged into the group of the secret", Anybody, Some("GroupState"), 200, One("Empty"), &[400, 403, 404, 413, 415]),
        Operation("get", "/service/token", "A token for the registry at /v2/", Account, None, 200, One("RegistryToken"), &[400]),
        Operation("post", "/service/token", "A token for the registry at /v2/, in the OAuth2 form", Anybody, Some("TokenForm"), 200, One("RegistryToken"), &[400, 401, 403, 413, 429]),
    ]
};

/// `GET /openapi.json`.
pub(crate) async fn document() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| build().to_string());
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], TEXT.as_str()).into_response()
}

fn build() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let parameters = parameters();
    for operation in OPERATIONS {
        let path = paths.entry(operation.1).or_insert_with(|| json!({}));
        path[operation.0] = describe(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ground Control",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The control plane of Harbor Satellite. The central registry is at /v2/ (OCI Distribution 1.1). \
                            Every answer carries X-Request-ID, taken from the request (1 to 128 of A-Z a-z 0-9 . _ -) or made.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": tags::all(),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "session": {"type": "http", "scheme": "bearer",
                            "description": "The token of POST /login, or an API token (hsgc_...). Its scopes: read, write and admin open what \
                                            viewer, admin and system_admin may, registry:pull and registry:push the registry at /v2/ (as \
                                            the password of HTTP Basic); never more than its owner may at that moment."},
                "basic": {"type": "http", "scheme": "basic", "description": "A name with its password, or with an API token of its own."},
                "cookie": {"type": "apiKey", "in": "cookie", "name": super::browser::SESSION,
                           "description": "Set by a login at /auth/oidc/login."},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token",
                         "description": "Needed beside the cookie for whatever is no GET; GET /auth/session tells it."},
                "svid": {"type": "mutualTLS", "description": "An X.509-SVID of a satellite, on the listener that shows ours."},
            },
            "parameters": parameters,
            "schemas": schemas::all(),
        },
    })
}

/// The parameters that several routes share.
fn parameters() -> Value {
    let mut all = headers::parameters();
    let lists = json!({
                "page": {"name": "page", "in": "query", "schema": {"type": "integer", "minimum": 1, "default": 1}},
                "page_size": {"name": "page_size", "in": "query",
                              "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 100}},
                "label": {"name": "label", "in": "query", "schema": {"type": "string", "maxLength": 4096},
                          "description": "Selector in Kubernetes' syntax (env=prod,tier in (a,b),!old); several have all to be met."},
                "region": {"name": "region", "in": "query", "schema": {"type": "string"}},
                "state": {"name": "state", "in": "query",
                          "schema": {"enum": ["pending", "awaiting_approval", "online", "stale", "revoked"]}},
                "group": {"name": "group", "in": "query", "schema": {"type": "string"}},
                "drift": {"name": "drift", "in": "query", "schema": {"type": "boolean"},
                          "description": "Whether it lacks an artifact that it shall have, or holds one that nobody wants."},
                "progress": {"name": "progress", "in": "query",
                             "schema": {"enum": ["current", "fetching", "failed", "waiting", "unreachable"]}},
    });
    all.extend(lists.as_object().cloned().unwrap_or_default());
    Value::Object(all)
}

fn describe(Operation(method, path, summary, who, body, status, gives, failures): &Operation) -> Value {
    let mut parameters: Vec<Value> = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    if matches!(gives, Gives::Page(_) | Gives::One("Rollout")) {
        parameters.extend(
            ["page", "page_size"].map(|name| json!({"$ref": format!("#/components/parameters/{name}")})),
        );
    }
    if matches!(gives, Gives::Page("Satellite")) {
        for (name, elsewhere) in [
            ("label", ""),
            ("region", ""),
            ("state", "/api/satellites/active /api/satellites/stale"),
            ("group", "/api/groups/{group}/satellites"),
            ("drift", ""),
        ] {
            if !elsewhere.split(' ').any(|list| list == *path) {
                parameters.push(json!({"$ref": format!("#/components/parameters/{name}")}));
            }
        }
    }
    if matches!(gives, Gives::One("Rollout")) {
        parameters.push(json!({"$ref": "#/components/parameters/progress"}));
    }
    if *path == "/service/token" && body.is_none() {
        let field = |name: &str, schema: Value| json!({"name": name, "in": "query", "schema": schema});
        parameters.push(field("service", json!({"const": crate::registry::SERVICE})));
        parameters.push(field("scope", json!({"type": "array", "items": {"type": "string"}})));
    }
    if *path == "/auth/oidc/login" {
        let field = |name: &str, schema: Value| json!({"name": name, "in": "query", "schema": schema});
        parameters.push(field(
            "redirect_uri",
            json!({"type": "string", "pattern": "^http://127\\.0\\.0\\.1:[0-9]{4,5}/callback$"}),
        ));
        parameters.push(field("state", json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{16,128}$"})));
        parameters.push(field("code_challenge", json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"})));
        parameters.push(field("code_challenge_method", json!({"const": "S256"})));
    }
    if *path == "/auth/oidc/callback" {
        for name in ["state", "code", "error", "iss"] {
            parameters.push(json!({"name": name, "in": "query", "schema": {"type": "string"}}));
        }
    }
    if matches!(gives, Gives::Rows(_)) {
        parameters.extend(cursor());
    }
    if *path == "/api/spire/agents" {
        parameters.push(json!({"name": "attestation_type", "in": "query", "schema": {"type": "string"}}));
    }
    let mut responses = Map::new();
    let mut answer = success(*gives);
    let mut shown = headers::of_answer(method, path);
    if !shown.is_empty() {
        if let Some(known) = answer["headers"].as_object() {
            shown.extend(known.clone());
        }
        answer["headers"] = Value::Object(shown);
    }
    responses.insert(status.to_string(), answer);
    let mut special = Vec::new();
    if headers::is_conditional(method, path) {
        parameters.push(json!({"$ref": "#/components/parameters/If-Match"}));
        special.extend([400, 412]);
    }
    if headers::takes_key(method, path) {
        parameters.push(json!({"$ref": "#/components/parameters/Idempotency-Key"}));
        special.extend([400, 409, 422]);
    }
    let usual: &[u16] = match who {
        Who::Anybody => &[],
        Who::Browser => &[401, 403],
        Who::Viewer if *method == "get" => &[401, 429],
        Who::Viewer => &[401, 403, 429],
        Who::Admin | Who::SystemAdmin | Who::Account => &[401, 403, 429],
        Who::Satellite | Who::Svid => &[401, 403],
    };
    let paged: &[u16] = if matches!(gives, Gives::Page(_)) { &[400] } else { &[] };
    for failure in usual.iter().chain(*failures).chain(paged).chain(&special) {
        responses.insert(failure.to_string(), self::failure(path, *failure));
    }
    let mut operation = json!({
        "summary": summary,
        "operationId": format!("{method}{}", path.replace(['/', '.'], "_").replace(['{', '}'], "")),
        "responses": responses,
    });
    if let Some(tag) = tags::of(path) {
        operation["tags"] = json!([tag]);
    }
    if !parameters.is_empty() {
        operation["parameters"] = Value::from(parameters);
    }
    if let Some(schema) = body {
        let kind = if matches!(*path, "/service/token" | "/auth/logout") {
            "application/x-www-form-urlencoded"
        } else {
            "application/json"
        };
        operation["requestBody"] =
            json!({"required": true, "content": {kind: {"schema": reference(schema)}}});
    }
    match who {
        Who::Anybody => operation["security"] = json!([]),
        Who::Browser => operation["security"] = json!([{"cookie": []}]),
        Who::Satellite => operation["security"] = json!([{"svid": []}, {"basic": []}]),
        Who::Svid => operation["security"] = json!([{"svid": []}]),
        Who::Account => operation["security"] = json!([{"basic": []}]),
        Who::Viewer | Who::Admin | Who::SystemAdmin => {
            let by_cookie =
                if *method == "get" { json!({"cookie": []}) } else { json!({"cookie": [], "csrf": []}) };
            operation["security"] = json!([{"session": []}, {"basic": []}, by_cookie]);
            let role = match who {
                Who::Viewer => "viewer",
                Who::Admin => "admin",
                _ => "system_admin",
            };
            operation["description"] = Value::from(format!("Needs the role {role}."));
            operation["x-role"] = Value::from(role);
        }
    }
    operation
}

/// The parameters of `GET /api/audit`.
fn cursor() -> Vec<Value> {
    let field = |name: &str, schema: Value, what: &str| json!({"name": name, "in": "query", "schema": schema, "description": what});
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer", "minimum": 0}));
    let time = json!({"type": "string", "format": "date-time"});
    vec![
        field("actor", text.clone(), "Name of the actor."),
        field("action", text.clone(), "What was done, as group.synced."),
        field("subject", text, "To what, as satellite/edge-01."),
        field("since", time.clone(), "From this moment on."),
        field("until", time, "Before this moment."),
        field("before", number.clone(), "Rows below this number, the newest first."),
        field("after", number, "Rows above this number, in their order."),
        json!({"$ref": "#/components/parameters/page_size"}),
    ]
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn success(gives: Gives) -> Value {
    match gives {
        Gives::One(schema) => {
            json!({"description": "Done.", "content": {"application/json": {"schema": reference(schema)}}})
        }
        Gives::Page(schema) => json!({
            "description": "One page of the list.",
            "headers": {
                "X-Total-Count": {"schema": {"type": "integer"}, "description": "Length of the whole list."},
                "Link": {"schema": {"type": "string"}, "description": "Pages beside this one (RFC 8288)."},
            },
            "content": {"application/json": {"schema": {"type": "array", "items": reference(schema)}}},
        }),
        Gives::Rows(schema) => json!({
            "description": "Some of the rows.",
            "headers": {"Link": {"schema": {"type": "string"}, "description": "Those that follow (RFC 8288)."}},
            "content": {"application/json": {"schema": {"type": "array", "items": reference(schema)}}},
        }),
        Gives::Text => {
            json!({"description": "Done.", "content": {"text/plain": {"schema": {"type": "string"}}}})
        }
        Gives::Html => {
            json!({"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}})
        }
        Gives::Redirect => json!({
            "description": "Elsewhere.",
            "headers": {"Location": {"schema": {"type": "string", "format": "uri"}}},
        }),
        Gives::Nothing => json!({"description": "Done."}),
    }
}

fn failure(path: &str, status: u16) -> Value {
    if path.starts_with("/auth/") && !matches!(path, "/auth/oidc" | "/auth/oidc/token" | "/auth/session") {
        return json!({"description": "A page that says what is wrong.", "content": {"text/html": {"schema": {"type": "string"}}}});
    }
    let schema = match (path, status) {
        ("/service/token", _) => "RegistryError",
        ("/health", 503) => "Health",
        ("/health/ready", 503) => "Readiness",
        _ => "Error",
    };
    let description = match status {
        400 => "The request is wrong; the message says how.",
        401 => "Wrong or missing credentials.",
        403 => "Known, and not entitled.",
        404 => "It does not exist.",
        409 => "It exists already, or something stands in the way.",
        412 => "It is not as If-Match says; nothing was changed.",
        422 => "The Idempotency-Key was another request's.",
        413 => "The body is too large.",
        415 => "The body is not JSON.",
        429 => "Too many attempts; see Retry-After.",
        _ => "Not at present.",
    };
    json!({"description": description, "content": {"application/json": {"schema": reference(schema)}}})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The paths that the sources of the routers name.
    fn routed() -> BTreeSet<&'static str> {
        [
            include_str!("../api.rs"),
            include_str!("../registry/token.rs"),
            include_str!("../identity/builtin/routes.rs"),
        ]
        .into_iter()
        .flat_map(|source| source.split(".route(").skip(1))
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let documented: BTreeSet<&str> = OPERATIONS.iter().map(|operation| operation.1).collect();
        assert_eq!(documented, routed());
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let document = build();
        let text = document.to_string();
        let used: BTreeSet<&str> =
            text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let defined: BTreeSet<&str> =
            document["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(used, defined);
    }

    /// `openapi.json` beside the crate's manifest is what clients are made from: a change of it is seen in a review.
    /// `UPDATE_OPENAPI=1 cargo test -p ground-control the_committed_document` writes it anew.
    #[test]
    fn the_committed_document_is_the_served_one() {
        let served = serde_json::to_string_pretty(&build()).unwrap() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            use std::io::Write as _;
            std::fs::File::create(path).unwrap().write_all(served.as_bytes()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == served,
            "openapi.json is not what is served, write it anew with UPDATE_OPENAPI=1"
        );
    }

    #[test]
    fn every_path_belongs_somewhere() {
        for Operation(_, path, ..) in OPERATIONS {
            assert!(tags::of(path).is_some(), "{path} has no tag");
        }
    }

    #[test]
    fn operation_ids_are_unique() {
        let document = build();
        let mut ids = BTreeSet::new();
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                assert!(ids.insert(operation["operationId"].to_string()), "{operation}");
            }
        }
        assert_eq!(ids.len(), OPERATIONS.len());
    }
}
