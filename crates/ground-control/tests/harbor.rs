//! Harbor as the central registry: a strict stand-in made of a real one's recordings, with a registry behind it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

#[allow(dead_code, reason = "shared with the tests of the API, which use all of it")]
#[path = "http/spiffe.rs"]
mod spiffe;
#[allow(dead_code, reason = "shared with the tests of Harbor's client, which use all of it")]
#[path = "../../harbor/tests/stand_in/server.rs"]
mod stand_in;
#[allow(dead_code, reason = "shared with the tests of the API, which use all of it")]
#[path = "http/support.rs"]
mod support;

#[path = "harbor/accounts.rs"]
mod accounts;
#[path = "harbor/comparison.rs"]
mod comparison;
#[path = "harbor/failures.rs"]
mod failures;
#[path = "harbor/following.rs"]
mod following;
#[path = "harbor/order.rs"]
mod order;
#[path = "harbor/outages.rs"]
mod outages;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use harbor::{Access, Client, ClientOptions, Endpoint, Login, NewRobot, Permissions, Scope};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::stand_in::StandIn;
use crate::support::{Answer, As, Server};

pub(crate) const PASSWORD: &str = "Harbor12345";
pub(crate) const NONCE: &str = "0123456789abcdef0123456789abcdef";

/// A Harbor with the projects `apps` and `library`, and a registry behind it.
pub(crate) struct Harbor {
    pub(crate) stand_in: StandIn,
    _dir: tempfile::TempDir,
}

impl Harbor {
    pub(crate) async fn start() -> Self {
        support::provider();
        let dir = tempfile::tempdir().unwrap();
        let blobs = blob_store::Store::open(dir.path(), blob_store::Options::default()).unwrap();
        let router = registry_server::router(
            blobs,
            Arc::new(registry_server::FullAccess),
            registry_server::Options::default(),
        );
        let stand_in = StandIn::start().await;
        stand_in.put_before(Arc::new(move |request: http::Request<bytes::Bytes>| {
            let router = router.clone();
            async move {
                let request = request.map(axum::body::Body::from);
                let (head, body) = router.oneshot(request).await.unwrap().into_parts();
                http::Response::from_parts(head, body.collect().await.unwrap().to_bytes())
            }
            .boxed()
        }));
        stand_in.world().now = Timestamp::now();
        let harbor = Self { stand_in, _dir: dir };
        harbor.client().create_private_project("apps").await.unwrap();
        harbor.stand_in.seen();
        harbor
    }

    pub(crate) fn client(&self) -> Client {
        let endpoint: Endpoint = self.stand_in.url().parse().unwrap();
        let login = Login { username: "admin".to_owned(), password: PASSWORD.into() };
        Client::new(&endpoint, &login, ClientOptions::default()).unwrap()
    }

    /// A robot for Ground Control itself, with all that such a one may have.
    pub(crate) async fn operator(&self) -> (String, String) {
        use secrecy::ExposeSecret as _;
        let mut permissions = Permissions::pull(["*"]);
        let all = Scope::project("*");
        let more = [
            ("repository", "push"),
            ("repository", "delete"),
            ("artifact", "delete"),
            ("project", "read"),
            ("project", "update"),
        ];
        for (resource, action) in more {
            permissions.add(all.clone(), Access::new(resource, action));
        }
        let system = Scope { kind: "system".to_owned(), namespace: "/".to_owned() };
        for action in ["create", "read", "list", "delete"] {
            permissions.add(system.clone(), Access::new("robot", action));
        }
        permissions.add(system, Access::new("project", "create"));
        let new = NewRobot {
            name: "gc".parse().unwrap(),
            lifetime: harbor::Lifetime::Never,
            description: "operator".to_owned(),
            permissions,
        };
        let made = self.client().create_robot(&new).await.unwrap();
        (made.name, made.secret.expose_secret().to_owned())
    }

    /// What makes it the central registry.
    pub(crate) fn variables(&self, username: &str, password: &str) -> Vec<(&'static str, String)> {
        vec![
            ("HARBOR_URL", self.stand_in.url()),
            ("HARBOR_USERNAME", username.to_owned()),
            ("HARBOR_PASSWORD", password.to_owned()),
        ]
    }

    /// Ground Control beside it, as its administrator.
    pub(crate) async fn ground_control(&self) -> Server {
        self.ground_control_as("admin", PASSWORD, &[]).await
    }

    pub(crate) async fn ground_control_as(
        &self,
        username: &str,
        password: &str,
        more: &[(&str, &str)],
    ) -> Server {
        let variables = self.variables(username, password);
        let mut all: Vec<(&str, &str)> =
            variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.extend(more);
        Server::start_in(tempfile::tempdir().unwrap(), &all).await
    }

    /// The robots of satellites that Harbor has, by name, with their projects.
    pub(crate) fn robots(&self) -> Vec<(String, BTreeSet<String>)> {
        let mut all: Vec<_> = self
            .stand_in
            .world()
            .robots
            .iter()
            .filter(|robot| robot.name != "gc")
            .map(|robot| {
                let projects =
                    robot.permissions.iter().map(|p| p["namespace"].as_str().unwrap().to_owned()).collect();
                (robot.full_name(), projects)
            })
            .collect();
        all.sort();
        all
    }

    /// Whether Harbor lets this login in.
    pub(crate) fn takes(&self, username: &str, password: &str) -> bool {
        let world = self.stand_in.world();
        let now = world.now;
        let mut robots = world.robots.iter();
        robots.any(|r| r.full_name() == username && r.secret == password && !r.has_expired(now))
    }
}

pub(crate) fn projects(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Waits until `done` gives something.
pub(crate) async fn eventually<T>(what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = done().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Registers by a token, as often as it takes; the answer is the robot's name and secret.
pub(crate) async fn register(server: &Server, token: &str) -> (String, String) {
    let body = json!({"token": token, "nonce": NONCE});
    let answer = eventually("a registration", async || {
        let answer = server.send(As::Nobody, "POST", "/satellites/ztr", Some(body.clone())).await;
        retried(answer)
    })
    .await;
    credentials(&answer)
}

/// `None` for a 503 that says when to come again.
pub(crate) fn retried(answer: Answer) -> Option<Answer> {
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
        return None;
    }
    Some(answer.expect(200))
}

pub(crate) fn credentials(answer: &Answer) -> (String, String) {
    let text = |name: &str| answer.body["auth"][name].as_str().unwrap().to_owned();
    (text("username"), text("password"))
}

/// Fresh credentials for who has these.
pub(crate) async fn renew(server: &Server, robot: &(String, String)) -> (String, String) {
    let answer = eventually("fresh credentials", async || {
        let who = As::Basic(&robot.0, &robot.1);
        retried(server.send(who, "POST", "/satellites/credentials", Some(json!({}))).await)
    })
    .await;
    credentials(&answer)
}

pub(crate) async fn heartbeat(server: &Server, robot: &(String, String), body: Value) -> Answer {
    server.send(As::Basic(&robot.0, &robot.1), "POST", "/satellites/sync", Some(body)).await
}
