//! State documents: their names, the outbox that asks for them, and how they follow from the records.

use std::fmt;
use std::str::FromStr;

use fleet_protocol::{GroupState, SatelliteState};
use jiff::Timestamp;
use oci::Digest;
use serde_json::Value;

use crate::store::DocumentSource;

/// The kinds of state document, in the order in which they are published: what is named before what names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentKind {
    /// A configuration's document.
    Config,
    /// A group's document.
    Group,
    /// A satellite's document, which names the others.
    Satellite,
}

impl DocumentKind {
    /// The name in keys and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Group => "group",
            Self::Satellite => "satellite",
        }
    }

    /// The place in the order of publication.
    pub fn rank(self) -> i64 {
        match self {
            Self::Config => 0,
            Self::Group => 1,
            Self::Satellite => 2,
        }
    }
}

/// Which document: its kind and the name of what it describes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentKey {
    /// The kind.
    pub kind: DocumentKind,
    /// The satellite's, group's or configuration's name.
    pub name: String,
}

impl DocumentKey {
    /// The document of the satellite called `name`.
    pub fn satellite(name: impl Into<String>) -> Self {
        Self { kind: DocumentKind::Satellite, name: name.into() }
    }

    /// The document of the group called `name`.
    pub fn group(name: impl Into<String>) -> Self {
        Self { kind: DocumentKind::Group, name: name.into() }
    }

    /// The document of the configuration called `name`.
    pub fn config(name: impl Into<String>) -> Self {
        Self { kind: DocumentKind::Config, name: name.into() }
    }

    /// The repository that holds the document.
    pub fn repository(&self) -> String {
        format!("satellite/{}-state/{}/state", self.kind.as_str(), self.name)
    }

    /// The document's reference as satellites are told it: `<registry>/<repository>:latest`.
    pub fn reference(&self, registry: &str) -> String {
        format!("{}/{}:{TAG}", registry.trim_end_matches('/'), self.repository())
    }
}

/// The tag that every document is published under.
pub const TAG: &str = "latest";

impl fmt::Display for DocumentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)
    }
}

impl FromStr for DocumentKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').ok_or_else(|| format!("{text:?} is no document key"))?;
        let kind = match kind {
            "config" => DocumentKind::Config,
            "group" => DocumentKind::Group,
            "satellite" => DocumentKind::Satellite,
            other => return Err(format!("{other:?} is no kind of document")),
        };
        Ok(Self { kind, name: name.to_owned() })
    }
}

/// An intent to publish that a publisher has claimed for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The document.
    pub document: DocumentKey,
    /// Which change asked last: finishing the work says this, so that a newer change is never swallowed.
    pub change: String,
    /// How often publishing it failed so far.
    pub attempts: u32,
    /// Whether the registry is to be looked at even if the document has not changed.
    pub verify: bool,
    /// When it was asked for first.
    pub enqueued_at: Timestamp,
}

/// What the registry is known to hold of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The manifest's digest.
    pub digest: Digest,
    /// Counts the changes of this document; never falls.
    pub generation: u64,
    /// When it was published.
    pub published_at: Timestamp,
}

/// A manifest that a newer one took the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The document.
    pub document: DocumentKey,
    /// The manifest to be removed from its repository.
    pub digest: Digest,
}

/// How far the publisher is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxLag {
    /// Documents that wait to be published.
    pub waiting: u64,
    /// Those among them that have failed at least once.
    pub failing: u64,
    /// When the oldest of them was asked for.
    pub oldest: Option<Timestamp>,
}

