//! The state documents of satellites and groups.

use oci::{Digest, ImageReference, Platform, RepositoryName, Tag};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::name::{ConfigName, GroupName, SatelliteName};
use crate::rule::Pattern;

/// First path segment of all state documents; a private project on Harbor.
pub const PROJECT: &str = "satellite";
/// The tag of every state document.
pub const TAG: &str = "latest";

/// What a satellite shall follow: the documents of its groups and its config, as references
/// `[http[s]://]host/repository:tag`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SatelliteState {
    /// Group state documents.
    #[serde(default, deserialize_with = "null_is_default")]
    pub states: Vec<String>,
    /// The config document; empty where there is none.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: String,
}

/// What every satellite of a group shall have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupState {
    /// Name of the group.
    #[serde(default, deserialize_with = "null_is_default")]
    pub group: String,
    /// URL of the registry that holds the artifacts.
    #[serde(default, deserialize_with = "null_is_default")]
    pub registry: String,
    /// The artifacts, in the order in which they were given.
    #[serde(default, deserialize_with = "null_is_default")]
    pub artifacts: Vec<Artifact>,
}

/// One artifact of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Repository within the registry.
    pub repository: RepositoryName,
    /// Tags that point at it. Read from a string or a list, written as a list. Empty where it is kept by digest.
    #[serde(default, rename = "tag", alias = "tags", deserialize_with = "string_or_list")]
    pub tags: Vec<Tag>,
    /// Free labels: strings, or objects as Harbor's adapter sends them.
    #[serde(default, deserialize_with = "null_is_default")]
    pub labels: Vec<Value>,
    /// Kind of artifact, as its source says: `image`.
    #[serde(default = "image", rename = "type", deserialize_with = "null_is_image")]
    pub kind: String,
    /// What it is. Where it is absent, the tags are resolved.
    #[serde(default, deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// A rule that chooses the tags. Only Ground Control's own lists hold one: what is published holds what it chose.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// How many of the tags that the rule matches are wanted, newest first; absent: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// It must *not* be on the satellite.
    #[serde(default, deserialize_with = "null_is_default")]
    pub deleted: bool,
    /// Only these platforms of an index, written `os/architecture[/variant]`; empty: whatever the satellite takes. A satellite that takes fewer takes fewer.
    #[serde(default, with = "platform_texts", skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// Stands for everything that refers to it (OCI Distribution, section "Listing Referrers"), as Ground Control found it last:
    /// while it is the same, there is nothing new to look for. Absent where nobody looked.
    #[serde(default, deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub referrers: Option<Digest>,
}

impl GroupState {
    /// Reads a published document so that one bad artifact harms only itself: what does not parse is left out and told, by
    /// its place and the reason. The strict reader, for what people send, is `Deserialize`.
    pub fn read_published(mut document: Value) -> Result<(Self, Vec<String>), serde_json::Error> {
        let fields = document.as_object_mut().ok_or_else(|| {
            <serde_json::Error as serde::de::Error>::custom("a group document is a JSON object")
        })?;
        let artifacts = fields.remove("artifacts");
        let mut state: Self = serde_json::from_value(document)?;
        let mut left_out = Vec::new();
        let values: Vec<Value> =
            serde_json::from_value::<Option<_>>(artifacts.unwrap_or_default())?.unwrap_or_default();
        for (place, value) in values.into_iter().enumerate() {
            match serde_json::from_value(value) {
                Ok(artifact) => state.artifacts.push(artifact),
                Err(error) => left_out.push(format!("artifact {place} of group {}: {error}", state.group)),
            }
        }
        Ok((state, left_out))
    }
}

/// Repository of a satellite's state document.
pub fn satellite_repository(name: &SatelliteName) -> String {
    format!("{PROJECT}/satellite-state/{name}/state")
}

/// Repository of a group's state document.
pub fn group_repository(name: &GroupName) -> String {
    format!("{PROJECT}/group-state/{name}/state")
}

/// Repository of a config document.
pub fn config_repository(name: &ConfigName) -> String {
    format!("{PROJECT}/config-state/{name}/state")
}

/// The reference under which a document is written: `<registry URL>/<repository>:latest`.
pub fn document_url(registry: &str, repository: &str) -> String {
    format!("{}/{repository}:{TAG}", registry.trim_end_matches('/'))
}

/// The group whose document a reference names; `None` where the document lies elsewhere.
pub fn document_group(url: &str) -> Option<&str> {
    let url = url.trim();
    let url = url.strip_suffix(&format!(":{TAG}")).unwrap_or(url);
    let (before, group) = url.strip_suffix("/state")?.rsplit_once('/')?;
    before.ends_with(&format!("/{PROJECT}/group-state")).then_some(group)
}

