//! Carrying a plan out: one request for each change, in its order, until one fails.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fleet_protocol::GroupState;
use fleet_protocol::api::{
    ConfigAssignment, GroupMember, GroupSelector, NewConfig, NewSatellite, NewSatelliteAnswer,
};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

use super::seen;
use crate::cli::Output;
use crate::client::{Client, Ignored};
use crate::error::Error;
use crate::fleet::{Change, Current};
use crate::private_file::PrivateFile;

/// What came of a plan.
pub(super) struct Outcome {
    /// What was done, in words.
    pub(super) done: Vec<String>,
    /// What was not, in words: the change that failed and those behind it.
    pub(super) not_done: Vec<String>,
    /// Where the one-time tokens of new satellites are.
    pub(super) token_files: BTreeMap<String, PathBuf>,
    /// Why it ended early.
    pub(super) result: Result<(), Error>,
}

/// Where the one-time tokens of new satellites go: they are shown by Ground Control this once, so there is a place before one is asked for.
pub(super) struct Tokens(Option<PathBuf>);

impl Tokens {
    /// Makes the folder; refuses a plan that creates satellites where none was named.
    pub(super) fn prepare(changes: &[Change], folder: Option<&Path>) -> Result<Self, Error> {
        let new: Vec<&str> = changes
            .iter()
            .filter_map(|change| match change {
                Change::CreateSatellite { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        match (new.first(), folder) {
            (None, _) => Ok(Self(None)),
            (Some(first), None) => Err(Error::Input(format!(
                "nothing was changed: {} satellite(s) are not there ({first}, …). Create them here with --token-dir DIR, which keeps \
                 their one-time tokens, or with `groundctl satellites register` where they have SPIFFE identities",
                new.len()
            ))),
            (Some(_), Some(folder)) => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)
                    .map_err(Error::io(format!("the folder {} cannot be made", folder.display())))?;
                Ok(Self(Some(folder.to_owned())))
            }
        }
    }
}

/// Carries the changes out. The first that fails ends it: what comes after may need it.
pub(super) async fn out(
    client: &Client,
    output: Output,
    current: &Current,
    changes: &[Change],
    tokens: &Tokens,
) -> Outcome {
    let all = changes.len();
    let mut outcome =
        Outcome { done: Vec::new(), not_done: Vec::new(), token_files: BTreeMap::new(), result: Ok(()) };
    let mut changes = changes.iter();
    for change in changes.by_ref() {
        let words = change.to_string();
        match one(client, current, change, tokens, &mut outcome.token_files).await {
            Ok(()) => {
                if output == Output::Table {
                    println!("done: {words}");
                }
                outcome.done.push(words);
            }
            Err(error) => {
                let (done, what) = (outcome.done.len(), words.clone());
                outcome.result = Err(Error::Partly { done, all, what, error: Box::new(error) });
                outcome.not_done.push(words);
                break;
            }
        }
    }
    outcome.not_done.extend(changes.map(ToString::to_string));
    if output == Output::Table {
        outcome.not_done.iter().for_each(|words| println!("not done: {words}"));
        for (satellite, path) in &outcome.token_files {
            println!("the one-time token of satellite {satellite} is in {}", path.display());
        }
        if outcome.result.is_ok() {
            println!("Done: {all} changes.");
        }
    }
    outcome
}

async fn one(
    client: &Client,
    current: &Current,
    change: &Change,
    tokens: &Tokens,
    files: &mut BTreeMap<String, PathBuf>,
) -> Result<(), Error> {
    let seen = seen::unchanged(client, current, change).await?;
    let Request { method, path, body } = Request::of(change)?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (body, seen) = (body.as_ref(), seen.as_deref());
    let Change::CreateSatellite { name, .. } = change else {
        let _: Ignored = match method {
            Method::POST => client.make(&path, body, seen).await?,
            _ => client.send_if(method, &path, body, seen).await?,
        };
        return Ok(());
    };
    // What cannot be kept is not made.
    let file = PrivateFile::prepare(&tokens.0.as_deref().unwrap_or(Path::new(".")).join(name))?;
    let answer: NewSatelliteAnswer = client.make(&path, body, None).await?;
    let path = file.path().to_owned();
    file.keep(answer.token.as_bytes())?;
    files.insert(name.clone(), path);
    Ok(())
}

/// What Ground Control is asked for a change.
struct Request {
    method: Method,
    path: Vec<String>,
    body: Option<Value>,
}

impl Request {
    fn of(change: &Change) -> Result<Self, Error> {
        let of = |method, path: &[&str], body: Option<Value>| {
            let path = ["api"].iter().chain(path).map(|part| (*part).to_owned()).collect();
            Self { method, path, body }
        };
        let member = |method, satellite: &str, group: &str| {
            let (satellite, group) = (satellite.to_owned(), group.to_owned());
            Ok(of(method, &["groups", "satellite"], json(&GroupMember { satellite, group })?))
        };
        match change {
            Change::CreateConfig { name, document } => {
                let request =
                    NewConfig { config_name: name.clone(), registry: None, config: document.clone() };
                Ok(of(Method::POST, &["configs"], json(&request)?))
            }
            Change::PatchConfig { name, patch, .. } => {
                Ok(of(Method::PATCH, &["configs", name], Some(patch.clone())))
            }
            Change::SyncGroup { name, artifacts, .. } => {
                let (group, artifacts) = (name.clone(), artifacts.clone());
                let request = GroupState { group, registry: String::new(), artifacts };
                Ok(of(Method::POST, &["groups", "sync"], json(&request)?))
            }
            Change::Select { group, selector, .. } => {
                let request = GroupSelector { selector: selector.as_ref().map(ToString::to_string) };
                Ok(of(Method::PUT, &["groups", group, "selector"], json(&request)?))
            }
            Change::CreateSatellite { name, groups, config } => {
                let (groups, config_name) = (Some(groups.clone()), config.clone());
                let request = NewSatellite { name: name.clone(), groups, config_name };
                Ok(of(Method::POST, &["satellites"], json(&request)?))
            }
            Change::Label { satellite, before, after } => {
                let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key, None));
                let set = after.iter().map(|(key, value)| (key, Some(value)));
                let patch: BTreeMap<&String, Option<&String>> = gone.chain(set).collect();
                Ok(of(Method::PATCH, &["satellites", satellite, "labels"], json(&patch)?))
            }
            Change::AssignConfig { satellite, config, .. } => {
                let (satellite, config_name) = (satellite.clone(), config.clone());
                let request = ConfigAssignment { satellite, config_name };
                Ok(of(Method::POST, &["configs", "satellite"], json(&request)?))
            }
            Change::Join { satellite, group } => member(Method::POST, satellite, group),
            Change::Leave { satellite, group } => member(Method::DELETE, satellite, group),
            Change::DeleteSatellite { name } => Ok(of(Method::DELETE, &["satellites", name], None)),
            Change::DeleteGroup { name } => Ok(of(Method::DELETE, &["groups", name], None)),
            Change::DeleteConfig { name } => Ok(of(Method::DELETE, &["configs", name], None)),
        }
    }
}

fn json<T: Serialize>(body: &T) -> Result<Option<Value>, Error> {
    serde_json::to_value(body).map(Some).map_err(|error| Error::Input(error.to_string()))
}
