//! What belongs together, in the order in which it is read.

use serde_json::{Value, json};

/// Name, what is there, and how its paths begin.
const TAGS: &[(&str, &str, &[&str])] = &[
    (
        "Groups",
        "Lists of artifacts, who is given them, their history, and how far they have got.",
        &["/api/groups"],
    ),
    ("Satellites", "Satellites as people make, see, label and shut out.", &["/api/satellites"]),
    ("Configs", "Named configurations of satellites.", &["/api/configs"]),
    (
        "Logging in",
        "Sessions, with a password or by an identity provider.",
        &["/login", "/api/logout", "/auth/"],
    ),
    ("People", "Accounts and their roles.", &["/api/users"]),
    ("API tokens", "What programs show instead of a password.", &["/api/tokens"]),
    ("Audit", "Who changed what, and who was refused.", &["/api/audit"]),
    ("Identities", "SPIFFE identities, and who makes them.", &["/api/spire"]),
    (
        "For satellites",
        "What satellites ask for themselves, by their X.509-SVID or the account that they were given.",
        &["/satellites/"],
    ),
    (
        "For registries",
        "Tokens for the registry at /v2/, and what registries tell.",
        &["/hooks/", "/service/"],
    ),
    (
        "The server itself",
        "Whether it answers, and this description.",
        &["/ping", "/health", "/openapi.json", "/docs"],
    ),
];

/// All of them, as the document lists them.
pub(super) fn all() -> Value {
    TAGS.iter().map(|(name, about, _)| json!({"name": name, "description": about})).collect()
}

/// To which of them a path belongs.
pub(super) fn of(path: &str) -> Option<&'static str> {
    let begins = |start: &&str| {
        path.strip_prefix(*start)
            .is_some_and(|rest| start.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
    };
    TAGS.iter().find(|(.., starts)| starts.iter().any(begins)).map(|(name, ..)| *name)
}