/// The document that follows from the records, as JSON; `None` where what it describes is gone.
///
/// References and the registry's URL are written with the scheme of `registry`, the central registry's public URL.
pub fn build(
    document: &DocumentKey,
    source: &DocumentSource,
    registry: &str,
) -> Result<Option<Value>, serde_json::Error> {
    let registry = registry.trim_end_matches('/');
    Ok(Some(match source {
        DocumentSource::Gone => return Ok(None),
        DocumentSource::Config(config) => config.clone(),
        DocumentSource::Group(group) => serde_json::to_value(GroupState {
            group: document.name.clone(),
            registry: registry.to_owned(),
            artifacts: group.artifacts.clone(),
        })?,
        DocumentSource::Satellite(satellite) => serde_json::to_value(SatelliteState {
            states: satellite.groups.iter().map(|g| DocumentKey::group(g).reference(registry)).collect(),
            config: DocumentKey::config(&satellite.config).reference(registry),
        })?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{GroupSource, SatelliteSource};
    use fleet_protocol::ConfigDocument;
    use serde_json::json;

    const REGISTRY: &str = "https://registry.example.com";

    #[test]
    fn a_satellites_document_names_its_groups_and_its_config() {
        let source = DocumentSource::Satellite(SatelliteSource {
            groups: vec!["a".into(), "us-east".into()],
            config: "default".into(),
            unpublished: Vec::new(),
        });
        let document = build(&DocumentKey::satellite("edge-01"), &source, "https://registry.example.com/");
        assert_eq!(
            document.unwrap().unwrap(),
            json!({
                "states": [
                    "https://registry.example.com/satellite/group-state/a/state:latest",
                    "https://registry.example.com/satellite/group-state/us-east/state:latest",
                ],
                "config": "https://registry.example.com/satellite/config-state/default/state:latest",
            })
        );
    }

    #[test]
    fn a_groups_document_holds_its_list_as_given() {
        let digest = Digest::sha256(b"x");
        let given = json!([
            {"repository": "library/nginx", "tag": ["latest"], "labels": [], "type": "image",
             "digest": digest.to_string(), "deleted": false},
            {"repository": "a/b/c", "tag": ["1", "2"], "labels": ["l", {"k": "v"}], "type": "chart", "deleted": true},
        ]);
        let artifacts = serde_json::from_value(given.clone()).unwrap();
        let document = build(
            &DocumentKey::group("g"),
            &DocumentSource::Group(GroupSource { artifacts, unseen: false }),
            REGISTRY,
        );
        assert_eq!(
            document.unwrap().unwrap(),
            json!({"group": "g", "registry": REGISTRY, "artifacts": given})
        );
    }

    #[test]
    fn an_empty_group_has_an_empty_list() {
        let document =
            build(&DocumentKey::group("g"), &DocumentSource::Group(GroupSource::default()), REGISTRY);
        assert_eq!(document.unwrap().unwrap()["artifacts"], json!([]));
    }

    #[test]
    fn a_config_is_published_as_it_is_kept() {
        let kept = fleet_protocol::config::default_document();
        let document =
            build(&DocumentKey::config("default"), &DocumentSource::Config(kept.clone()), REGISTRY);
        let document = document.unwrap().unwrap();
        assert_eq!(document, kept);
        assert!(serde_json::from_value::<ConfigDocument>(document).is_ok());
    }

    #[test]
    fn what_is_gone_has_no_document() {
        assert_eq!(build(&DocumentKey::group("g"), &DocumentSource::Gone, REGISTRY).unwrap(), None);
    }

    #[test]
    fn keys_name_their_repository_and_read_back() {
        for (key, repository) in [
            (DocumentKey::satellite("edge-01"), "satellite/satellite-state/edge-01/state"),
            (DocumentKey::group("us-east"), "satellite/group-state/us-east/state"),
            (DocumentKey::config("default"), "satellite/config-state/default/state"),
        ] {
            assert_eq!(key.repository(), repository);
            assert_eq!(key.to_string().parse::<DocumentKey>(), Ok(key.clone()));
            assert_eq!(
                key.reference("https://registry.example.com/"),
                format!("https://registry.example.com/{repository}:latest")
            );
        }
        assert!("edge-01".parse::<DocumentKey>().is_err());
        assert!("robot/edge-01".parse::<DocumentKey>().is_err());
    }
}
