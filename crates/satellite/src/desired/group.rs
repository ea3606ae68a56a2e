//! A group's document, read entry by entry: one that makes no sense harms no other.

use std::collections::BTreeSet;

use fleet_protocol::state::Artifact;
use oci::RepositoryName;
use serde_json::Value;

use crate::plan::Entry;

/// An entry that cannot be worked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadEntry {
    /// The group that lists it.
    pub group: String,
    /// What it seems to mean, for people.
    pub reference: String,
    /// Its repository, where that much can be read.
    pub repository: Option<RepositoryName>,
    /// What is wrong with it.
    pub reason: String,
}

/// A group's document.
#[derive(Debug, Clone, Default)]
pub(super) struct Group {
    name: String,
    registry: String,
    pub(super) artifacts: Vec<Artifact>,
    pub(super) bad: Vec<BadEntry>,
}

impl Group {
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        Self::from_value(serde_json::from_str(json).map_err(|error| error.to_string())?)
    }

    pub(super) fn from_value(mut value: Value) -> Result<Self, String> {
        let document = value.as_object_mut().ok_or("a group state is a JSON object")?;
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => text.trim().to_owned(),
            _ => String::new(),
        };
        let name = text(document.remove("group"));
        let registry = text(document.remove("registry"));
        let list = match document.remove("artifacts") {
            Some(Value::Array(list)) => list,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err("`artifacts` is no list".to_owned()),
        };
        let mut group = Self { name, registry, ..Self::default() };
        for value in list {
            match entry(&value) {
                Ok(artifact) => group.artifacts.push(artifact),
                Err(reason) => group.bad.push(bad(&value, reason)),
            }
        }
        Ok(group)
    }

    pub(super) fn name_or(&self, url: &str) -> String {
        if self.name.is_empty() { url.to_owned() } else { self.name.clone() }
    }

    /// The registry of the artifacts; where the document names none, the one that it came from.
    pub(super) fn registry_or(&self, url: &str) -> String {
        if self.registry.is_empty() { url.to_owned() } else { self.registry.clone() }
    }

    pub(super) fn entries(&self, group: &str, registry: &str, entries: &mut Vec<Entry>) {
        entries.extend(self.artifacts.iter().map(|artifact| Entry {
            group: group.to_owned(),
            registry: registry.to_owned(),
            repository: artifact.repository.clone(),
            tags: artifact.tags.iter().cloned().collect::<BTreeSet<_>>(),
            digest: artifact.digest,
            deleted: artifact.deleted,
            platforms: artifact.platforms.clone(),
            referrers: artifact.referrers,
        }));
    }
}

fn entry(value: &Value) -> Result<Artifact, String> {
    let artifact: Artifact = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
    if artifact.tags.is_empty() && artifact.digest.is_none() && !artifact.deleted {
        return Err("it has neither tag nor digest".to_owned());
    }
    Ok(artifact)
}

fn bad(value: &Value, reason: String) -> BadEntry {
    let repository = value.get("repository").and_then(Value::as_str);
    let tag = match value.get("tag") {
        Some(Value::String(tag)) => Some(tag.as_str()),
        Some(Value::Array(tags)) => tags.iter().find_map(Value::as_str),
        _ => None,
    };
    let reference = match (repository, tag) {
        (Some(repository), Some(tag)) => format!("{repository}:{tag}"),
        (Some(repository), None) => repository.to_owned(),
        (None, _) => "(entry without a repository)".to_owned(),
    };
    BadEntry {
        group: String::new(),
        reference: reference.chars().filter(|c| !c.is_control()).take(300).collect(),
        repository: repository.and_then(|repository| repository.parse().ok()),
        reason: format!("the entry makes no sense: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_bad_entry_harms_only_itself() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let group = Group::from_value(json!({
            "group": "g", "registry": "https://h", "unknown": {"x": 1},
            "artifacts": [
                {"repository": "library/nginx", "tag": "latest", "digest": digest},
                {"repository": "Library/NGINX", "tag": ["latest"], "digest": digest},
                {"repository": "library/redis", "tag": ["7"], "digest": "sha256:short"},
                {"repository": "library/empty"},
                {"repository": "by/digest", "digest": digest, "labels": [{"name": "x"}]},
                {"repository": "gone", "tag": [], "deleted": true},
                17,
            ],
        }))
        .unwrap();
        let good: Vec<&str> = group.artifacts.iter().map(|artifact| artifact.repository.as_str()).collect();
        assert_eq!(good, ["library/nginx", "by/digest", "gone"]);
        let bad: Vec<&str> = group.bad.iter().map(|bad| bad.reference.as_str()).collect();
        assert_eq!(
            bad,
            ["Library/NGINX:latest", "library/redis:7", "library/empty", "(entry without a repository)"]
        );
        assert_eq!(group.bad[1].repository.as_ref().map(RepositoryName::as_str), Some("library/redis"));
    }

    #[test]
    fn what_is_no_group_is_refused_whole() {
        assert!(Group::from_value(json!([])).is_err());
        assert!(Group::from_value(json!({"artifacts": "all"})).is_err());
        assert!(Group::from_value(json!({"artifacts": null})).unwrap().artifacts.is_empty());
    }
}
