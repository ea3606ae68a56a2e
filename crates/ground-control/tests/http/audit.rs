//! The audit over HTTP: each change is one row, what changes nothing is none.

use std::collections::BTreeSet;

use fleet_protocol::api::AuditEntry;
use ground_control::domain::audit::Actor;
use identity::KeyPair;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::spiffe::{Fleet, Peer};
use crate::support::{ADMIN_PASSWORD, Answer, As, DIGEST, Server, answer};
use crate::{builtin, table};

/// Routes that change nothing of what people decide: a heartbeat, a token for the registry, a webhook's hint.
const NO_CHANGE: &[(&str, &str)] =
    &[("post", "/satellites/sync"), ("post", "/service/token"), ("post", "/hooks/harbor")];
/// A route that needs an identity provider: `a_command_line_gets_a_code_in_the_url_and_its_session_by_post` looks at its row.
const ELSEWHERE: (&str, &str) = ("post", "/auth/oidc/token");
/// Routes that are read by GET and hand something out.
const HANDED_OUT: &[(&str, &str)] = &[("get", "/satellites/spiffe-ztr"), ("get", "/satellites/ztr/{token}")];

impl Server {
    /// Rows after this one, in their order.
    async fn audit_after(&self, sequence: u64) -> Vec<AuditEntry> {
        let answer = self.admin("GET", &format!("/api/audit?after={sequence}"), None).await.expect(200);
        serde_json::from_value(answer.body).unwrap()
    }

    async fn audit_end(&self) -> u64 {
        self.running.state.store.audit_end().await.unwrap()
    }

    /// What this did, which has to be one change.
    async fn one_change(&self, what: &str, answer: impl Future<Output = Answer>) -> (Answer, AuditEntry) {
        let before = self.audit_end().await;
        let answer = answer.await;
        assert!(answer.status.is_success(), "{what}: {} {}", answer.status, answer.body);
        let mut done = self.audit_after(before).await;
        done.retain(|row| row.outcome == "done");
        assert_eq!(done.len(), 1, "{what}: {done:#?}");
        (answer, done.remove(0))
    }
}

/// Goes through the routes, and remembers which.
struct Walk<'a> {
    server: &'a Server,
    seen: BTreeSet<(String, String)>,
}

impl<'a> Walk<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, seen: BTreeSet::new() }
    }

    /// An administrator's request, which is the one change `action`.
    async fn admin(&mut self, route: (&str, &str), path: &str, body: Option<Value>, action: &str) -> Answer {
        let method = route.0.to_uppercase();
        let request = self.server.admin(&method, path, body);
        let (answer, row) = self.server.one_change(action, request).await;
        assert_eq!((row.action.as_str(), row.actor.as_str()), (action, "admin"), "{row:?}");
        assert_eq!((row.actor_kind.as_str(), row.authenticated_by.as_str()), ("user", "session"));
        assert_eq!(
            (row.source.as_str(), row.request_id.as_str()),
            ("127.0.0.1", answer.header("x-request-id"))
        );
        self.note(route);
        answer
    }

    /// Somebody else's.
    async fn other(
        &mut self,
        route: (&str, &str),
        request: impl Future<Output = Answer>,
        (action, actor, by): (&str, &str, &str),
    ) -> Answer {
        let (answer, row) = self.server.one_change(action, request).await;
        let told = (row.action.as_str(), row.actor.as_str(), row.authenticated_by.as_str());
        assert_eq!(told, (action, actor, by), "{row:?}");
        self.note(route);
        answer
    }

    fn note(&mut self, (method, route): (&str, &str)) {
        self.seen.insert((method.to_owned(), route.to_owned()));
    }
}

