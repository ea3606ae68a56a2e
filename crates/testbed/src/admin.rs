//! An administrator of Ground Control: the REST routes that people use, in their documented JSON.
//!
//! The documents are written out here and not taken from the product's types: a key that is renamed there breaks tests
//! here, as it would break people's scripts.

use oci::Digest;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{Error, Result, registry};

/// One artifact of a group.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Repository.
    pub repository: String,
    /// Tags that are to point at the digest.
    pub tags: Vec<String>,
    /// What is wanted.
    pub digest: Digest,
    /// Whether it is to be gone instead.
    pub deleted: bool,
}

impl Wanted {
    /// An artifact under one tag.
    pub fn new(repository: &str, tag: &str, digest: Digest) -> Self {
        Self { repository: repository.to_owned(), tags: vec![tag.to_owned()], digest, deleted: false }
    }

    fn json(&self) -> Value {
        json!({"repository": self.repository, "tag": self.tags, "labels": [], "type": "image",
               "digest": self.digest, "deleted": self.deleted})
    }
}

/// What a registration gives.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its identity.
    pub spiffe_id: String,
    /// The agent that serves it.
    pub parent_agent_id: String,
    /// The one-time join token; empty where the agent attests otherwise.
    pub join_token: String,
    /// The authorities of the trust domain (PEM).
    pub trust_bundle: String,
}

impl Registered {
    /// Reads the answer of a registration or of an enabling.
    pub fn read(answer: &Value) -> Result<Self> {
        Ok(Self {
            spiffe_id: text(answer, "spiffe_id")?,
            parent_agent_id: text(answer, "parent_agent_id")?,
            join_token: answer["join_token"].as_str().unwrap_or_default().to_owned(),
            trust_bundle: text(answer, "trust_bundle")?,
        })
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct ListPage {
    /// What stands on it.
    pub items: Value,
    /// How much the list has in all (`X-Total-Count`).
    pub total: u64,
}

/// A session of an administrator.
#[derive(Clone, Debug)]
pub struct Admin {
    url: String,
    token: String,
    http: reqwest::Client,
}

impl Admin {
    /// Logs in.
    pub async fn login(url: &str, user: &str, password: &str) -> Result<Self> {
        let mut admin = Self { url: url.to_owned(), token: String::new(), http: registry::http_client() };
        let answer = admin
            .call(Method::POST, "/login", Some(&json!({"username": user, "password": password})))
            .await?;
        admin.token = text(&answer, "token")?;
        Ok(admin)
    }

    /// Calls a route; every status of success is fine, an empty body is `null`.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("{}{path}", self.url);
        let mut request = self.http.request(method.clone(), &url);
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|source| Error::Request {
            method: method.to_string(),
            url: url.clone(),
            source,
        })?;
        let fine = [StatusCode::OK, StatusCode::CREATED, StatusCode::ACCEPTED, StatusCode::NO_CONTENT];
        let response = registry::expect(response, method.as_str(), &url, &fine).await?;
        let bytes = response.bytes().await.map_err(|source| Error::Request {
            method: method.to_string(),
            url,
            source,
        })?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Content(format!("{method} {path} answered no JSON: {error}")))
    }

    /// A page of a list, by its path with the query.
    pub async fn page(&self, path: &str) -> Result<ListPage> {
        let url = format!("{}{path}", self.url);
        let failed = |source| Error::Request { method: Method::GET.to_string(), url: url.clone(), source };
        let response = self.http.get(&url).bearer_auth(&self.token).send().await.map_err(failed)?;
        let response = registry::expect(response, "GET", &url, &[StatusCode::OK]).await?;
        let total =
            response.headers().get("x-total-count").and_then(|total| total.to_str().ok()?.parse().ok());
        let bytes = response.bytes().await.map_err(failed)?;
        let items = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Content(format!("GET {path} answered no JSON: {error}")))?;
        Ok(ListPage { items, total: total.unwrap_or_default() })
    }

    /// Creates a satellite with the default config and gives its one-time token.
    pub async fn create_satellite(&self, name: &str, groups: &[&str]) -> Result<String> {
        let body = json!({"name": name, "groups": groups, "config_name": ""});
        text(&self.call(Method::POST, "/api/satellites", Some(&body)).await?, "token")
    }

    /// Gives a satellite a SPIFFE identity that its agent, or itself, earns by a join token.
    pub async fn register(&self, name: &str, region: &str, groups: &[&str]) -> Result<Registered> {
        let body = json!({"satellite_name": name, "region": region, "groups": groups,
                          "attestation_method": "join_token"});
        self.register_with(&body).await
    }

    /// `POST /api/satellites/register` as it is written.
    pub async fn register_with(&self, body: &Value) -> Result<Registered> {
        Registered::read(&self.call(Method::POST, "/api/satellites/register", Some(body)).await?)
    }

    /// Revokes a satellite.
    pub async fn revoke(&self, name: &str) -> Result<()> {
        self.call(Method::POST, &format!("/api/satellites/{name}/revoke"), None).await.map(drop)
    }

    /// Lets a revoked or deleted satellite in again; gives what its registration gave.
    pub async fn enable(&self, name: &str) -> Result<Value> {
        self.call(Method::POST, &format!("/api/satellites/{name}/enable"), None).await
    }

    /// Deletes a satellite.
    pub async fn delete_satellite(&self, name: &str) -> Result<()> {
        self.call(Method::DELETE, &format!("/api/satellites/{name}"), None).await.map(drop)
    }

    /// Replaces what a group asks for; makes the group where there is none.
    pub async fn sync_group(&self, group: &str, artifacts: &[Wanted]) -> Result<()> {
        let artifacts: Vec<Value> = artifacts.iter().map(Wanted::json).collect();
        let body = json!({"group": group, "registry": "", "artifacts": artifacts});
        self.call(Method::POST, "/api/groups/sync", Some(&body)).await.map(drop)
    }

    /// Deletes a group.
    pub async fn delete_group(&self, group: &str) -> Result<()> {
        self.call(Method::DELETE, &format!("/api/groups/{group}"), None).await.map(drop)
    }

    /// Puts a satellite into a group.
    pub async fn add_to_group(&self, satellite: &str, group: &str) -> Result<()> {
        let body = json!({"satellite": satellite, "group": group});
        self.call(Method::POST, "/api/groups/satellite", Some(&body)).await.map(drop)
    }

    /// Takes a satellite out of a group.
    pub async fn remove_from_group(&self, satellite: &str, group: &str) -> Result<()> {
        let body = json!({"satellite": satellite, "group": group});
        self.call(Method::DELETE, "/api/groups/satellite", Some(&body)).await.map(drop)
    }

    /// The latest heartbeat of a satellite; `None` before the first.
    pub async fn status(&self, satellite: &str) -> Result<Option<Value>> {
        match self.call(Method::GET, &format!("/api/satellites/{satellite}/status"), None).await {
            Ok(status) => Ok(Some(status)),
            Err(Error::Answer { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A satellite as it is registered.
    pub async fn satellite(&self, name: &str) -> Result<Value> {
        self.call(Method::GET, &format!("/api/satellites/{name}"), None).await
    }
}

fn text(answer: &Value, key: &str) -> Result<String> {
    let found = answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    found.map(str::to_owned).ok_or_else(|| Error::Content(format!("the answer has no `{key}`")))
}
