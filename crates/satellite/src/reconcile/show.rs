//! What a turn found and did, in the status.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::failures::Failures;
use super::works::Works;
use crate::desired::Desired;
use crate::events::{Event, Events};
use crate::plan::{Make, Plan, Present};
use crate::status::{DesiredStatus, FailedArtifact, GroupStatus, ImageStatus, TagConflict};

/// The most images that the status lists.
const MAX_IMAGES: usize = 20_000;

/// `1 artifact`, `3 artifacts`.
pub(super) fn artifacts(count: usize) -> String {
    if count == 1 { "1 artifact".to_owned() } else { format!("{count} artifacts") }
}

/// `host[:port]` of a registry's address.
pub(super) fn host(registry: &str) -> &str {
    registry.split_once("://").map_or(registry, |(_, host)| host)
}

/// How people name what is made.
pub(super) fn reference(make: &Make) -> String {
    name(
        make.registries.first().map(String::as_str),
        make.artifact.repository.as_str(),
        make.tags.first().map(oci::Tag::as_str),
    )
}

fn name(registry: Option<&str>, repository: &str, tag: Option<&str>) -> String {
    let host = registry.map(|registry| format!("{}/", host(registry))).unwrap_or_default();
    let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
    format!("{host}{repository}{tag}")
}

/// What was read.
pub(super) fn desired(events: &Events, desired: &Desired) {
    let known: BTreeSet<(String, String)> = events.status().read(|status| {
        let groups = status.desired.groups.iter();
        groups.filter_map(|group| Some((group.url.clone(), group.error.clone()?))).collect()
    });
    for group in &desired.groups {
        if let Some((reason, _)) = &group.error
            && !known.contains(&(group.url.clone(), reason.clone()))
        {
            events.emit(Event::DocumentUnreadable { url: group.url.clone(), reason: reason.clone() });
        }
    }
    events.emit(Event::DesiredRead {
        state: desired.state_digest,
        groups: desired.groups.len(),
        whole: desired.complete,
    });
    events.status().update(|status| {
        let read_at = if desired.complete { Some(Timestamp::now()) } else { status.desired.read_at };
        status.desired = DesiredStatus {
            state_digest: desired.state_digest.map(|digest| digest.to_string()),
            read_at,
            whole: desired.complete,
            error: desired.error.clone(),
            removals_held_back: status.desired.removals_held_back,
            groups: desired
                .groups
                .iter()
                .map(|group| GroupStatus {
                    name: group.name.clone(),
                    url: group.url.clone(),
                    digest: group.digest.map(|digest| digest.to_string()),
                    artifacts: group.artifacts as u64,
                    error: group.error.as_ref().map(|(reason, _)| reason.clone()),
                    since: group.error.as_ref().map(|(_, since)| *since),
                })
                .collect(),
        };
    });
}

/// What is here, what failed, and where groups disagree.
pub(super) fn result(
    events: &Events,
    works: &Works,
    desired: &Desired,
    plan: &Plan,
    present: &Present,
    failures: &Failures,
    reachable: bool,
) {
    let now = Timestamp::now();
    let mut images = Vec::new();
    let mut failed = failures.list();
    for (artifact, want) in &plan.wanted {
        let held = present.repositories.get(&artifact.repository);
        let whole = held.and_then(|held| held.manifests.get(&artifact.digest)).is_some_and(|node| node.whole);
        let registry = want.registries.first().map(String::as_str);
        if let Some(held) = held.filter(|_| whole)
            && images.len() < MAX_IMAGES
        {
            images.push(ImageStatus {
                registry: registry.map(host).unwrap_or_default().to_owned(),
                repository: artifact.repository.to_string(),
                tags: held
                    .tags
                    .iter()
                    .filter(|(_, digest)| **digest == artifact.digest)
                    .map(|(tag, _)| tag.to_string())
                    .collect(),
                digest: artifact.digest.to_string(),
                size_bytes: works.place.size(artifact, held),
                groups: want.groups.iter().cloned().collect(),
                whole: true,
            });
        }
        if !whole && !reachable && !failures.has(artifact) {
            failed.push(FailedArtifact {
                reference: name(
                    registry,
                    artifact.repository.as_str(),
                    want.tags.iter().next().map(oci::Tag::as_str),
                ),
                digest: Some(artifact.digest.to_string()),
                reason: "it is not here yet, and the registry cannot be reached".to_owned(),
                since: Some(now),
                attempts: 0,
                next_try: None,
            });
        }
    }
    failed.extend(desired.bad_entries.iter().map(|bad| FailedArtifact {
        reference: bad.reference.clone(),
        digest: None,
        reason: format!("group {}: {}", bad.group, bad.reason),
        since: Some(now),
        attempts: 0,
        next_try: None,
    }));
    let conflicts: Vec<TagConflict> = plan
        .conflicts
        .iter()
        .map(|conflict| TagConflict {
            reference: format!("{}:{}", conflict.repository, conflict.tag),
            kept: conflict.kept.map(|digest| digest.to_string()),
            wanted: conflict
                .claims
                .iter()
                .map(|(digest, groups)| (digest.to_string(), groups.iter().cloned().collect()))
                .collect(),
        })
        .collect();
    let known: BTreeSet<String> = events
        .status()
        .read(|status| status.conflicts.iter().map(|conflict| conflict.reference.clone()).collect());
    for conflict in &plan.conflicts {
        let reference = format!("{}:{}", conflict.repository, conflict.tag);
        if !known.contains(&reference) {
            events.emit(Event::TagConflict { reference, digests: conflict.claims.keys().copied().collect() });
        }
    }
    events.status().update(|status| {
        // What stood there keeps the time at which it began.
        for failure in failed.iter_mut().filter(|failure| failure.attempts == 0) {
            let before =
                status.failed.iter().find(|old| old.reference == failure.reference && old.attempts == 0);
            failure.since = before.map_or(failure.since, |old| old.since);
        }
        status.desired.removals_held_back = plan.held_back as u64;
        status.images = images;
        status.failed = failed;
        status.conflicts = conflicts;
    });
}
