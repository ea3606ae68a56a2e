//! Every route with everybody who may come: the status, or no handshake at all.

use std::collections::BTreeSet;
use std::time::Duration;

use ground_control::domain::audit::Actor;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testbed::authority::{Authority, IssuedSvid};

use crate::spiffe::{Fleet, Peer, TRUST_DOMAIN, peer};
use crate::support::{ADMIN_PASSWORD, As};

/// Who comes with a connection that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Anonymous,
    Viewer,
    Admin,
    SystemAdmin,
    Robot,
    Satellite,
    OtherSatellite,
    Revoked,
    Deleted,
    /// Its SVID ended while the connection stood.
    Expired,
}

use Who::{
    Admin, Anonymous, Deleted, Expired, OtherSatellite, Revoked, Robot, Satellite, SystemAdmin, Viewer,
};

const ALL: [Who; 10] =
    [Anonymous, Viewer, Admin, SystemAdmin, Robot, Satellite, OtherSatellite, Revoked, Deleted, Expired];

/// A request of a route, harmless however often it is sent, and what everybody gets for it, in the order of [`ALL`].
struct Row {
    method: &'static str,
    /// As the document has it.
    route: &'static str,
    path: &'static str,
    body: Option<Value>,
    expected: [u16; 10],
}

/// Everybody gets the same.
fn open(status: u16) -> [u16; 10] {
    [status; 10]
}

/// People of this role and above get this; the certificate of a satellite opens nothing.
fn people(least: Who, status: u16) -> [u16; 10] {
    let role = |who: Who| {
        let rank = |who: Who| [Viewer, Admin, SystemAdmin].iter().position(|role| *role == who);
        if rank(who) >= rank(least) { status } else { 403 }
    };
    [401, role(Viewer), role(Admin), role(SystemAdmin), 401, 401, 401, 401, 401, 401]
}