async fn people(walk: &mut Walk<'_>) {
    let server = walk.server;
    let login = json!({"username": "admin", "password": ADMIN_PASSWORD});
    let request = server.send(As::Nobody, "POST", "/login", Some(login));
    let by = ("user.logged_in", "admin", "password");
    let session =
        walk.other(("post", "/login"), request, by).await.body["token"].as_str().unwrap().to_owned();
    let request = server.send(As::Session(&session), "POST", "/api/logout", None);
    walk.other(("post", "/api/logout"), request, ("user.logged_out", "admin", "session")).await;
    let people = &server.running.state.people;
    let admin = server.running.state.store.user("admin").await.unwrap();
    let (cookie, _) = people.open_session(&admin, Actor::system()).await.unwrap();
    let request = async {
        let form = format!("csrf_token={}", people.csrf_token(&cookie).expose_secret());
        let request = server.client.post(server.url("/auth/logout")).body(form);
        let request = request.header("cookie", format!("__Host-ground-control={}", cookie.expose_secret()));
        answer(request.send().await.unwrap()).await
    };
    walk.other(("post", "/auth/logout"), request, ("user.logged_out", "admin", "session")).await;
    let ann = json!({"username": "ann", "password": ADMIN_PASSWORD, "role": "admin"});
    walk.admin(("post", "/api/users"), "/api/users", Some(ann), "user.created").await;
    let password = json!({"new_password": "Other12345"});
    let route = ("patch", "/api/users/{user}/password");
    walk.admin(route, "/api/users/ann/password", Some(password), "user.password_set").await;
    let change = json!({"current_password": "Other12345", "new_password": ADMIN_PASSWORD});
    let request = server.send(As::Basic("ann", "Other12345"), "PATCH", "/api/users/password", Some(change));
    let by = ("user.password_set", "ann", "password");
    walk.other(("patch", "/api/users/password"), request, by).await;
    let role = json!({"role": "viewer"});
    walk.admin(("patch", "/api/users/{user}"), "/api/users/ann", Some(role), "user.role_set").await;
    let token = json!({"name": "ci", "scopes": ["write"]});
    let made = walk.admin(("post", "/api/tokens"), "/api/tokens", Some(token), "token.created").await;
    // What a program does is the token's doing.
    let program = As::Session(made.body["token"].as_str().unwrap());
    let list = json!({"group": "ci", "registry": "", "artifacts": []});
    let request = server.send(program, "POST", "/api/groups/sync", Some(list));
    let by = ("group.synced", "admin/ci", "api_token");
    walk.other(("post", "/api/groups/sync"), request, by).await;
    let path = format!("/api/tokens/{}", made.body["id"].as_str().unwrap());
    walk.admin(("delete", "/api/tokens/{token}"), &path, None, "token.deleted").await;
    walk.admin(("delete", "/api/users/{user}"), "/api/users/ann", None, "user.deleted").await;
}

async fn groups_and_configs(walk: &mut Walk<'_>) {
    let list = |tag: &str| json!({"group": "web", "registry": "", "artifacts": [{"repository": "library/web", "tag": [tag], "digest": DIGEST}]});
    for tag in ["one", "two"] {
        walk.admin(("post", "/api/groups/sync"), "/api/groups/sync", Some(list(tag)), "group.synced").await;
    }
    // The same again is no change, and so is no row.
    let before = walk.server.audit_end().await;
    walk.server.admin("POST", "/api/groups/sync", Some(list("two"))).await.expect(200);
    assert_eq!(walk.server.audit_after(before).await, []);
    let route = ("post", "/api/groups/{group}/revisions/{revision}/restore");
    walk.admin(route, "/api/groups/web/revisions/1/restore", None, "group.restored").await;
    let selector = json!({"selector": "env=prod"});
    let route = ("put", "/api/groups/{group}/selector");
    walk.admin(route, "/api/groups/web/selector", Some(selector), "group.selector_set").await;
    let route = ("post", "/api/groups/{group}/replication-secret");
    let path = "/api/groups/web/replication-secret";
    let made = walk.admin(route, path, None, "group.replication_secret_set").await;
    let url = made.body["url"].as_str().unwrap();
    let hook = url.split_at(url.find("/hooks/").unwrap()).1;
    let request = walk.server.send(As::Nobody, "POST", hook, Some(list("three")));
    let by = ("group.replicated", "replication", "hook_secret");
    walk.other(("post", "/hooks/replication/{secret}"), request, by).await;
    let route = ("delete", "/api/groups/{group}/replication-secret");
    walk.admin(route, path, None, "group.replication_secret_removed").await;
    let config = json!({"config_name": "small", "config": {"app_config": {"log_level": "info"}}});
    walk.admin(("post", "/api/configs"), "/api/configs", Some(config), "config.created").await;
    let patch = json!({"app_config": {"log_level": "debug"}});
    walk.admin(("patch", "/api/configs/{config}"), "/api/configs/small", Some(patch), "config.changed").await;
    walk.admin(("delete", "/api/configs/{config}"), "/api/configs/small", None, "config.deleted").await;
}