/// Reads the reference of a document. Without a scheme it gets that of `registry`, the URL given at registration.
pub fn parse_document_url(text: &str, registry: &str) -> Result<ImageReference, oci::ReferenceError> {
    let mut reference: ImageReference = text.trim().parse()?;
    if reference.scheme.is_none() {
        reference.scheme = registry.split_once("://").map(|(scheme, _)| scheme.to_owned());
    }
    if reference.reference().is_none() {
        reference.tag = Some(TAG.parse()?);
    }
    Ok(reference)
}

fn image() -> String {
    "image".to_owned()
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn null_is_image<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|kind| !kind.is_empty()).unwrap_or_else(image))
}

/// Platforms as people write them.
mod platform_texts {
    use oci::Platform;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(platforms: &[Platform], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(platforms.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Platform>, D::Error> {
        let texts = Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default();
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

fn empty_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        None => Ok(None),
    }
}

fn string_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Tag>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tags {
        One(String),
        Many(Vec<String>),
    }
    let texts = match Option::<Tags>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Tags::One(text)) => vec![text],
        Some(Tags::Many(texts)) => texts,
    };
    texts
        .into_iter()
        .filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_tag_and_label() {
        let digest = Digest::sha256(b"x");
        let text = format!(
            r#"{{"group":"g","registry":"https://h","extra":1,"artifacts":[
              {{"repository":"library/nginx","tag":"latest","digest":"{digest}","type":"image"}},
              {{"repository":"library/alpine","tag":["3","3.1"],"labels":[{{"name":"x"}}],"digest":"","type":null}},
              {{"repository":"a/b/c","digest":"{digest}","labels":null,"tag":null,"deleted":true}}]}}"#
        );
        let state: GroupState = serde_json::from_str(&text).unwrap();
        assert_eq!(state.artifacts[0].tags.len(), 1);
        assert_eq!(state.artifacts[1].tags.len(), 2);
        assert_eq!((state.artifacts[1].digest, state.artifacts[1].kind.as_str()), (None, "image"));
        assert!(state.artifacts[2].deleted && state.artifacts[2].tags.is_empty());
        assert!(state.artifacts[2].platforms.is_empty() && state.artifacts[2].referrers.is_none());
        let written = serde_json::to_value(&state).unwrap();
        assert_eq!(written["artifacts"][0]["tag"], serde_json::json!(["latest"]));
        assert_eq!(serde_json::from_value::<GroupState>(written).unwrap(), state);
    }

    #[test]
    fn platforms_are_written_as_people_write_them() {
        let value = serde_json::json!({"repository": "a/b", "tag": ["t"], "platforms": ["linux/amd64", "linux/arm/v7"]});
        let artifact: Artifact = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&artifact).unwrap()["platforms"], value["platforms"]);
        let bad = serde_json::json!({"repository": "a/b", "tag": ["t"], "platforms": ["amd64"]});
        assert!(serde_json::from_value::<Artifact>(bad).is_err());
    }

    #[test]
    fn names_that_leave_their_place_are_refused() {
        for repository in ["../etc", "a//b", "A", ""] {
            let text = serde_json::json!({"artifacts": [{"repository": repository, "tag": "t"}]});
            assert!(serde_json::from_value::<GroupState>(text).is_err(), "{repository}");
        }
    }

    #[test]
    fn a_bad_artifact_of_a_published_document_harms_only_itself() {
        let document = serde_json::json!({"group": "g", "artifacts": [
            {"repository": "a", "tag": "t"}, {"repository": "..", "tag": "t"}, {"repository": "b", "tag": ["u"]}]});
        let (state, left_out) = GroupState::read_published(document).unwrap();
        assert_eq!(state.artifacts.len(), 2);
        assert!(left_out.len() == 1 && left_out[0].contains("artifact 1 of group g"), "{left_out:?}");
        assert!(GroupState::read_published(serde_json::json!({"artifacts": null})).unwrap().1.is_empty());
        assert!(GroupState::read_published(serde_json::json!([])).is_err());
    }

    #[test]
    fn document_urls() {
        let name = SatelliteName::new("edge-01").unwrap();
        let url = document_url("http://127.0.0.1:8080/", &satellite_repository(&name));
        assert_eq!(url, "http://127.0.0.1:8080/satellite/satellite-state/edge-01/state:latest");
        let bare =
            parse_document_url("127.0.0.1:8080/satellite/group-state/g/state", "http://127.0.0.1:8080")
                .unwrap();
        assert_eq!(bare.to_string(), "http://127.0.0.1:8080/satellite/group-state/g/state:latest");
        for (url, group) in [
            ("https://h/satellite/group-state/us-east/state:latest", Some("us-east")),
            ("h:5000/satellite/group-state/g/state", Some("g")),
            ("https://h/satellite/group-state/g/state:other", None),
            ("https://h/elsewhere/group-state/g/state:latest", None),
            ("https://h/satellite/satellite-state/g/state:latest", None),
        ] {
            assert_eq!(document_group(url), group, "{url}");
        }
    }
}
