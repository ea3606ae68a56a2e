//! Projects: the first segment of a repository's name, public or private as a whole.

use http::{HeaderMap, Method, header::LOCATION};
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, segment};
use crate::error::{Error, ErrorKind};
use crate::send::Call;

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Project {
    /// Its number.
    #[serde(rename = "project_id")]
    pub id: i64,
    /// Its name.
    pub name: String,
    /// How many repositories it holds.
    #[serde(default)]
    pub repo_count: i64,
    #[serde(default)]
    metadata: Metadata,
}

/// Booleans as texts; a boolean is refused with 422.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Metadata {
    #[serde(default)]
    public: Option<String>,
}

impl Project {
    /// Whether anybody may pull from it. What Harbor does not call private counts as public: nobody relies on a secrecy that is not
    /// there.
    pub fn is_public(&self) -> bool {
        self.metadata.public.as_deref() != Some("false")
    }
}

/// What [`Client::ensure_private_project`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// Nothing: it was there, and private.
    Found,
    /// It was made.
    Created,
    /// It was there and public, and was made private. What lay in it was readable for everybody until now.
    MadePrivate,
}

impl Client {
    /// Whether there is such a project, as far as our login may see it (`HEAD`, which a robot without any right may send).
    pub async fn project_exists(&self, name: &str) -> Result<bool, Error> {
        let operation = format!("look for project {name}");
        let path = format!("/projects?project_name={}", segment(name));
        match self.send(&Call::api(&operation, Method::HEAD, &path)).await {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The project of this name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none; [`ErrorKind::Forbidden`] for a robot without `project:read` there.
    pub async fn project(&self, name: &str) -> Result<Project, Error> {
        let operation = format!("get project {name}");
        self.json(&Call::api(&operation, Method::GET, &format!("/projects/{}", segment(name)))).await
    }

    /// Makes a private project without a quota; gives its id. Not repeated where it may have happened.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where the name is taken.
    pub async fn create_private_project(&self, name: &str) -> Result<i64, Error> {
        let operation = format!("create project {name}");
        let body = json!({ "project_name": name, "metadata": { "public": "false" }, "storage_limit": -1 });
        let answer = self.send(&Call::api(&operation, Method::POST, "/projects").body(&body)).await?;
        self.created_id(&operation, &answer.headers)
    }

    /// Makes an existing project private.
    pub async fn make_project_private(&self, name: &str) -> Result<(), Error> {
        let operation = format!("make project {name} private");
        let body = json!({ "metadata": { "public": "false" } });
        let path = format!("/projects/{}", segment(name));
        self.send(&Call::api(&operation, Method::PUT, &path).body(&body)).await.map(drop)
    }

    /// All projects that our login may see.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] where Harbor does not know our login: it then lists the public projects with 200, which
    /// must not pass for all of them.
    pub async fn projects(&self) -> Result<Vec<Project>, Error> {
        let operation = "list the projects";
        let projects = self.list(operation, "/projects", |project: &Project| project.id).await?;
        if !self.system_info().await?.is_authenticated() {
            let text = "only the public projects were listed".to_owned();
            return Err(self.error(operation, ErrorKind::Unauthorized(text)));
        }
        Ok(projects)
    }

    /// Sees to it that the project is there and private, whatever was there before.
    pub async fn ensure_private_project(&self, name: &str) -> Result<Ensured, Error> {
        if !self.project_exists(name).await? {
            match self.create_private_project(name).await {
                Ok(_) => return Ok(Ensured::Created),
                // Somebody was faster, or our own lost request did it.
                Err(e) if e.is_conflict() => {}
                Err(e) => return Err(e),
            }
        }
        if !self.project(name).await?.is_public() {
            return Ok(Ensured::Found);
        }
        self.make_project_private(name).await?;
        if self.project(name).await?.is_public() {
            let text = format!("project {name} is still public after it was made private");
            return Err(self.error("ensure a private project", ErrorKind::Malformed(text)));
        }
        Ok(Ensured::MadePrivate)
    }

    /// The id at the end of `Location`, which is all that Harbor says of some things that it made.
    pub(crate) fn created_id(&self, operation: &str, headers: &HeaderMap) -> Result<i64, Error> {
        headers
            .get(LOCATION)
            .and_then(|v| v.to_str().ok())
            .and_then(|location| location.rsplit('/').next())
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| self.error(operation, ErrorKind::Malformed("no id in Location".to_owned())))
    }
}
