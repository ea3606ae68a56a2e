//! What a refused request was about.

use http::{Method, StatusCode};

use crate::domain::audit::{Action, Actor, ActorKind, Event};

/// Registry clients ask without credentials first, and are told where to get a token: that is no refusal.
fn is_registry(route: &str, path: &str) -> bool {
    path.starts_with("/v2") || route == "/service/token"
}

/// What somebody tried who sent this to the route of this template.
fn attempted(method: &Method, route: &str) -> Action {
    match (method.as_str(), route) {
        ("POST", "/login") => Action::UserLoggedIn,
        ("POST", "/api/users") => Action::UserCreated,
        ("DELETE", "/api/users/{user}") => Action::UserDeleted,
        ("PATCH", "/api/users/password" | "/api/users/{user}/password") => Action::UserPasswordSet,
        ("POST", "/api/groups/sync") => Action::GroupSynced,
        ("DELETE", "/api/groups/{group}") => Action::GroupDeleted,
        ("POST", "/api/groups/{group}/revisions/{revision}/restore") => Action::GroupRestored,
        ("POST", "/api/groups/{group}/replication-secret") => Action::GroupReplicationSecretSet,
        ("DELETE", "/api/groups/{group}/replication-secret") => Action::GroupReplicationSecretRemoved,
        ("POST", "/hooks/replication/{secret}") => Action::GroupReplicated,
        ("PATCH", "/api/users/{user}") => Action::UserRoleSet,
        ("POST", "/api/tokens") => Action::TokenCreated,
        ("DELETE", "/api/tokens/{token}") => Action::TokenDeleted,
        ("PUT", "/api/groups/{group}/selector") => Action::GroupSelectorSet,
        ("POST", "/api/groups/satellite") => Action::SatelliteJoinedGroup,
        ("DELETE", "/api/groups/satellite") => Action::SatelliteLeftGroup,
        ("POST", "/api/configs") => Action::ConfigCreated,
        ("PATCH", "/api/configs/{config}") => Action::ConfigChanged,
        ("DELETE", "/api/configs/{config}") => Action::ConfigDeleted,
        ("POST", "/api/configs/satellite") => Action::SatelliteConfigAssigned,
        ("POST", "/api/satellites") => Action::SatelliteCreated,
        ("DELETE", "/api/satellites/{satellite}") => Action::SatelliteDeleted,
        ("PATCH", "/api/satellites/{satellite}/labels") => Action::SatelliteLabelled,
        ("POST", "/api/satellites/register") => Action::SatelliteRegistered,
        ("POST", "/api/satellites/{satellite}/revoke") => Action::SatelliteRevoked,
        ("POST", "/api/satellites/{satellite}/enable") => Action::SatelliteEnabled,
        ("POST", "/api/satellites/{satellite}/approve") => Action::SatelliteApproved,
        ("POST", "/satellites/ztr") | ("GET", "/satellites/ztr/{token}") => Action::SatelliteClaimed,
        ("GET", "/satellites/spiffe-ztr") | ("POST", "/satellites/credentials") => {
            Action::SatelliteCredentialsIssued
        }
        ("POST", "/satellites/attest") => Action::SatelliteAttested,
        ("POST", "/satellites/renew") => Action::SatelliteRenewed,
        _ => Action::Requested,
    }
}

/// What to write of an answer with this status; `None` where it is no refusal.
///
/// `actor`: who was found to ask, if anybody was. `showed`: whether the request brought credentials at all.
pub(crate) fn refused(
    (method, route, path): (&Method, &str, &str),
    status: StatusCode,
    actor: Option<&Actor>,
    showed: bool,
) -> Option<Event> {
    let action = attempted(method, route);
    let refused = match status {
        StatusCode::UNAUTHORIZED => showed || !is_registry(route, path),
        StatusCode::FORBIDDEN | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => true,
        // A token that nobody knows.
        StatusCode::BAD_REQUEST => matches!(action, Action::SatelliteClaimed | Action::SatelliteAttested),
        _ => false,
    };
    if !refused {
        return None;
    }
    // A path of people's routes names what it is about; others may hold a one-time token, and strangers write what they like.
    let known = actor.is_some_and(|actor| !matches!(actor.kind, ActorKind::Anonymous));
    let subject = match path {
        path if known && path.starts_with("/api/") => path,
        path if path.starts_with("/v2") => "/v2/",
        _ => route,
    };
    let subject = format!("{} {subject}", if is_standard(method) { method.as_str() } else { "other" });
    Some(Event::on(action, &subject).with("status", status.as_u16()))
}

fn is_standard(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        .contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Authentication;

    fn subject(
        request: (&Method, &str, &str),
        status: u16,
        kind: Option<ActorKind>,
        showed: bool,
    ) -> Option<String> {
        let actor = kind.map(|kind| Actor::new(kind, "ann", Authentication::Session));
        let status = StatusCode::from_u16(status).unwrap();
        refused(request, status, actor.as_ref(), showed).map(|event| event.subject)
    }

    #[test]
    fn refusals_are_told_from_other_answers() {
        let group = (&Method::DELETE, "/api/groups/{group}", "/api/groups/web");
        let user = Some(ActorKind::User);
        assert_eq!(subject(group, 403, user, true).unwrap(), "DELETE /api/groups/web");
        assert_eq!(subject(group, 401, None, false).unwrap(), "DELETE /api/groups/{group}");
        for status in [200, 400, 404, 500, 503] {
            assert_eq!(subject(group, status, user, true), None, "{status}");
        }
        let claim = (&Method::GET, "/satellites/ztr/{token}", "/satellites/ztr/0123");
        assert_eq!(
            subject(claim, 400, Some(ActorKind::Satellite), true).unwrap(),
            "GET /satellites/ztr/{token}",
            "no token in it"
        );
        let pull = (&Method::GET, "(no such route)", "/v2/library/nginx/manifests/latest");
        assert_eq!(subject(pull, 401, None, false), None, "the challenge that every client asks for");
        assert_eq!(subject(pull, 401, Some(ActorKind::Anonymous), true).unwrap(), "GET /v2/");
    }
}