async fn satellites(walk: &mut Walk<'_>) {
    let server = walk.server;
    let new = |name: &str| Some(json!({"name": name, "groups": [], "config_name": ""}));
    let route = ("post", "/api/satellites");
    let text = |answer: &Answer, name: &str| answer.body[name].as_str().unwrap().to_owned();
    let first = walk.admin(route, "/api/satellites", new("token-01"), "satellite.created").await;
    let second = walk.admin(route, "/api/satellites", new("token-02"), "satellite.created").await;
    let nonce = "0123456789abcdef0123456789abcdef";
    let claim = json!({"token": text(&first, "token"), "nonce": nonce});
    let request = server.send(As::Nobody, "POST", "/satellites/ztr", Some(claim));
    let by = ("satellite.claimed", "token-01", "registration_token");
    let claimed = walk.other(("post", "/satellites/ztr"), request, by).await;
    let path = format!("/satellites/ztr/{}", text(&second, "token"));
    let request = server.send(As::Nobody, "GET", &path, None);
    let by = ("satellite.claimed", "token-02", "registration_token");
    walk.other(("get", "/satellites/ztr/{token}"), request, by).await;
    let (name, secret) = crate::spiffe::credentials(&claimed);
    let request = server.send(As::Basic(&name, &secret), "POST", "/satellites/credentials", None);
    let by = ("satellite.credentials_issued", "token-01", "robot_secret");
    walk.other(("post", "/satellites/credentials"), request, by).await;

    server.group("shop", "library/shop").await;
    let member = json!({"satellite": "token-01", "group": "shop"});
    let path = "/api/groups/satellite";
    walk.admin(("post", path), path, Some(member.clone()), "satellite.joined_group").await;
    walk.admin(("delete", path), path, Some(member), "satellite.left_group").await;
    let labels = json!({"env": "prod"});
    let route = ("patch", "/api/satellites/{satellite}/labels");
    walk.admin(route, "/api/satellites/token-01/labels", Some(labels), "satellite.labelled").await;
    let config = json!({"config_name": "big", "config": {}});
    server.admin("POST", "/api/configs", Some(config)).await.expect(201);
    let assign = json!({"satellite": "token-01", "config_name": "big"});
    let path = "/api/configs/satellite";
    walk.admin(("post", path), path, Some(assign), "satellite.config_assigned").await;
    let route = ("post", "/api/satellites/{satellite}/revoke");
    walk.admin(route, "/api/satellites/token-01/revoke", None, "satellite.revoked").await;
    let route = ("post", "/api/satellites/{satellite}/enable");
    walk.admin(route, "/api/satellites/token-01/enable", None, "satellite.enabled").await;
    let route = ("delete", "/api/satellites/{satellite}");
    walk.admin(route, "/api/satellites/token-01", None, "satellite.deleted").await;
    walk.admin(("delete", "/api/groups/{group}"), "/api/groups/shop", None, "group.deleted").await;
}

