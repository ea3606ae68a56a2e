//! A satellite that is played by the test: the routes with HTTP Basic, in their documented JSON.

use reqwest::StatusCode;

use super::*;

/// Written before the first try, so that a lost answer is given again.
const NONCE: &str = "0123456789abcdef0123456789abcdef";

/// A satellite without a program.
pub(super) struct Hand {
    url: String,
    name: String,
    account: (String, String),
    http: reqwest::Client,
}

impl Hand {
    pub(super) fn new(url: String, name: String) -> Self {
        Self { url, name, account: (String::new(), String::new()), http: testbed::registry::http_client() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// User name and secret that it was given last.
    pub(super) fn account(&self) -> &(String, String) {
        &self.account
    }

    async fn post(
        &self,
        path: &str,
        account: Option<&(String, String)>,
        body: &Value,
    ) -> (StatusCode, Value) {
        let mut request = self.http.post(format!("{}{path}", self.url)).json(body);
        if let Some((username, secret)) = account {
            request = request.basic_auth(username, Some(secret));
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(answer.headers().contains_key("retry-after"), "{path}: 503 without Retry-After");
        }
        (status, answer.json().await.unwrap_or_default())
    }

    /// Asks until an account is ready.
    async fn credentials(
        &self,
        path: &str,
        account: Option<&(String, String)>,
        body: Value,
    ) -> (String, String) {
        let answer = wait_for("credentials", LIMIT, async || {
            let (status, answer) = self.post(path, account, &body).await;
            assert!(matches!(status.as_u16(), 200 | 503), "{path}: {status} {answer}");
            (status == StatusCode::OK).then_some(answer)
        })
        .await
        .unwrap();
        let text = |key: &str| answer["auth"][key].as_str().unwrap().to_owned();
        (text("username"), text("password"))
    }

    pub(super) async fn register(&mut self, token: &str) {
        let body = json!({"token": token, "nonce": NONCE});
        self.account = self.credentials("/satellites/ztr", None, body.clone()).await;
        // A lost answer costs nothing.
        assert_eq!(self.credentials("/satellites/ztr", None, body).await, self.account);
    }

    /// Asks for fresh credentials.
    pub(super) async fn renew(&mut self) {
        self.account = self.credentials("/satellites/credentials", Some(&self.account), json!({})).await;
    }

    /// A heartbeat with these credentials: its status.
    pub(super) async fn heartbeat(&self, account: &(String, String), used: &str) -> StatusCode {
        self.post("/satellites/sync", Some(account), &json!({"registry_username": used})).await.0
    }

    /// A heartbeat that shows what the registry takes.
    pub(super) async fn reports(&self) {
        assert_eq!(self.heartbeat(&self.account, &self.account.0).await, StatusCode::OK);
    }
}