/// Satellites get this, by certificate and (`robot`) by the robot's secret.
fn satellites(robot: u16, status: u16) -> [u16; 10] {
    [401, 401, 401, 401, robot, status, status, 403, 401, 401]
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let empty = || Some(json!({}));
    let member = || Some(json!({"satellite": "nobody", "group": "none"}));
    let row = |method, route, path, body, expected| Row { method, route, path, body, expected };
    vec![
        row("get", "/ping", "/ping", None, open(200)),
        row("get", "/health", "/health", None, open(200)),
        row("get", "/health/ready", "/health/ready", None, open(200)),
        row("get", "/openapi.json", "/openapi.json", None, open(200)),
        row("get", "/docs", "/docs", None, open(200)),
        row("post", "/login", "/login", empty(), open(400)),
        row("post", "/api/logout", "/api/logout", None, people(Viewer, 204)),
        // There is no identity provider here, and nobody comes with a cookie; see below.
        row("get", "/auth/oidc", "/auth/oidc", None, open(404)),
        row("get", "/auth/oidc/login", "/auth/oidc/login", None, open(404)),
        row("get", "/auth/oidc/callback", "/auth/oidc/callback", None, open(404)),
        row("post", "/auth/oidc/token", "/auth/oidc/token", empty(), open(404)),
        row("get", "/auth/session", "/auth/session", None, people(Viewer, 200)),
        row("get", "/auth/signed-in", "/auth/signed-in", None, open(401)),
        row("post", "/auth/logout", "/auth/logout", None, open(401)),
        row("get", "/api/users", "/api/users", None, people(Admin, 200)),
        row("post", "/api/users", "/api/users", empty(), people(SystemAdmin, 400)),
        row("get", "/api/users/{user}", "/api/users/admin", None, people(Admin, 200)),
        row("patch", "/api/users/{user}", "/api/users/nobody", empty(), people(SystemAdmin, 400)),
        row("delete", "/api/users/{user}", "/api/users/nobody", None, people(SystemAdmin, 404)),
        row("patch", "/api/users/password", "/api/users/password", empty(), people(Viewer, 400)),
        row("patch", "/api/users/{user}/password", "/api/users/nobody/password", empty(), people(SystemAdmin, 400)),
        row("get", "/api/tokens", "/api/tokens", None, people(Viewer, 200)),
        row("post", "/api/tokens", "/api/tokens", empty(), people(Viewer, 400)),
        row("delete", "/api/tokens/{token}", "/api/tokens/nothing", None, people(Viewer, 404)),
        row("get", "/api/audit", "/api/audit", None, people(SystemAdmin, 200)),
        row("get", "/api/groups", "/api/groups", None, people(Viewer, 200)),
        row("post", "/api/groups/sync", "/api/groups/sync", empty(), people(Admin, 400)),
        row("get", "/api/groups/{group}", "/api/groups/none", None, people(Viewer, 404)),
        row("delete", "/api/groups/{group}", "/api/groups/none", None, people(SystemAdmin, 404)),
        row("get", "/api/groups/{group}/accounts", "/api/groups/none/accounts", None, people(Viewer, 404)),
        row("post", "/api/groups/{group}/replication-secret", "/api/groups/none/replication-secret", None, people(Admin, 404)),
        row("delete", "/api/groups/{group}/replication-secret", "/api/groups/none/replication-secret", None, people(Admin, 404)),
        row("get", "/api/groups/{group}/revisions", "/api/groups/none/revisions", None, people(Viewer, 404)),
        row("get", "/api/groups/{group}/revisions/{revision}", "/api/groups/none/revisions/1", None, people(Viewer, 404)),
        row("post", "/api/groups/{group}/revisions/{revision}/restore", "/api/groups/none/revisions/1/restore", None, people(Admin, 404)),
        row("get", "/api/groups/{group}/satellites", "/api/groups/none/satellites", None, people(Viewer, 404)),
        row("get", "/api/groups/{group}/rollout", "/api/groups/none/rollout", None, people(Viewer, 404)),
        row("put", "/api/groups/{group}/selector", "/api/groups/none/selector", empty(), people(Admin, 404)),
        row("post", "/api/groups/satellite", "/api/groups/satellite", member(), people(Admin, 404)),
        row("delete", "/api/groups/satellite", "/api/groups/satellite", member(), people(Admin, 404)),
        row("get", "/api/configs", "/api/configs", None, people(Viewer, 200)),
        row("post", "/api/configs", "/api/configs", empty(), people(Admin, 400)),
        row("get", "/api/configs/{config}", "/api/configs/default", None, people(Viewer, 200)),
        row("patch", "/api/configs/{config}", "/api/configs/none", empty(), people(Admin, 404)),
        row("delete", "/api/configs/{config}", "/api/configs/none", None, people(Admin, 404)),
        row("post", "/api/configs/satellite", "/api/configs/satellite", empty(), people(Admin, 400)),
        row("get", "/api/satellites", "/api/satellites", None, people(Viewer, 200)),
        row("post", "/api/satellites", "/api/satellites", empty(), people(Admin, 400)),
        row("get", "/api/satellites/active", "/api/satellites/active", None, people(Viewer, 200)),
        row("get", "/api/satellites/stale", "/api/satellites/stale", None, people(Viewer, 200)),
        row("get", "/api/satellites/{satellite}", "/api/satellites/edge-01", None, people(Viewer, 200)),
        row("delete", "/api/satellites/{satellite}", "/api/satellites/nobody", None, people(Admin, 404)),
        row("get", "/api/satellites/{satellite}/accounts", "/api/satellites/edge-01/accounts", None, people(Viewer, 200)),
        row("get", "/api/satellites/{satellite}/status", "/api/satellites/nobody/status", None, people(Viewer, 404)),
        row("get", "/api/satellites/{satellite}/images", "/api/satellites/edge-01/images", None, people(Viewer, 200)),
        row("get", "/api/satellites/{satellite}/artifacts", "/api/satellites/edge-01/artifacts", None, people(Viewer, 200)),
        row("patch", "/api/satellites/{satellite}/labels", "/api/satellites/nobody/labels", empty(), people(Admin, 404)),
        row("post", "/api/satellites/register", "/api/satellites/register", empty(), people(SystemAdmin, 400)),
        row("post", "/api/satellites/{satellite}/revoke", "/api/satellites/nobody/revoke", None, people(Admin, 404)),
        row("post", "/api/satellites/{satellite}/enable", "/api/satellites/edge-01/enable", None, people(Admin, 409)),
        row("post", "/api/satellites/{satellite}/approve", "/api/satellites/edge-01/approve", None, people(Admin, 409)),
        row("get", "/api/spire/status", "/api/spire/status", None, people(SystemAdmin, 200)),
        // Nobody here makes identities.
        row("get", "/api/spire/agents", "/api/spire/agents", None, people(SystemAdmin, 503)),
        row("post", "/satellites/ztr", "/satellites/ztr", empty(), open(400)),
        row("get", "/satellites/ztr/{token}", "/satellites/ztr/0", None, open(400)),
        row("get", "/satellites/spiffe-ztr", "/satellites/spiffe-ztr", None, satellites(401, 200)),
        row("post", "/satellites/sync", "/satellites/sync", empty(), satellites(200, 200)),
        row("post", "/satellites/credentials", "/satellites/credentials", None, satellites(200, 200)),
        // There is no built-in authority here.
        row("post", "/satellites/attest", "/satellites/attest", Some(json!({"join_token": "0", "csr": ""})), open(404)),
        row("get", "/satellites/renew", "/satellites/renew", None, open(404)),
        row("post", "/satellites/renew", "/satellites/renew", Some(json!({"csr": "", "spiffe_id": "", "nonce": "", "signature": ""})), open(404)),
        // A secret of their own opens these, and nobody else's.
        row("post", "/hooks/harbor", "/hooks/harbor", empty(), open(401)),
        row("post", "/hooks/replication/{secret}", "/hooks/replication/0", empty(), open(404)),
        // The registry knows people and robots by name and secret alone.
        row("get", "/service/token", "/service/token", None, [401, 200, 200, 200, 200, 401, 401, 401, 401, 401]),
        row("post", "/service/token", "/service/token", empty(), open(400)),
        row("get", "/v2/", "/v2/", None, [401, 200, 200, 200, 200, 401, 401, 401, 401, 401]),
        row("get", "/v2/", "/v2/library/nginx/tags/list", None, [401, 404, 404, 404, 403, 401, 401, 401, 401, 401]),
    ]
}

