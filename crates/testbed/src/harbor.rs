//! A Harbor by its URL, as its administrator sees it: what tests look at there, and what they clear away.
//!
//! Every call is written out here and shares nothing with the product's client, so that each finds the other's mistakes.
//! Others may use the same Harbor: a [`Run`] makes things under names of its own, keeps a record of them by their numbers,
//! and deletes those alone, whatever became of the test.

mod inventory;
mod record;
mod run;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::registry::{self, Registry};
use crate::{Error, Result, files};

pub use inventory::Inventory;
pub use record::Record;
pub use run::{PREFIX, Run, STATE_PROJECT};

/// Names the Harbor that the live suite runs against: `https://host[:port]`.
pub const URL: &str = "HARBOR_TEST_URL";
/// Names its administrator.
pub const USERNAME: &str = "HARBOR_TEST_USERNAME";
/// Holds the administrator's password.
pub const PASSWORD: &str = "HARBOR_TEST_PASSWORD";
/// Names the file of the authority that signed its certificate, where that is none of the web's. Optional.
pub const CA_FILE: &str = "HARBOR_TEST_CA_FILE";
/// Names this machine as that Harbor reaches it, so that its webhooks arrive. Optional.
pub const CALLBACK_HOST: &str = "HARBOR_TEST_CALLBACK_HOST";

/// The parts of a Harbor that the flow needs.
const NEEDED: [&str; 4] = ["core", "database", "redis", "registry"];
/// How often a call is sent that found nobody or a server in trouble.
const TRIES: u32 = 5;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// The most pages that a list may have.
const MOST_PAGES: usize = 500;
/// Everything but the unreserved characters (RFC 3986 section 2.3) is encoded.
const UNRESERVED: &[u8] = b"-._~";

/// An administrator of a Harbor.
#[derive(Clone, Debug)]
pub struct Harbor {
    url: String,
    username: String,
    password: String,
    ca_file: Option<PathBuf>,
    callback_host: Option<String>,
    http: reqwest::Client,
}

/// What Harbor answered, with whatever status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// `Location`, where there is one.
    pub location: String,
    /// `X-Total-Count`, where there is one.
    pub total: Option<usize>,
    /// The body; `null` where it is no JSON.
    pub body: Value,
}

impl Harbor {
    /// The one that the environment names.
    ///
    /// # Errors
    /// [`Error::Missing`] that names the variable.
    pub fn from_environment() -> Result<Self> {
        let optional = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let need = |name: &str| {
            optional(name).ok_or_else(|| Error::Missing {
                what: format!("the variable {name}"),
                remedy: format!("set {URL}, {USERNAME} and {PASSWORD} to run against a Harbor of your own"),
            })
        };
        let ca_file = optional(CA_FILE).map(PathBuf::from);
        let mut harbor = Self::trusting(&need(URL)?, &need(USERNAME)?, &need(PASSWORD)?, ca_file.as_deref())?;
        harbor.callback_host = optional(CALLBACK_HOST);
        Ok(harbor)
    }

    /// The one at this URL.
    pub fn new(url: &str, username: &str, password: &str) -> Result<Self> {
        Self::trusting(url, username, password, None)
    }

