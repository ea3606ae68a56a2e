//! What the registry holds of what people changed.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Duration;

use serde_json::Value;
use testbed::process::wait_for;
use testbed::registry::Registry;

use crate::cloud::Cloud;
use crate::people::{Expected, triples};

/// What is not published as it was acknowledged, once the publishers had their time.
pub(crate) async fn missing(cloud: &Cloud, expected: &Expected, limit: Duration) -> Vec<String> {
    let registry = cloud.registry();
    let mut wrong = Vec::new();
    let published = wait_for("every document", limit, async || {
        wrong = differences(&registry, expected).await;
        wrong.is_empty().then_some(())
    })
    .await;
    if published.is_ok() { Vec::new() } else { wrong }
}

async fn differences(registry: &Registry, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, artifacts) in &expected.groups {
        let document = read(registry, &format!("satellite/group-state/{name}/state")).await;
        if document.as_ref().map(triples).as_ref() != Some(artifacts) {
            wrong.push(format!("document of group {name}: {document:?}, not {artifacts:?}"));
        }
    }
    for (name, site) in expected.satellites.iter().filter(|(_, site)| !site.revoked) {
        let document = read(registry, &format!("satellite/satellite-state/{name}/state")).await;
        let named: Option<BTreeSet<String>> = document.as_ref().map(|document| {
            let states = document["states"].as_array().cloned().unwrap_or_default();
            states.iter().filter_map(|url| segment(url.as_str()?, "/group-state/")).collect()
        });
        let config = document.as_ref().and_then(|d| segment(d["config"].as_str()?, "/config-state/"));
        let wanted = site.config.as_deref().unwrap_or("default");
        if named.as_ref() != Some(&site.groups) || config.as_deref() != Some(wanted) {
            wrong.push(format!("document of satellite {name}: {document:?}, not {site:?}"));
        }
    }
    for (name, interval) in &expected.configs {
        let document = read(registry, &format!("satellite/config-state/{name}/state")).await;
        let said = document.as_ref().map(|d| &d["app_config"]["state_replication_interval"]);
        if said.and_then(Value::as_str) != Some(interval) {
            wrong.push(format!("document of config {name}: {document:?}, not {interval}"));
        }
    }
    let gone = expected.gone_groups.iter().map(|name| format!("satellite/group-state/{name}/state"));
    let sites = expected.gone_satellites.iter().map(|name| format!("satellite/satellite-state/{name}/state"));
    for repository in gone.chain(sites) {
        if read(registry, &repository).await.is_some() {
            wrong.push(format!("{repository} is there still"));
        }
    }
    wrong
}

/// The path segment that follows `marker`.
fn segment(url: &str, marker: &str) -> Option<String> {
    Some(url.split_once(marker)?.1.split('/').next()?.to_owned())
}

/// A document: the one file in the one layer of the image that the tag points at.
async fn read(registry: &Registry, repository: &str) -> Option<Value> {
    let manifest = registry.manifest(repository, "latest").await.unwrap()?;
    let manifest: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str()?.parse().unwrap();
    let bytes = registry.blob(repository, &layer).await.unwrap()?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
    let mut entry = archive.entries().unwrap().next()?.unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}
