//! A server per test, and short words for talking to it.

use std::collections::BTreeMap;
use std::sync::Once;
use std::time::Duration;

use ground_control::config::Config;
use ground_control::server::{self, Running};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const ADMIN_PASSWORD: &str = "Harbor12345";
/// A digest that names nothing.
pub(crate) const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// With what a request introduces itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum As<'a> {
    Nobody,
    Session(&'a str),
    Basic(&'a str, &'a str),
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) dir: TempDir,
    pub(crate) client: reqwest::Client,
    pub(crate) admin: String,
}

/// An answer with its body as JSON (null where it is none).
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        self
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

pub(crate) fn client() -> reqwest::Client {
    provider();
    reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap()
}

pub(crate) fn config(dir: &TempDir, more: &[(&str, &str)]) -> Config {
    let mut variables: BTreeMap<String, String> = [
        ("LISTEN", "127.0.0.1:0"),
        ("ADMIN_LISTEN", "off"),
        ("DATA_DIR", dir.path().to_str().unwrap()),
        ("ADMIN_PASSWORD", ADMIN_PASSWORD),
        ("SHUTDOWN_TIMEOUT", "1s"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Config::parse([], &variables, &BTreeMap::new()).unwrap()
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[]).await
    }

    pub(crate) async fn start_in(dir: TempDir, more: &[(&str, &str)]) -> Self {
        Self::start_with(dir, more, client()).await
    }

    pub(crate) async fn start_with(dir: TempDir, more: &[(&str, &str)], client: reqwest::Client) -> Self {
        provider();
        let running = server::start(&config(&dir, more)).await.unwrap();
        let mut server = Self { running, dir, client, admin: String::new() };
        server.admin = server.login("admin", ADMIN_PASSWORD).await;
        server
    }

    /// Ends the server and keeps its folder.
    pub(crate) async fn stop(self) -> TempDir {
        self.running.stop().await;
        self.dir
    }

    pub(crate) fn url(&self, path: &str) -> String {
        match &self.running.web {
            Some(web) if web.url.ends_with(&web.address.to_string()) => format!("{}{path}", web.url),
            Some(web) => format!("http://{}{path}", web.address),
            None => format!("http://{}{path}", self.running.address),
        }
    }

    pub(crate) async fn send(&self, who: As<'_>, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.client.request(Method::from_bytes(method.as_bytes()).unwrap(), self.url(path));
        request = match who {
            As::Nobody => request,
            As::Session(token) => request.bearer_auth(token),
            As::Basic(name, password) => request.basic_auth(name, Some(password)),
        };
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request.send().await.unwrap()).await
    }

    /// As the administrator.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(As::Session(&self.admin), method, path, body).await
    }

    pub(crate) async fn login(&self, username: &str, password: &str) -> String {
        let body = json!({"username": username, "password": password});
        let answer = self.send(As::Nobody, "POST", "/login", Some(body)).await.expect(200);
        answer.body["token"].as_str().unwrap().to_owned()
    }

    /// Makes an account and logs it in.
    pub(crate) async fn person(&self, username: &str, role: &str) -> String {
        let body = json!({"username": username, "password": ADMIN_PASSWORD, "role": role});
        self.admin("POST", "/api/users", Some(body)).await.expect(201);
        self.login(username, ADMIN_PASSWORD).await
    }

    /// Makes a group of one artifact.
    pub(crate) async fn group(&self, name: &str, repository: &str) {
        let artifacts = json!([{"repository": repository, "tag": ["latest"], "digest": DIGEST}]);
        let body = json!({"group": name, "registry": "https://elsewhere", "artifacts": artifacts});
        self.admin("POST", "/api/groups/sync", Some(body)).await.expect(200);
    }

    /// Makes a satellite; the answer is its one-time token.
    pub(crate) async fn satellite(&self, name: &str, groups: &[&str]) -> String {
        let body = json!({"name": name, "groups": groups, "config_name": ""});
        let answer = self.admin("POST", "/api/satellites", Some(body)).await.expect(200);
        answer.body["token"].as_str().unwrap().to_owned()
    }

    /// Registers with a token; the answer is the robot's name and secret.
    pub(crate) async fn register(&self, token: &str) -> (String, String) {
        let body = json!({"token": token, "nonce": "0123456789abcdef0123456789abcdef"});
        let answer = self.send(As::Nobody, "POST", "/satellites/ztr", Some(body)).await.expect(200);
        let text = |name: &str| answer.body["auth"][name].as_str().unwrap().to_owned();
        (text("username"), text("password"))
    }

    /// Makes and registers a satellite.
    pub(crate) async fn robot(&self, name: &str, groups: &[&str]) -> (String, String) {
        let token = self.satellite(name, groups).await;
        self.register(&token).await
    }

    /// Waits until the publisher has nothing left to do.
    pub(crate) async fn published(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let lag = self.running.state.store.outbox_lag().await.unwrap();
            if lag.waiting == 0 {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{lag:?} {:?}",
                self.running.state.publisher.status()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) async fn answer(response: reqwest::Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status, headers, body }
}