/// Method (in small letters) and template of every route of the document.
pub(crate) fn routes() -> BTreeSet<(String, String)> {
    rows()
        .into_iter()
        .filter(|row| row.route != "/v2/")
        .map(|row| (row.method.to_owned(), row.route.to_owned()))
        .collect()
}

/// A harmless request of every route: its method, path and body.
pub(crate) fn requests() -> Vec<(String, &'static str, Option<Value>)> {
    rows().into_iter().map(|row| (row.method.to_uppercase(), row.path, row.body)).collect()
}

/// Those who may come, with their connections.
struct Visitors {
    /// Shows no certificate.
    plain: Peer,
    robot: (String, String),
    satellite: Peer,
    other: Peer,
    revoked: Peer,
    deleted: Peer,
    expired: Peer,
}

impl Visitors {
    fn of(&self, who: Who) -> (&Peer, As<'_>) {
        match who {
            Anonymous => (&self.plain, As::Nobody),
            Viewer => (&self.plain, As::Basic("vera", ADMIN_PASSWORD)),
            Admin => (&self.plain, As::Basic("adam", ADMIN_PASSWORD)),
            SystemAdmin => (&self.plain, As::Basic("admin", ADMIN_PASSWORD)),
            Robot => (&self.plain, As::Basic(&self.robot.0, &self.robot.1)),
            Satellite => (&self.satellite, As::Nobody),
            OtherSatellite => (&self.other, As::Nobody),
            Revoked => (&self.revoked, As::Nobody),
            Deleted => (&self.deleted, As::Nobody),
            Expired => (&self.expired, As::Nobody),
        }
    }
}

