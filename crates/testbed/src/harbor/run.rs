//! A run at a Harbor that others use, too: it refuses where it could be in the way, and takes along what it brought.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{Harbor, Inventory, Record, encoded, repository_path};
use crate::{Error, Result};

/// What every name begins with that a run gives.
pub const PREFIX: &str = "hslive-";
/// The project of state documents, of which a Harbor has one.
pub const STATE_PROJECT: &str = "satellite";
/// Repositories that may lie in it where a run made it.
const DOCUMENTS: [&str; 3] =
    ["satellite/satellite-state/", "satellite/group-state/", "satellite/config-state/"];
/// What stands in the description of every robot that Ground Control makes.
const MADE_BY: &str = "made by Ground Control";
/// How often a project is asked to go that Harbor is not done with.
const TRIES: u32 = 10;

/// A run: what it made is deleted by [`Run::end`].
#[derive(Debug)]
pub struct Run {
    harbor: Harbor,
    record: Mutex<Record>,
}

impl Run {
    /// Clears away what runs have left whose process is gone, and begins.
    ///
    /// # Errors
    /// Where the project of state documents exists; nothing was changed then.
    pub async fn begin(harbor: Harbor) -> Result<Self> {
        for record in Record::left(harbor.url()) {
            let left = Self { harbor: harbor.clone(), record: Mutex::new(record) };
            left.clear().await?;
            left.record().forget()?;
        }
        if harbor.project(STATE_PROJECT).await?.is_some() {
            return Err(Error::Content(format!(
                "the project `{STATE_PROJECT}` exists at {}: a Ground Control uses this Harbor, or its documents are still \
                 there. The suite makes and deletes that project, so it does not run here; nothing was changed",
                harbor.url()
            )));
        }
        let record = Record {
            url: harbor.url().to_owned(),
            prefix: format!("{PREFIX}{:08x}", rand::random::<u32>()),
            pid: std::process::id(),
            before: Inventory::take(&harbor).await?,
            ground_control: false,
            projects: std::collections::BTreeMap::new(),
            robots: std::collections::BTreeMap::new(),
        };
        record.write()?;
        Ok(Self { harbor, record: Mutex::new(record) })
    }

