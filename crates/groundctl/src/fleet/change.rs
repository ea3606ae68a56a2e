//! One change, and how it is told.

use std::collections::BTreeMap;
use std::fmt;

use fleet_protocol::Artifact;
use ground_control_domain::label::{Labels, Selector};
use ground_control_domain::revision;
use serde::Serialize;
use serde_json::Value;

use super::{DEFAULT_CONFIG, Kind};

/// A change: one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    CreateConfig {
        name: String,
        document: Value,
    },
    PatchConfig {
        name: String,
        patch: Value,
        before: Value,
        after: Value,
    },
    /// Gives a group its list; where there was none, makes it.
    SyncGroup {
        name: String,
        before: Option<Vec<Artifact>>,
        artifacts: Vec<Artifact>,
    },
    Select {
        group: String,
        before: Option<Selector>,
        selector: Option<Selector>,
    },
    CreateSatellite {
        name: String,
        groups: Vec<String>,
        config: Option<String>,
    },
    Label {
        satellite: String,
        before: Labels,
        after: Labels,
    },
    AssignConfig {
        satellite: String,
        before: Option<String>,
        config: String,
    },
    Join {
        satellite: String,
        group: String,
    },
    Leave {
        satellite: String,
        group: String,
    },
    DeleteSatellite {
        name: String,
    },
    DeleteGroup {
        name: String,
    },
    DeleteConfig {
        name: String,
    },
}

/// What happens to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
}

/// How a line of a difference begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sign {
    /// `+`: it comes.
    Add,
    /// `~`: it becomes something else.
    Change,
    /// `-`: it goes.
    Remove,
}

impl Sign {
    /// The sign.
    pub(crate) fn mark(self) -> char {
        match self {
            Self::Add => '+',
            Self::Change => '~',
            Self::Remove => '-',
        }
    }
}

/// A line of a difference.
pub(crate) type Line = (Sign, String);

impl Change {
    /// What it is done to.
    pub(crate) fn subject(&self) -> (Kind, &str) {
        match self {
            Self::CreateConfig { name, .. }
            | Self::PatchConfig { name, .. }
            | Self::DeleteConfig { name } => (Kind::Config, name),
            Self::SyncGroup { name, .. } | Self::Select { group: name, .. } | Self::DeleteGroup { name } => {
                (Kind::Group, name)
            }
            Self::CreateSatellite { name, .. }
            | Self::DeleteSatellite { name }
            | Self::Label { satellite: name, .. }
            | Self::AssignConfig { satellite: name, .. }
            | Self::Join { satellite: name, .. }
            | Self::Leave { satellite: name, .. } => (Kind::Satellite, name),
        }
    }

    /// What it does to it.
    pub(crate) fn action(&self) -> Action {
        match self {
            Self::CreateConfig { .. }
            | Self::CreateSatellite { .. }
            | Self::SyncGroup { before: None, .. } => Action::Create,
            Self::DeleteConfig { .. } | Self::DeleteGroup { .. } | Self::DeleteSatellite { .. } => {
                Action::Delete
            }
            _ => Action::Update,
        }
    }

    /// What comes, changes and goes by it.
    pub(crate) fn lines(&self) -> Vec<Line> {
        match self {
            Self::CreateConfig { document, .. } => values(&Value::Null, document),
            Self::PatchConfig { before, after, .. } => values(before, after),
            Self::SyncGroup { before, artifacts, .. } => {
                list(before.as_deref().unwrap_or_default(), artifacts)
            }
            Self::Select { before, selector, .. } => {
                let text = |selector: &Option<Selector>| selector.as_ref().map(|s| format!("selector {s}"));
                step(text(before), text(selector))
            }
            Self::CreateSatellite { groups, config, .. } => {
                let config = config.as_deref().unwrap_or(DEFAULT_CONFIG);
                let groups = groups.iter().map(|group| format!("group {group}"));
                std::iter::once(format!("config {config}"))
                    .chain(groups)
                    .map(|text| (Sign::Add, text))
                    .collect()
            }
            Self::Label { before, after, .. } => labels(before, after),
            Self::AssignConfig { before, config, .. } => step(
                before.as_ref().map(|before| format!("config {before}")),
                Some(format!("config {config}")),
            ),
            Self::Join { group, .. } => vec![(Sign::Add, format!("group {group}"))],
            Self::Leave { group, .. } => vec![(Sign::Remove, format!("group {group}"))],
            Self::DeleteConfig { .. } | Self::DeleteGroup { .. } | Self::DeleteSatellite { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateConfig { name, .. } => write!(f, "create config {name}"),
            Self::PatchConfig { name, .. } => write!(f, "change config {name}"),
            Self::SyncGroup { name, before: None, .. } => write!(f, "create group {name}"),
            Self::SyncGroup { name, .. } => write!(f, "change the artifacts of group {name}"),
            Self::Select { group, .. } => write!(f, "change the selector of group {group}"),
            Self::CreateSatellite { name, .. } => write!(f, "create satellite {name}"),
            Self::Label { satellite, .. } => write!(f, "label satellite {satellite}"),
            Self::AssignConfig { satellite, config, .. } => {
                write!(f, "give satellite {satellite} config {config}")
            }
            Self::Join { satellite, group } => write!(f, "put satellite {satellite} into group {group}"),
            Self::Leave { satellite, group } => write!(f, "take satellite {satellite} out of group {group}"),
            Self::DeleteSatellite { name } => write!(f, "delete satellite {name}"),
            Self::DeleteGroup { name } => write!(f, "delete group {name}"),
            Self::DeleteConfig { name } => write!(f, "delete config {name}"),
        }
    }
}

/// A thing that changes are made to, with all of them.
#[derive(Debug, Serialize)]
pub(crate) struct Touched {
    /// What happens to it.
    pub(crate) action: Action,
    /// What it is.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
    /// What comes, changes and goes.
    #[serde(serialize_with = "as_texts")]
    pub(crate) lines: Vec<Line>,
}

fn as_texts<S: serde::Serializer>(lines: &[Line], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(lines.iter().map(|(sign, text)| format!("{} {text}", sign.mark())))
}

impl Touched {
    /// Gathers the changes of each thing, in the order of the plan.
    pub(crate) fn of<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for change in changes {
            let (kind, name) = change.subject();
            match all.last_mut().filter(|last| last.kind == kind && last.name == name) {
                Some(last) => last.lines.extend(change.lines()),
                None => all.push(Self {
                    action: change.action(),
                    kind,
                    name: name.to_owned(),
                    lines: change.lines(),
                }),
            }
        }
        all
    }
}