async fn arrive(fleet: &Fleet) -> Visitors {
    let server = &fleet.server;
    server.person("vera", "viewer").await;
    server.person("adam", "admin").await;
    // Its robot is another satellite's than those that show certificates: its secret is to stay what it is.
    let robot = fleet.introduce("edge-06").await;
    let known = async |name: &str, svid: IssuedSvid| {
        let peer = fleet.peer(Some(&svid));
        peer.ask("GET", "/satellites/spiffe-ztr", None).await.expect(200);
        peer.heartbeat().await.expect(200);
        assert_eq!(
            server.admin("GET", &format!("/api/satellites/{name}"), None).await.body["state"],
            "online"
        );
        peer
    };
    let visitors = Visitors {
        plain: fleet.peer(None),
        robot,
        satellite: known("edge-01", fleet.svid("edge-01")).await,
        other: known("edge-02", fleet.svid("edge-02")).await,
        revoked: known("edge-03", fleet.svid("edge-03")).await,
        deleted: known("edge-04", fleet.svid("edge-04")).await,
        expired: known("edge-05", fleet.svid_ending_in("edge-05", 5)).await,
    };
    server.admin("POST", "/api/satellites/edge-03/revoke", None).await.expect(200);
    server.admin("DELETE", "/api/satellites/edge-04", None).await.expect(200);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while visitors.expired.heartbeat().await.status != 401 {
        assert!(tokio::time::Instant::now() < deadline, "an SVID that has ended is good for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    visitors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_tells_everybody_apart() {
    // Wrong passwords are sent all the time here; a lock lasts no longer than the request that found it.
    let fleet = Fleet::start(&[("LOCKOUT_DURATION", "1ms")]).await;
    let visitors = arrive(&fleet).await;
    fleet.server.published().await;
    let mut wrong = Vec::new();
    for row in rows() {
        for (who, expected) in ALL.into_iter().zip(row.expected) {
            let (peer, login) = visitors.of(who);
            let method = row.method.to_uppercase();
            let answer =
                peer.send(login, &method, row.path, row.body.clone()).await.unwrap_or_else(|error| {
                    panic!("{method} {} as {who:?}: {error:?}", row.path);
                });
            if answer.status != expected {
                wrong.push(format!(
                    "{method} {} as {who:?}: {} and not {expected} {}",
                    row.path, answer.status, answer.body
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A token opens what the role of its scope opens, and manages no tokens; one for the registry opens nothing of the API.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_tells_tokens_apart() {
    let fleet = Fleet::start(&[]).await;
    let server = &fleet.server;
    fleet.introduce("edge-01").await;
    server.published().await;
    let plain = fleet.peer(None);
    let mut wrong = Vec::new();
    for (scope, as_who) in [
        ("read", Some(Viewer)),
        ("write", Some(Admin)),
        ("admin", Some(SystemAdmin)),
        ("registry:pull", None),
        ("registry:push", None),
    ] {
        let wish = json!({"name": scope, "scopes": [scope]});
        let made = server.admin("POST", "/api/tokens", Some(wish)).await.expect(201);
        let token = made.body["token"].as_str().unwrap();
        for row in rows() {
            let expected = |who: Who| row.expected[ALL.iter().position(|known| *known == who).unwrap()];
            let expected = match as_who {
                _ if !row.route.starts_with("/api/") && row.route != "/auth/session" => expected(Anonymous),
                Some(_) if row.route.starts_with("/api/tokens") => 403,
                Some(who) => expected(who),
                None => 403,
            };
            let method = row.method.to_uppercase();
            let answer = plain.send(As::Session(token), &method, row.path, row.body.clone()).await.unwrap();
            if answer.status != expected {
                wrong.push(format!(
                    "{method} {} with {scope}: {} and not {expected} {}",
                    row.path, answer.status, answer.body
                ));
            }
        }
        for (path, expected) in [("/v2/", 200), ("/v2/library/nginx/tags/list", 404), ("/service/token", 200)]
        {
            let expected = if as_who.is_some() { 403 } else { expected };
            let answer = plain.send(As::Basic("admin", token), "GET", path, None).await.unwrap();
            assert_eq!(answer.status, expected, "{path} with {scope}");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A session in a browser's cookie is one for people's routes, for changes with its token only, and for nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_opens_what_its_person_may_and_changes_nothing_without_its_token() {
    let fleet = Fleet::start(&[]).await;
    arrive(&fleet).await;
    fleet.server.published().await;
    let people = &fleet.server.running.state.people;
    let admin = fleet.server.running.state.store.user("admin").await.unwrap();
    let (anonymous, system_admin) = (0, 3);
    let mut wrong = Vec::new();
    // That one is on the listener that shows an SVID, where no browser comes.
    for row in rows().into_iter().filter(|row| row.route != "/satellites/spiffe-ztr") {
        let method = row.method.to_uppercase();
        // Those for a person alone look at nothing but the cookie.
        let page = matches!(row.route, "/auth/signed-in" | "/auth/logout");
        let for_people = row.expected[anonymous] != row.expected[system_admin]
            && !row.route.contains("service")
            && !row.route.starts_with("/v2/");
        for with_token in [false, true] {
            let (token, _) = people.open_session(&admin, Actor::system()).await.unwrap();
            let expected = match (page, for_people, with_token || method == "GET") {
                (true, ..) if method == "GET" => 200,
                // Its token comes in the form.
                (true, ..) => 403,
                (_, true, true) => row.expected[system_admin],
                (_, true, false) => 403,
                (_, false, _) => row.expected[anonymous],
            };
            let mut request = fleet
                .server
                .client
                .request(method.parse().unwrap(), fleet.server.url(row.path))
                .header("cookie", format!("theme=dark; __Host-ground-control={}", token.expose_secret()));
            if with_token {
                request = request.header("x-csrf-token", people.csrf_token(&token).expose_secret());
            }
            if let Some(body) = &row.body {
                request = request.json(body);
            }
            let status = request.send().await.unwrap().status();
            if status != expected {
                wrong.push(format!(
                    "{method} {} with token {with_token}: {status} and not {expected}",
                    row.path
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_has_a_row() {
    let fleet = Fleet::start(&[]).await;
    let document = fleet.server.send(As::Nobody, "GET", "/openapi.json", None).await.expect(200).body;
    let routes: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |m| (m.clone(), path.clone()))
        })
        .collect();
    assert_eq!(routes, self::routes());
}

/// Whoever shows a certificate that is no good is not even asked what they want.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_is_reached_with_a_certificate_that_is_no_good() {
    let fleet = Fleet::start(&[]).await;
    fleet.introduce("edge-01").await;
    let foreign = Authority::new("elsewhere.example").unwrap();
    let false_one = Authority::new(TRUST_DOMAIN).unwrap();
    let authority = &fleet.authority;
    let path = "/satellite/region/default/edge-01";
    let bad: Vec<(&str, IssuedSvid)> = vec![
        ("expired", fleet.svid_ending_in("edge-01", -1)),
        ("foreign", foreign.issue(path).unwrap()),
        ("false", false_one.issue(path).unwrap()),
        ("foreign by our authority", {
            let mut wish = authority.wish(path);
            wish.uris = vec![format!("spiffe://elsewhere.example{path}")];
            authority.issue_as(&wish).unwrap()
        }),
        ("not yet", {
            let mut wish = authority.wish(path);
            wish.not_before += Duration::from_secs(1800);
            authority.issue_as(&wish).unwrap()
        }),
    ];
    for (why, svid) in &bad {
        // Each request is a handshake of its own, since none of them leads to a connection.
        let peer = peer(&fleet.server, &authority.bundle_pem(), Some(svid));
        for row in rows() {
            let method = row.method.to_uppercase();
            let login = As::Basic("admin", ADMIN_PASSWORD);
            let outcome = peer.send(login, &method, row.path, row.body).await;
            assert!(outcome.is_err(), "{method} {} with a {why} certificate: {outcome:?}", row.path);
        }
    }
    fleet.peer(Some(&fleet.svid("edge-01"))).heartbeat().await.expect(200);
}
