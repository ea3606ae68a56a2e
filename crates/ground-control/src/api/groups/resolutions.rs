//! What a group's list stands for at this moment.

use fleet_protocol::api;

use crate::domain::group::Artifact;
use crate::domain::resolution::{Resolution, Resolutions, Selector, selectors};

/// Each tag, rule and digest of the list with what is known of it.
pub(super) fn view(artifacts: &[Artifact], known: &Resolutions) -> Vec<api::ArtifactResolution> {
    let selected = artifacts.iter().flat_map(|artifact| {
        selectors(artifact).into_iter().map(move |selector| (&artifact.repository, selector))
    });
    selected
        .map(|(repository, selector)| {
            let resolution = known.get(&(repository.clone(), selector.clone())).cloned().unwrap_or_default();
            one(repository.to_string(), selector, resolution)
        })
        .collect()
}

fn one(repository: String, selector: Selector, resolution: Resolution) -> api::ArtifactResolution {
    let (mut tag, mut digest, mut pattern, mut keep) = (None, None, None, None);
    match selector {
        Selector::Digest(selected) => digest = Some(selected.to_string()),
        Selector::Tag(selected) => tag = Some(selected.to_string()),
        Selector::Rule { pattern: rule, keep: kept } => (pattern, keep) = (Some(rule), Some(kept)),
    }
    let resolved = resolution.resolved.into_iter().map(|resolved| api::ResolvedArtifact {
        tag: resolved.tag.map(|tag| tag.to_string()),
        digest: resolved.digest.to_string(),
        referrers: resolved.referrers.map(|digest| digest.to_string()),
    });
    api::ArtifactResolution {
        repository,
        tag,
        digest,
        pattern,
        keep,
        resolved: resolved.collect(),
        resolved_at: resolution.resolved_at,
        unresolved: resolution
            .unresolved
            .map(|unresolved| api::UnresolvedArtifact { reason: unresolved.reason, since: unresolved.since }),
    }
}
