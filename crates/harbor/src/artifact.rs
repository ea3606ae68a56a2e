//! What lies in a repository: artifacts with their tags, and how they are deleted.

use http::Method;
use jiff::Timestamp;
use oci::{Digest, RepositoryName};
use serde::{Deserialize, Deserializer};

use crate::client::{Client, segment, twice};
use crate::error::{Error, ErrorKind};
use crate::send::Call;

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Repository {
    /// Its number.
    pub id: i64,
    /// Its full name, the project first.
    pub name: String,
    /// How many artifacts it holds.
    #[serde(default)]
    pub artifact_count: i64,
}

/// One manifest of a repository, with what Harbor knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Artifact {
    /// Its number.
    pub id: i64,
    /// Its digest.
    pub digest: Digest,
    /// `IMAGE`, `CHART`, …
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The media type of its manifest.
    #[serde(default)]
    pub manifest_media_type: String,
    /// Bytes, all that it holds included.
    #[serde(default)]
    pub size: i64,
    /// When it was pushed.
    #[serde(default, deserialize_with = "time")]
    pub push_time: Option<Timestamp>,
    /// Its tags; none where it was pushed by digest.
    #[serde(default, deserialize_with = "list")]
    pub tags: Vec<Tag>,
    /// What an index names.
    #[serde(default, rename = "references", deserialize_with = "list")]
    pub children: Vec<Child>,
    #[serde(default)]
    extra_attrs: Option<Extra>,
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Tag {
    /// The tag itself.
    pub name: String,
    /// When it was set to this artifact.
    #[serde(default, deserialize_with = "time")]
    pub push_time: Option<Timestamp>,
    /// Whether a rule forbids to move it.
    #[serde(default)]
    pub immutable: bool,
}

/// A manifest that an index names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Child {
    /// Its digest.
    #[serde(rename = "child_digest")]
    pub digest: Digest,
}

/// What Harbor read in an image's config.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Extra {
    #[serde(default)]
    created: Option<String>,
}

impl Artifact {
    /// When its image's config says that it was made.
    pub fn created(&self) -> Option<Timestamp> {
        self.extra_attrs.as_ref()?.created.as_deref()?.parse().ok()
    }
}

/// An empty list is `null` here.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The first second of the year 1 stands for "never".
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let time: Option<Timestamp> = Option::deserialize(deserializer)?;
    Ok(time.filter(|time| *time > Timestamp::UNIX_EPOCH))
}

impl Client {
    /// All repositories of a project.
    pub async fn repositories(&self, project: &str) -> Result<Vec<Repository>, Error> {
        let operation = format!("list the repositories of project {project}");
        let path = format!("/projects/{}/repositories", segment(project));
        self.list(&operation, &path, |repository: &Repository| repository.id).await
    }

    /// All artifacts of a repository with their tags. **An unknown repository, or one of an unknown project, is an empty list**:
    /// that something is not in it does not mean that a person removed it.
    pub async fn artifacts(&self, repository: &RepositoryName) -> Result<Vec<Artifact>, Error> {
        let operation = format!("list the artifacts of {repository}");
        let path = format!("{}/artifacts?with_tag=true", self.path(&operation, repository)?);
        self.list(&operation, &path, |artifact: &Artifact| artifact.id).await
    }

    /// The artifact that a tag or digest names.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none.
    pub async fn artifact(&self, repository: &RepositoryName, reference: &str) -> Result<Artifact, Error> {
        let operation = format!("get artifact {reference} of {repository}");
        let path =
            format!("{}/artifacts/{}?with_tag=true", self.path(&operation, repository)?, segment(reference));
        self.json(&Call::api(&operation, Method::GET, &path)).await
    }

    /// Deletes an artifact with all its tags; `false` when it was gone.
    ///
    /// # Errors
    /// [`ErrorKind::Precondition`] while an index names it.
    pub async fn delete_artifact(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, Error> {
        let operation = format!("delete artifact {digest} of {repository}");
        let path =
            format!("{}/artifacts/{}", self.path(&operation, repository)?, segment(&digest.to_string()));
        self.delete(&operation, &path).await
    }

    /// Takes a tag from an artifact; `false` when it had none of this name. A tag that was moved to another artifact stays.
    pub async fn delete_tag(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        tag: &str,
    ) -> Result<bool, Error> {
        let operation = format!("delete tag {tag} of {repository}");
        let digest = segment(&digest.to_string());
        let path = format!("{}/artifacts/{digest}/tags/{}", self.path(&operation, repository)?, segment(tag));
        self.delete(&operation, &path).await
    }

    /// Deletes a repository with all that it holds; `false` when it was gone.
    pub async fn delete_repository(&self, repository: &RepositoryName) -> Result<bool, Error> {
        let operation = format!("delete repository {repository}");
        let path = self.path(&operation, repository)?;
        self.delete(&operation, &path).await
    }

    /// `/projects/<project>/repositories/<rest, encoded twice>`.
    fn path(&self, operation: &str, repository: &RepositoryName) -> Result<String, Error> {
        let Some((project, rest)) = repository.as_str().split_once('/') else {
            let text = format!("{repository} has no project: a repository of Harbor's is project/name");
            return Err(self.error(operation, ErrorKind::Input(text)));
        };
        Ok(format!("/projects/{}/repositories/{}", segment(project), twice(rest)))
    }
}
