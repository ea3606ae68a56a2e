//! Fleet files: what a person writes, read strictly.
//!
//! A file is YAML, of one document or several; a kind whose section is there is *named*. What an entry does not say is left as it is.
//! Every mistake is told with its line and its path, and a file with one is no use at all.

use std::collections::BTreeMap;
use std::fmt;

use fleet_protocol::{Artifact, Pattern};
use oci::{Digest, Platform, RepositoryName, Tag};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_saphyr::Spanned;

/// The format's version.
pub(crate) const VERSION: u32 = 1;

/// Reads the documents of a file. The message says what is wrong, on which path, and in which line.
pub(super) fn documents(text: &str) -> Result<Vec<Document>, String> {
    // A fleet of a hundred thousand is some millions of nodes; what a file may cost is bounded by its size.
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_events: 20_000_000, max_nodes: 10_000_000, max_aliases: 1_000, max_anchors: 1_000 },
    };
    let documents = serde_saphyr::from_multiple_with_options::<Pathed>(text, options);
    documents.map(|all| all.into_iter().map(|one| one.0).collect()).map_err(|error| {
        match error.without_snippet() {
            serde_saphyr::Error::Message { msg, .. } => msg.clone(),
            other => other.to_string(),
        }
    })
}

/// A document whose errors name their path.
struct Pathed(Document);

impl<'de> Deserialize<'de> for Pathed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_path_to_error::deserialize(deserializer).map(Self).map_err(|error| {
            // The third part is of the wrapper that tells the line, and in no file.
            let parts =
                error.path().iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, part)| part.to_string());
            let path = parts.collect::<Vec<_>>().join(".").replace(".[", "[");
            let text = error.into_inner().to_string();
            // The library tells its caller what to set; this is for whoever wrote the file.
            let text = text.replace(", set DuplicateKeyPolicy in Options if acceptable", "");
            de::Error::custom(if path.is_empty() { text } else { format!("{path}: {text}") })
        })
    }
}

/// One YAML document.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) version: Option<Spanned<u32>>,
    pub(super) configs: Option<Entries<Value>>,
    pub(super) groups: Option<Entries<GroupEntry>>,
    pub(super) satellites: Option<Entries<SatelliteEntry>>,
}

/// A section: entries by name, each with the line that it begins in.
pub(super) type Entries<T> = BTreeMap<String, Spanned<T>>;

/// What a file says of a group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupEntry {
    pub(super) artifacts: Option<Vec<ArtifactEntry>>,
    #[serde(default, deserialize_with = "said")]
    pub(super) selector: Option<Option<String>>,
    pub(super) satellites: Option<Vec<String>>,
}

/// What a file says of a satellite.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SatelliteEntry {
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) config: Option<String>,
    pub(super) groups: Option<Vec<String>>,
}

/// An artifact as a file writes it: [`Artifact`] without what it need not say, and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArtifactEntry {
    repository: RepositoryName,
    #[serde(
        default,
        rename = "tag",
        alias = "tags",
        deserialize_with = "tags",
        skip_serializing_if = "Vec::is_empty"
    )]
    tags: Vec<Tag>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pattern: Option<Pattern>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    platforms: Vec<PlatformText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Value>,
    #[serde(default = "image", rename = "type", skip_serializing_if = "is_image")]
    kind: String,
    #[serde(default, skip_serializing_if = "is_false")]
    deleted: bool,
}

impl From<ArtifactEntry> for Artifact {
    fn from(entry: ArtifactEntry) -> Self {
        Self {
            repository: entry.repository,
            tags: entry.tags,
            labels: entry.labels,
            kind: entry.kind,
            digest: entry.digest,
            pattern: entry.pattern,
            keep: entry.keep,
            deleted: entry.deleted,
            platforms: entry.platforms.into_iter().map(|text| text.0).collect(),
            referrers: None,
        }
    }
}

impl From<Artifact> for ArtifactEntry {
    fn from(artifact: Artifact) -> Self {
        Self {
            repository: artifact.repository,
            tags: artifact.tags,
            digest: artifact.digest,
            pattern: artifact.pattern,
            keep: artifact.keep,
            platforms: artifact.platforms.into_iter().map(PlatformText).collect(),
            labels: artifact.labels,
            kind: artifact.kind,
            deleted: artifact.deleted,
        }
    }
}

/// A platform as people write it: `linux/arm64`.
#[derive(Debug, Clone, PartialEq)]
struct PlatformText(Platform);

impl Serialize for PlatformText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PlatformText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(de::Error::custom)
    }
}

fn image() -> String {
    "image".to_owned()
}

fn is_image(kind: &str) -> bool {
    kind == "image"
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Tells what is said to be nothing (`null`) from what is not said.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A tag, or a list of them.
fn tags<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Tag>, D::Error> {
    struct Tags;

    impl<'de> Visitor<'de> for Tags {
        type Value = Vec<Tag>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a tag or a list of tags, in quotes where it reads as a number")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.parse().map_err(E::custom)?])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(OneTag(tag)) = items.next_element()? {
                all.push(tag);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_any(Tags)
}

/// A tag of a list. YAML reads an unquoted 1.10 as the number 1.1, another tag than the one that was meant: it is refused.
struct OneTag(Tag);

impl<'de> Deserialize<'de> for OneTag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;

        impl Visitor<'_> for One {
            type Value = OneTag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tag, in quotes where it reads as a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneTag, E> {
                text.parse().map(OneTag).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(One)
    }
}
