//! Every route of the API has a command, or a reason why people need none.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use serde_json::Value;

use super::Cli;

/// What Ground Control serves, as it says itself.
const OPENAPI: &str = include_str!("../../../ground-control/openapi.json");

/// Routes and the commands that ask them.
const COMMANDS: [(&str, &str); 50] = [
    ("GET /api/audit", "audit"),
    ("GET /api/configs", "configs list"),
    ("POST /api/configs", "configs create"),
    ("POST /api/configs/satellite", "configs assign"),
    ("DELETE /api/configs/{config}", "configs delete"),
    ("GET /api/configs/{config}", "configs get"),
    ("PATCH /api/configs/{config}", "configs patch"),
    ("GET /api/groups", "groups list"),
    ("DELETE /api/groups/satellite", "groups remove"),
    ("POST /api/groups/satellite", "groups add"),
    ("POST /api/groups/sync", "groups apply"),
    ("DELETE /api/groups/{group}", "groups delete"),
    ("GET /api/groups/{group}", "groups get"),
    ("GET /api/groups/{group}/accounts", "groups accounts"),
    ("DELETE /api/groups/{group}/replication-secret", "groups replication"),
    ("POST /api/groups/{group}/replication-secret", "groups replication"),
    ("GET /api/groups/{group}/revisions", "groups revisions"),
    ("GET /api/groups/{group}/revisions/{revision}", "groups revisions"),
    ("POST /api/groups/{group}/revisions/{revision}/restore", "groups restore"),
    ("GET /api/groups/{group}/rollout", "rollout status"),
    ("GET /api/groups/{group}/satellites", "groups satellites"),
    ("PUT /api/groups/{group}/selector", "groups select"),
    ("POST /api/logout", "logout"),
    ("GET /api/satellites", "satellites list"),
    ("POST /api/satellites", "satellites create"),
    ("GET /api/satellites/active", "satellites list"),
    ("POST /api/satellites/register", "satellites register"),
    ("GET /api/satellites/stale", "satellites list"),
    ("DELETE /api/satellites/{satellite}", "satellites delete"),
    ("GET /api/satellites/{satellite}", "satellites get"),
    ("GET /api/satellites/{satellite}/accounts", "satellites accounts"),
    ("POST /api/satellites/{satellite}/approve", "satellites approve"),
    ("GET /api/satellites/{satellite}/artifacts", "satellites artifacts"),
    ("POST /api/satellites/{satellite}/enable", "satellites enable"),
    ("GET /api/satellites/{satellite}/images", "satellites images"),
    ("PATCH /api/satellites/{satellite}/labels", "satellites label"),
    ("POST /api/satellites/{satellite}/revoke", "satellites revoke"),
    ("GET /api/satellites/{satellite}/status", "satellites status"),
    ("GET /api/spire/agents", "spire agents"),
    ("GET /api/spire/status", "spire status"),
    ("GET /api/tokens", "tokens list"),
    ("POST /api/tokens", "tokens create"),
    ("DELETE /api/tokens/{token}", "tokens delete"),
    ("GET /api/users", "users list"),
    ("POST /api/users", "users create"),
    ("PATCH /api/users/password", "users password"),
    ("DELETE /api/users/{user}", "users delete"),
    ("GET /api/users/{user}", "users get"),
    ("PATCH /api/users/{user}", "users role"),
    ("PATCH /api/users/{user}/password", "users password"),
];

/// Routes outside `/api/` that commands ask, too.
const OTHERS: [(&str, &str); 6] = [
    ("GET /auth/oidc", "login"),
    ("POST /auth/oidc/token", "login"),
    ("GET /auth/session", "whoami"),
    ("GET /health", "status"),
    ("GET /health/ready", "rollout status"),
    ("POST /login", "login"),
];

/// Beginnings of routes that are not for people at a terminal, and whose they are.
const EXEMPT: [(&str, &str); 10] = [
    ("POST /auth/logout", "browsers"),
    ("GET /auth/oidc/callback", "browsers"),
    ("GET /auth/oidc/login", "browsers"),
    ("GET /auth/signed-in", "browsers"),
    ("POST /hooks/", "registries"),
    ("GET /openapi", "makers of clients"),
    ("GET /ping", "probes"),
    ("GET /satellites/", "satellites"),
    ("POST /satellites/", "satellites"),
    ("GET /docs", "browsers"),
];

fn routes() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut routes = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let methods = operations.as_object().unwrap().keys().map(|method| method.to_uppercase());
        let methods =
            methods.filter(|method| ["GET", "PUT", "POST", "PATCH", "DELETE"].contains(&method.as_str()));
        routes.extend(methods.map(|method| format!("{method} {path}")));
    }
    routes
}

#[test]
fn every_route_has_a_command_or_a_reason() {
    let known: BTreeSet<&str> = COMMANDS.iter().chain(&OTHERS).map(|(route, _)| *route).collect();
    let service = |route: &str| route.ends_with(" /service/token");
    let exempt = |route: &str| EXEMPT.iter().any(|(begin, _)| route.starts_with(begin)) || service(route);
    for route in &routes() {
        assert!(
            known.contains(route.as_str()) || exempt(route),
            "{route} has no command: make one, or say here why people at a terminal need none"
        );
    }
    for route in known {
        assert!(routes().contains(route), "{route} is no route any more");
    }
}

#[test]
fn every_command_is_there() {
    let root = Cli::command();
    for (route, words) in COMMANDS.iter().chain(&OTHERS) {
        let mut command = &root;
        for word in words.split(' ') {
            let found = command.find_subcommand(word);
            assert!(found.is_some(), "{route}: there is no command {words}");
            command = found.unwrap();
        }
        assert!(!command.has_subcommands(), "{route}: {words} is no whole command");
    }
}