/// How many things are made, changed and deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// Made.
    pub(crate) create: usize,
    /// Changed.
    pub(crate) update: usize,
    /// Deleted.
    pub(crate) delete: usize,
}

impl Summary {
    /// Counts.
    pub(crate) fn of(touched: &[Touched]) -> Self {
        let count = |action| touched.iter().filter(|one| one.action == action).count();
        Self { create: count(Action::Create), update: count(Action::Update), delete: count(Action::Delete) }
    }
}

fn step(before: Option<String>, after: Option<String>) -> Vec<Line> {
    match (before, after) {
        (None, Some(after)) => vec![(Sign::Add, after)],
        (Some(before), None) => vec![(Sign::Remove, before)],
        (Some(before), Some(after)) => vec![(Sign::Change, format!("{before} → {after}"))],
        (None, None) => Vec::new(),
    }
}

/// The settings of a document in which two differ, each by its path.
fn values(before: &Value, after: &Value) -> Vec<Line> {
    let (before, after) = (leaves(before), leaves(after));
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort();
    paths.dedup();
    let mut lines = Vec::new();
    for path in paths {
        match (before.get(path), after.get(path)) {
            (None, Some(value)) => lines.push((Sign::Add, format!("{path}: {value}"))),
            (Some(value), None) => lines.push((Sign::Remove, format!("{path}: {value}"))),
            (Some(from), Some(to)) if from != to => {
                lines.push((Sign::Change, format!("{path}: {from} → {to}")))
            }
            _ => {}
        }
    }
    lines
}

fn leaves(document: &Value) -> BTreeMap<String, &Value> {
    fn gather<'a>(value: &'a Value, path: &str, found: &mut BTreeMap<String, &'a Value>) {
        match value {
            Value::Object(members) if !members.is_empty() || path.is_empty() => {
                for (key, member) in members {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    gather(member, &path, found);
                }
            }
            Value::Null if path.is_empty() => {}
            leaf => {
                found.insert(path.to_owned(), leaf);
            }
        }
    }
    let mut found = BTreeMap::new();
    gather(document, "", &mut found);
    found
}

fn list(before: &[Artifact], after: &[Artifact]) -> Vec<Line> {
    let difference = revision::difference(before, after);
    let mut lines: Vec<Line> = difference.added.iter().map(|artifact| (Sign::Add, words(artifact))).collect();
    let changed = difference.changed.iter();
    lines.extend(
        changed.map(|change| (Sign::Change, format!("{} → {}", words(&change.from), words(&change.to)))),
    );
    lines.extend(difference.removed.iter().map(|artifact| (Sign::Remove, words(artifact))));
    if difference.reordered || (lines.is_empty() && before != after) {
        lines.push((Sign::Change, "artifacts in another order".to_owned()));
    }
    lines
}

/// An artifact in a few words.
fn words(artifact: &Artifact) -> String {
    let mut text = artifact.repository.to_string();
    let mut say = |words: String| {
        text.push(' ');
        text.push_str(&words);
    };
    if !artifact.tags.is_empty() {
        say(artifact.tags.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(","));
    }
    if let Some(digest) = &artifact.digest {
        say(format!("@{digest}"));
    }
    if let Some(pattern) = &artifact.pattern {
        say(format!("{pattern} (newest {})", artifact.keep.unwrap_or(1)));
    }
    if !artifact.platforms.is_empty() {
        let platforms: Vec<String> = artifact.platforms.iter().map(ToString::to_string).collect();
        say(format!("for {}", platforms.join(",")));
    }
    if !artifact.labels.is_empty() {
        let labels: Vec<String> = artifact.labels.iter().map(ToString::to_string).collect();
        say(format!("labels {}", labels.join(",")));
    }
    if artifact.kind != "image" {
        say(format!("of type {}", artifact.kind));
    }
    if artifact.deleted {
        say("must not be there".to_owned());
    }
    text
}

fn labels(before: &Labels, after: &Labels) -> Vec<Line> {
    let mut lines = Vec::new();
    for (key, value) in after {
        match before.get(key) {
            None => lines.push((Sign::Add, format!("label {key}={value}"))),
            Some(other) if other != value => {
                lines.push((Sign::Change, format!("label {key}={other} → {value}")))
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    lines.extend(gone.map(|(key, value)| (Sign::Remove, format!("label {key}={value}"))));
    lines
}
