//! A fleet as a file: what applied to the same Ground Control changes nothing.

use std::collections::BTreeMap;

use ground_control_domain::label::Labels;
use serde::Serialize;
use serde_json::Value;

use super::file::{ArtifactEntry, VERSION};
use super::{Current, Kind, bare};

/// A fleet file. Every field is written, so that a file applied elsewhere says all that there is here.
#[derive(Serialize)]
struct File<'a> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    configs: Option<BTreeMap<&'a str, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<BTreeMap<&'a str, Group>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    satellites: Option<BTreeMap<&'a str, Satellite<'a>>>,
}

#[derive(Serialize)]
struct Group {
    selector: Option<String>,
    artifacts: Vec<ArtifactEntry>,
}

#[derive(Serialize)]
struct Satellite<'a> {
    config: Option<&'a str>,
    labels: &'a Labels,
    groups: Vec<&'a str>,
}

/// Writes the sections of these kinds as YAML, in the order of names.
///
/// A satellite's groups are those that did not choose it by its labels. Nothing that Ground Control answers of these kinds is a secret, and
/// no document may hold one.
pub(crate) fn export(current: &Current, kinds: &[Kind]) -> Result<String, String> {
    let file = File {
        version: VERSION,
        configs: kinds.contains(&Kind::Config).then(|| {
            current.configs.iter().map(|(name, document)| (name.as_str(), bare(document))).collect()
        }),
        groups: kinds.contains(&Kind::Group).then(|| {
            let groups = current.groups.iter().map(|(name, group)| {
                let artifacts = group.artifacts.iter().cloned().map(ArtifactEntry::from).collect();
                (
                    name.as_str(),
                    Group { selector: group.selector.as_ref().map(ToString::to_string), artifacts },
                )
            });
            groups.collect()
        }),
        satellites: kinds.contains(&Kind::Satellite).then(|| {
            let satellites = current.satellites.iter().map(|(name, satellite)| {
                let named = satellite.groups.iter().map(String::as_str);
                let named = named.filter(|group| !current.chooses(group, &satellite.labels)).collect();
                let config = satellite.config.as_deref();
                (name.as_str(), Satellite { config, labels: &satellite.labels, groups: named })
            });
            satellites.collect()
        }),
    };
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&file, options).map_err(|error| error.to_string())
}
