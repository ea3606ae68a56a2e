//! The client against a strict stand-in, and the stand-in against recordings of Harbor 2.15.2.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails says so by panicking"
)]

mod calls;
mod failures;
mod outages;
mod recordings;
#[path = "../stand_in/server.rs"]
mod stand_in;

use std::time::Duration;

use harbor::{
    Access, Client, ClientOptions, Endpoint, Login, NewRobot, Permissions, PolicySpec, RetryPolicy, Scope,
};
use stand_in::StandIn;
use stand_in::artifacts::Repository;

/// Retries without waiting.
fn options() -> ClientOptions {
    let quick = RetryPolicy {
        attempts: 3,
        base: Duration::from_millis(1),
        max: Duration::from_millis(2),
        max_retry_after: Duration::from_secs(1),
    };
    ClientOptions { retry: quick, precondition_retry: quick, ..ClientOptions::default() }
}

fn client(stand_in: &StandIn, username: &str, password: &str, options: ClientOptions) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let endpoint: Endpoint = stand_in.url().parse().unwrap();
    let login = Login { username: username.to_owned(), password: password.into() };
    Client::new(&endpoint, &login, options).unwrap()
}

/// A stand-in with a private project `satellite`, `apps` beside it, and a repository; and its administrator.
async fn harbor() -> (StandIn, Client) {
    let stand_in = StandIn::start().await;
    let admin = client(&stand_in, "admin", "Harbor12345", options());
    for name in ["satellite", "apps"] {
        admin.create_private_project(name).await.unwrap();
    }
    let recorded = recordings::recording("07-artifacts.json");
    let repository: Repository = recordings::repository(&recorded["exchanges"][0]["before"][0]["repository"]);
    stand_in.world().repositories.push(repository);
    stand_in.seen();
    (stand_in, admin)
}

fn new_robot(name: &str) -> NewRobot {
    NewRobot {
        name: name.parse().unwrap(),
        lifetime: harbor::Lifetime::Days(30),
        description: "of a site".to_owned(),
        permissions: Permissions::pull(["satellite"]),
    }
}

/// What Ground Control's own robot may have at most.
fn operator_rights() -> Permissions {
    let mut all = Permissions::pull(["*"]);
    all.add(Scope::project("*"), Access::new("project", "read"));
    let system = Scope { kind: "system".to_owned(), namespace: "/".to_owned() };
    for action in ["create", "read", "list", "delete"] {
        all.add(system.clone(), Access::new("robot", action));
    }
    all.add(system, Access::new("project", "create"));
    all
}

fn policy() -> PolicySpec {
    PolicySpec {
        name: "ground-control".to_owned(),
        description: "wakes Ground Control".to_owned(),
        address: "https://gc.example.com/hooks/harbor".to_owned(),
        auth_header: "hook-secret".into(),
        skip_cert_verify: false,
        events: [harbor::PUSH_ARTIFACT, harbor::DELETE_ARTIFACT].map(String::from).into(),
    }
}