    /// Begins a run, and ends it whatever becomes of `flow`: when it is done, fails, panics, or a person interrupts it.
    ///
    /// # Errors
    /// Where it could not begin or end well. A panic of the flow goes on after the end.
    pub async fn guard<F: Future<Output = ()>>(
        harbor: Harbor,
        flow: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<()> {
        let listen = |kind| signal(kind).map_err(Error::io("cannot listen for signals"));
        let (mut interrupt, mut terminate) =
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let run = Arc::new(Self::begin(harbor).await?);
        // When it ends, or is dropped, everything ends that could make something anew.
        let ended = tokio::select! {
            ended = AssertUnwindSafe(flow(Arc::clone(&run))).catch_unwind() => Some(ended),
            _ = interrupt.recv() => None,
            _ = terminate.recv() => None,
        };
        let cleared = run.end().await;
        match ended {
            Some(Ok(())) => cleared,
            Some(Err(panic)) => match cleared {
                Ok(()) => resume_unwind(panic),
                Err(error) => Err(Error::Content(format!(
                    "the flow failed, as is told above, and not everything could be cleared away: {error}"
                ))),
            },
            None => {
                cleared?;
                Err(Error::Content("it was interrupted; what it had made is deleted".to_owned()))
            }
        }
    }

    /// The Harbor.
    pub fn harbor(&self) -> &Harbor {
        &self.harbor
    }

    /// A name of this run's own.
    pub fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.record().prefix)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = self.record();
        change(&mut record);
        record.write()
    }

    /// Makes a private project and gives its name.
    pub async fn create_project(&self, what: &str) -> Result<String> {
        let name = self.name(what);
        let body = json!({"project_name": name, "metadata": {"public": "false"}, "storage_limit": -1});
        let made = self.harbor.done(Method::POST, "/projects", Some(&body)).await?;
        let id = made.location.rsplit('/').next().and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| Error::Content(format!("no number in Location: {}", made.location)))?;
        self.note(|record| {
            record.projects.insert(id, name.clone());
        })?;
        Ok(name)
    }

    /// From now on a Ground Control makes things there.
    pub fn ground_control_begins(&self) -> Result<()> {
        self.note(|record| record.ground_control = true)
    }

    /// The robots of this run: those that were not there before, with a name of this run's.
    pub async fn robots(&self) -> Result<Vec<Value>> {
        let all = self.harbor.robots().await?;
        let ours: Vec<Value> = {
            let record = self.record();
            all.into_iter().filter(|robot| is_ours(&record, robot)).collect()
        };
        self.note(|record| {
            for robot in &ours {
                if let (Some(id), Some(name)) = (robot["id"].as_i64(), robot["name"].as_str()) {
                    record.robots.insert(id, name.to_owned());
                }
            }
        })?;
        Ok(ours)
    }

    /// Records what a Ground Control made by itself.
    pub async fn look(&self) -> Result<()> {
        self.robots().await?;
        let record = self.record().clone();
        let Some(project) = self.harbor.project(STATE_PROJECT).await? else { return Ok(()) };
        let id = project["project_id"].as_i64().unwrap_or_default();
        if !record.ground_control || record.before.projects.contains_key(&id) {
            return Ok(());
        }
        let repositories = self.harbor.repositories(STATE_PROJECT).await?;
        if let Some(other) =
            repositories.iter().find(|name| !DOCUMENTS.iter().any(|own| name.starts_with(own)))
        {
            return Err(Error::Content(format!(
                "the project `{STATE_PROJECT}` ({id}) came about during the run and holds {other}, which is no state \
                 document: it is left alone"
            )));
        }
        self.note(|record| {
            record.projects.insert(id, STATE_PROJECT.to_owned());
        })
    }

    /// Deletes what the run made, by number.
    async fn clear(&self) -> Result<()> {
        self.look().await?;
        let record = self.record().clone();
        for id in record.robots.keys() {
            self.harbor.delete(&format!("/robots/{id}")).await?;
        }
        for (id, name) in &record.projects {
            self.delete_project(*id, name).await?;
        }
        Ok(())
    }

    /// Deletes what the run made, by number, and checks that all else is as it was.
    ///
    /// # Errors
    /// Where something of it is left, or something is gone that was there before.
    pub async fn end(&self) -> Result<()> {
        self.clear().await?;
        let record = self.record().clone();
        let after = Inventory::take(&self.harbor).await?;
        let gone = record.before.without(&after);
        if !gone.is_empty() {
            return Err(Error::Content(format!("gone from {}: {}", record.url, gone.join(", "))));
        }
        let left: Vec<String> = after.without(&record.before);
        let left: Vec<String> = left.into_iter().filter(|what| what.contains(&record.prefix)).collect();
        if !left.is_empty() {
            return Err(Error::Content(format!("left at {}: {}", record.url, left.join(", "))));
        }
        record.forget()
    }

    /// Leaves everything to the next run, as if this were the process `pid` and killed.
    pub fn abandon(&self, pid: u32) -> Result<()> {
        self.note(|record| record.pid = pid)
    }

    /// What is at the Harbor and was not before, of whomever: nothing, where nobody else uses it.
    pub async fn besides(&self) -> Result<Vec<String>> {
        let after = Inventory::take(&self.harbor).await?;
        Ok(after.without(&self.record().before))
    }

    async fn delete_project(&self, id: i64, name: &str) -> Result<()> {
        // The number says whether it is still the one that was made.
        match self.harbor.project(&id.to_string()).await? {
            Some(project) if project["name"] == name => {}
            _ => return Ok(()),
        }
        for policy in self.harbor.policies(name).await? {
            self.delete_slowly(&format!("/projects/{}/webhook/policies/{}", encoded(name), policy["id"]))
                .await?;
        }
        for repository in self.harbor.repositories(name).await? {
            self.delete_slowly(&repository_path(&repository)).await?;
        }
        self.delete_slowly(&format!("/projects/{id}")).await
    }

    /// Harbor may not be done with what hangs on it (412).
    async fn delete_slowly(&self, path: &str) -> Result<()> {
        for _ in 1..TRIES {
            match self.harbor.delete(path).await {
                Err(Error::Answer { status, .. }) if status == StatusCode::PRECONDITION_FAILED.as_u16() => {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                other => return other,
            }
        }
        self.harbor.delete(path).await
    }
}

/// Numbers are never used twice, and nobody else's name holds what chance gave this run.
fn is_ours(record: &Record, robot: &Value) -> bool {
    let is_new = robot["id"].as_i64().is_some_and(|id| !record.before.robots.contains_key(&id));
    let text = |key: &str| robot[key].as_str().unwrap_or_default();
    is_new
        && record.ground_control
        && text("name").contains(&format!("{}-", record.prefix))
        && text("description").contains(MADE_BY)
}