    fn trusting(url: &str, username: &str, password: &str, ca_file: Option<&Path>) -> Result<Self> {
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            username: username.to_owned(),
            password: password.to_owned(),
            http: registry::http_client_trusting(ca_file)?,
            ca_file: ca_file.map(Path::to_owned),
            callback_host: None,
        })
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `host[:port]`.
    pub fn host(&self) -> &str {
        self.url.split_once("://").map_or(&*self.url, |(_, host)| host)
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.host().rsplit_once(':').map_or(self.host(), |(host, _)| host);
        host == "localhost" || host == "[::1]" || host.starts_with("127.")
    }

    /// It, reaching this machine by this name.
    #[must_use]
    pub fn calling_back(self, host: &str) -> Self {
        Self { callback_host: Some(host.to_owned()), ..self }
    }

    /// This machine as it reaches it, where that was said.
    pub fn callback_host(&self) -> Option<&str> {
        self.callback_host.as_deref()
    }

    /// What makes it the central registry of a Ground Control.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("REGISTRY_BACKEND".to_owned(), "harbor".to_owned()),
            ("HARBOR_URL".to_owned(), self.url.clone()),
            ("HARBOR_USERNAME".to_owned(), self.username.clone()),
            ("HARBOR_PASSWORD".to_owned(), self.password.clone()),
        ];
        if let Some(file) = &self.ca_file {
            variables.push(("HARBOR_CA_FILE".to_owned(), file.display().to_string()));
        }
        variables.extend(self.unsecure());
        variables
    }

    /// What a satellite needs to pull from it.
    pub fn satellite_variables(&self) -> Vec<(String, String)> {
        let file = self.ca_file.as_ref().map(|file| ("TLS_CA_FILE".to_owned(), file.display().to_string()));
        file.into_iter().chain(self.unsecure()).collect()
    }

    /// Plain HTTP beyond loopback has to be allowed.
    fn unsecure(&self) -> Option<(String, String)> {
        let plain = self.url.starts_with("http://") && !self.is_loopback();
        plain.then(|| ("USE_UNSECURE".to_owned(), "true".to_owned()))
    }

    /// Its registry, as the administrator.
    pub fn registry(&self) -> Result<Registry> {
        self.registry_as(&self.username, &self.password)
    }

    /// Its registry, as somebody else.
    pub fn registry_as(&self, username: &str, password: &str) -> Result<Registry> {
        let ca_file = self.ca_file.as_deref();
        Registry::basic(&self.url, username, password).trusting(ca_file)
    }

    /// Its version, which it tells to those it knows only, where the parts are well that the flow needs.
    pub async fn version(&self) -> Result<String> {
        let health = self.get("/health").await?;
        let components = health["components"].as_array().cloned().unwrap_or_default();
        let fails = |part: &&Value| {
            part["status"] != "healthy" && part["name"].as_str().is_some_and(|name| NEEDED.contains(&name))
        };
        if let Some(part) = components.iter().find(fails) {
            return Err(Error::Content(format!("{} is not well: {part}", self.url)));
        }
        let info = self.get("/systeminfo").await?;
        info["harbor_version"].as_str().map(str::to_owned).ok_or_else(|| {
            Error::Content(format!(
                "{} does not know {}: {USERNAME} or {PASSWORD} is wrong",
                self.url, self.username
            ))
        })
    }

    /// A call; every status is an answer. Sent again where nobody answered or the server is in trouble, except what makes
    /// something.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let tries = if method == Method::POST { 1 } else { TRIES };
        for _ in 1..tries {
            match self.once(&method, path, body).await {
                Ok(answer) if !answer.status.is_server_error() => return Ok(answer),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        self.once(&method, path, body).await
    }

    async fn once(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let url = format!("{}/api/v2.0{path}", self.url);
        let failed = |source| Error::Request { method: method.to_string(), url: url.clone(), source };
        let mut request = self.http.request(method.clone(), &url);
        request = request.basic_auth(&self.username, Some(&self.password));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(failed)?;
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (status, location) = (response.status(), header("location").unwrap_or_default());
        let total = header("x-total-count").and_then(|total| total.parse().ok());
        let bytes = response.bytes().await.map_err(failed)?;
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Answer { status, location, total, body })
    }

    /// A call that has to succeed.
    pub async fn done(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let answer = self.call(method.clone(), path, body).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(&method, path, &answer)) }
    }

    /// Deletes; what is gone already is well.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let answer = self.call(Method::DELETE, path, None).await?;
        match answer.status {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            _ => Err(self.refused(&Method::DELETE, path, &answer)),
        }
    }

    /// What a path shows.
    pub async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.done(Method::GET, path, None).await?.body)
    }

    fn refused(&self, method: &Method, path: &str, answer: &Answer) -> Error {
        Error::Answer {
            method: method.to_string(),
            url: format!("{}/api/v2.0{path}", self.url),
            status: answer.status.as_u16(),
            body: answer.body.to_string().chars().take(500).collect(),
        }
    }

    /// A whole list, page by page.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut all = Vec::new();
        for page in 1..=MOST_PAGES {
            let answer =
                self.done(Method::GET, &format!("{path}{joint}page={page}&page_size=100"), None).await?;
            let items = answer.body.as_array().cloned().unwrap_or_default();
            let last = items.len() < 100;
            all.extend(items);
            if last || answer.total.is_some_and(|total| all.len() >= total) {
                return Ok(all);
            }
        }
        Err(Error::Content(format!("{path} has more than {MOST_PAGES} pages")))
    }

    /// The project of this name or number; `None` where there is none.
    pub async fn project(&self, name: &str) -> Result<Option<Value>> {
        let path = format!("/projects/{}", encoded(name));
        let answer = self.call(Method::GET, &path, None).await?;
        match answer.status {
            StatusCode::OK => Ok(Some(answer.body)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(&Method::GET, &path, &answer)),
        }
    }

    /// The names of a project's repositories, the project first.
    pub async fn repositories(&self, project: &str) -> Result<Vec<String>> {
        let all = self.list(&format!("/projects/{}/repositories", encoded(project))).await?;
        Ok(all.iter().filter_map(|repository| repository["name"].as_str().map(str::to_owned)).collect())
    }

    /// The artifacts of a repository (`project/name`).
    pub async fn artifacts(&self, repository: &str) -> Result<Vec<Value>> {
        self.list(&format!("{}/artifacts?with_tag=true", repository_path(repository))).await
    }

    /// The robots of system level.
    pub async fn robots(&self) -> Result<Vec<Value>> {
        self.list("/robots").await
    }

    /// Whether there is such a robot.
    pub async fn has_robot(&self, id: i64) -> Result<bool> {
        let path = format!("/robots/{id}");
        let answer = self.call(Method::GET, &path, None).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(&Method::GET, &path, &answer)),
        }
    }

    /// The webhook policies of a project.
    pub async fn policies(&self, project: &str) -> Result<Vec<Value>> {
        self.list(&format!("/projects/{}/webhook/policies", encoded(project))).await
    }

    /// What was delivered for a policy, and how that ended, the latest first.
    pub async fn deliveries(&self, project: &str, policy: i64) -> Result<Vec<Value>> {
        self.list(&format!("/projects/{}/webhook/policies/{policy}/executions", encoded(project))).await
    }
}