async fn identities(walk: &mut Walk<'_>) {
    let server = walk.server;
    let body = json!({"satellite_name": "svid-01"});
    let path = "/api/satellites/register";
    let registered = walk.admin(("post", path), path, Some(body), "satellite.registered").await;
    let key = KeyPair::generate().unwrap();
    let request = builtin::attest(server, &registered, &key);
    let by = ("satellite.attested", "svid-01", "join_token");
    let attested = walk.other(("post", "/satellites/attest"), request, by).await;
    let svid = builtin::svid(&attested, &key);
    let edge: Peer = builtin::trusting(server, &registered, Some(&svid));
    let request = edge.ask("GET", "/satellites/spiffe-ztr", None);
    let by = ("satellite.credentials_issued", "svid-01", "svid");
    walk.other(("get", "/satellites/spiffe-ztr"), request, by).await;
    let new = KeyPair::generate().unwrap();
    let request = builtin::renew(server, &registered, &key, &new);
    let by = ("satellite.renewed", "svid-01", "svid_key");
    walk.other(("post", "/satellites/renew"), request, by).await;
    // What machines say all day long is no change.
    let before = server.audit_end().await;
    edge.heartbeat().await.expect(200);
    assert_eq!(server.audit_end().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_is_one_row() {
    let server = builtin::start().await;
    let mut walk = Walk::new(&server);
    people(&mut walk).await;
    groups_and_configs(&mut walk).await;
    satellites(&mut walk).await;
    identities(&mut walk).await;

    let fleet = Fleet::start(&[("AUTO_REGISTER", "approve")]).await;
    let mut waiting = Walk::new(&fleet.server);
    let before = fleet.server.audit_end().await;
    let svid = fleet.svid("edge-01");
    fleet.peer(Some(&svid)).ask("GET", "/satellites/spiffe-ztr", None).await.expect(403);
    let introduced = fleet.server.audit_after(before).await;
    assert_eq!((introduced.len(), introduced[0].action.as_str()), (1, "satellite.introduced"));
    let route = ("post", "/api/satellites/{satellite}/approve");
    waiting.admin(route, "/api/satellites/edge-01/approve", None, "satellite.approved").await;

    let mut seen = walk.seen;
    seen.extend(waiting.seen);
    let name = |(method, route): &(&str, &str)| ((*method).to_owned(), (*route).to_owned());
    let except: BTreeSet<_> = NO_CHANGE.iter().chain([&ELSEWHERE]).map(name).collect();
    let changing: BTreeSet<_> = table::routes()
        .into_iter()
        .filter(|(method, route)| method != "get" || HANDED_OUT.contains(&(method.as_str(), route.as_str())))
        .filter(|route| !except.contains(route))
        .collect();
    assert_eq!(seen, changing, "each route that changes something is walked here");
}

/// Every route with a request that fails: nothing is changed, and no row says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_leaves_no_row_of_a_change() {
    let fleet = Fleet::start(&[]).await;
    let server = &fleet.server;
    let peer = fleet.peer(None);
    for (method, path, body) in table::requests() {
        let before = server.audit_end().await;
        let login = As::Basic("admin", ADMIN_PASSWORD);
        let answer = peer.send(login, &method, path, body).await.unwrap();
        let mut rows = server.audit_after(before).await;
        rows.retain(|row| row.outcome == "done");
        assert_eq!(rows, [], "{method} {path}: {}", answer.status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_is_read_by_cursor_and_filter() {
    let server = Server::start().await;
    for name in ["web", "shop", "till"] {
        server.group(name, "library/nginx").await;
    }
    let get = async |query: &str| server.admin("GET", &format!("/api/audit?{query}"), None).await;
    let subjects = |answer: &Answer| {
        let rows: Vec<AuditEntry> = serde_json::from_value(answer.body.clone()).unwrap();
        rows.into_iter().map(|row| row.subject).collect::<Vec<_>>()
    };
    let newest = get("action=group.synced&page_size=2").await.expect(200);
    assert_eq!(subjects(&newest), ["group/till", "group/shop"]);
    let next = newest.header("link").split(['<', '>']).nth(1).unwrap().to_owned();
    let rest = server.admin("GET", &next, None).await.expect(200);
    assert_eq!(subjects(&rest), ["group/web"]);
    assert_eq!(rest.header("link"), "");
    assert_eq!(subjects(&get("subject=group%2Fshop").await), ["group/shop"]);
    assert_eq!(subjects(&get("actor=nobody").await), [""; 0]);
    assert_eq!(subjects(&get("since=2100-01-01T00:00:00Z").await), [""; 0]);
    get("before=1&after=1").await.expect(400);
    // Administrators' names and addresses are for those who answer for administrators.
    let viewer = server.person("vera", "admin").await;
    server.send(As::Session(&viewer), "GET", "/api/audit", None).await.expect(403);
}

/// Each kind is told, equal ones together, none is forgotten at the end, and no row holds what opens anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_counted_rows() {
    const TOKEN: &str = "fedcba9876543210fedcba9876543210";
    let server = Server::start().await;
    server.group("web", "library/nginx").await;
    let viewer = server.person("vera", "viewer").await;
    let start = server.audit_end().await;
    for _ in 0..3 {
        let wrong = json!({"username": "ann\n", "password": "Wrong-Secret-1"});
        server.send(As::Nobody, "POST", "/login", Some(wrong)).await.expect(401);
    }
    server.send(As::Session(&viewer), "DELETE", "/api/groups/web", None).await.expect(403);
    server.send(As::Basic("bob", "Wrong-Secret-1"), "GET", "/api/groups", None).await.expect(401);
    server.send(As::Nobody, "GET", &format!("/satellites/ztr/{TOKEN}"), None).await.expect(400);
    server
        .send(As::Basic("robot$edge-01", "Wrong-Secret-1"), "POST", "/satellites/sync", Some(json!({})))
        .await
        .expect(401);
    let taken = json!({"username": "vera", "password": ADMIN_PASSWORD, "role": "viewer"});
    server.admin("POST", "/api/users", Some(taken)).await.expect(409);
    // A client of the registry asks without credentials first: that is no refusal, and neither is what is not there.
    server.send(As::Nobody, "GET", "/v2/", None).await.expect(401);
    server.admin("GET", "/api/groups/none", None).await.expect(404);
    let server = Server::start_in(server.stop().await, &[]).await;
    let mut told: Vec<(String, String, String, u64)> = Vec::new();
    let rows = server.audit_after(start).await;
    for row in rows.iter().filter(|row| row.outcome == "refused") {
        assert_eq!(row.source, "127.0.0.1");
        let key = (row.actor_kind.clone(), row.actor.clone(), format!("{} {}", row.action, row.subject));
        match told.iter_mut().find(|told| (&told.0, &told.1, &told.2) == (&key.0, &key.1, &key.2)) {
            Some(told) => told.3 += row.count,
            None => told.push((key.0, key.1, key.2, row.count)),
        }
    }
    told.sort();
    let told: Vec<(&str, &str, &str, u64)> =
        told.iter().map(|told| (told.0.as_str(), told.1.as_str(), told.2.as_str(), told.3)).collect();
    let expected = [
        ("anonymous", "ann?", "user.logged_in POST /login", 3),
        ("anonymous", "bob", "request GET /api/groups", 1),
        ("anonymous", "robot$edge-01", "request POST /satellites/sync", 1),
        ("satellite", "", "satellite.claimed GET /satellites/ztr/{token}", 1),
        ("user", "admin", "user.created POST /api/users", 1),
        ("user", "vera", "group.deleted DELETE /api/groups/web", 1),
    ];
    assert_eq!(told, expected);
    let text = serde_json::to_string(&rows).unwrap();
    for secret in [TOKEN, "Wrong-Secret-1", ADMIN_PASSWORD, &viewer] {
        assert!(!text.contains(secret), "{secret} in the audit");
    }
}