/// `/projects/<project>/repositories/<rest>`: the rest is encoded twice, since the proxy before Harbor decodes once.
fn repository_path(repository: &str) -> String {
    let (project, rest) = repository.split_once('/').unwrap_or((repository, ""));
    format!("/projects/{}/repositories/{}", encoded(project), encoded(&encoded(rest)))
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Reads a certificate file.
pub(crate) fn certificate(file: &Path) -> Result<Vec<reqwest::Certificate>> {
    reqwest::Certificate::from_pem_bundle(&files::read(file)?)
        .map_err(|error| Error::Content(format!("{} holds no certificate: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_encoded_twice() {
        assert_eq!(
            repository_path("satellite/group-state/east/state"),
            "/projects/satellite/repositories/group-state%252Feast%252Fstate"
        );
    }

    #[test]
    fn loopback_is_told_from_elsewhere() {
        for (url, loopback) in [
            ("http://127.0.0.1:8080", true),
            ("http://localhost", true),
            ("http://[::1]:80", true),
            ("https://harbor.example.com", false),
            ("http://10.127.0.1:80", false),
        ] {
            let harbor = Harbor::new(url, "admin", "x").unwrap();
            assert_eq!(harbor.is_loopback(), loopback, "{url}");
            let plain = url.starts_with("http:") && !loopback;
            assert_eq!(harbor.variables().iter().any(|(name, _)| name == "USE_UNSECURE"), plain, "{url}");
        }
    }
}
