//! `satellite images`.

use std::fmt::Write as _;

use serde::Serialize;

use super::text::{bytes, lines, relative, short_digest, table};
use crate::control::StatusDocument;
use crate::status::{FailedArtifact, ImageStatus, TagConflict};

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Listing<'a> {
    api_version: u32,
    registry_address: Option<&'a str>,
    images: &'a [ImageStatus],
    failed: &'a [FailedArtifact],
    conflicts: &'a [TagConflict],
}

pub(super) fn listing(document: &StatusDocument) -> Listing<'_> {
    Listing {
        api_version: document.api_version,
        registry_address: document.registry.address.as_deref(),
        images: &document.satellite.images,
        failed: &document.satellite.failed,
        conflicts: &document.satellite.conflicts,
    }
}

pub(super) fn render(listing: &Listing<'_>) -> String {
    let now = jiff::Timestamp::now();
    let mut text = String::new();
    if listing.images.is_empty() && listing.failed.is_empty() {
        return "no artifacts: no group asks for any, or the desired state was not read yet\n".to_owned();
    }
    if !listing.images.is_empty() {
        let mut images = table(["REPOSITORY", "TAGS", "DIGEST", "SIZE", "GROUPS", "STATE"]);
        for image in listing.images {
            images.add_row([
                image.repository.clone(),
                if image.tags.is_empty() { "-".to_owned() } else { image.tags.join(",") },
                short_digest(&image.digest),
                bytes(image.size_bytes),
                image.groups.join(","),
                if image.whole { "whole".to_owned() } else { "incomplete".to_owned() },
            ]);
        }
        text.push_str(&lines(&images));
    }
    if !listing.failed.is_empty() {
        text.push_str("\nnot here:\n");
        let mut failed = table(["ARTIFACT", "SINCE", "TRIES", "NEXT", "REASON"]);
        for artifact in listing.failed {
            failed.add_row([
                artifact.reference.clone(),
                relative(artifact.since, now),
                artifact.attempts.to_string(),
                relative(artifact.next_try, now),
                artifact.reason.clone(),
            ]);
        }
        text.push_str(&lines(&failed));
    }
    for conflict in listing.conflicts {
        let kept = conflict.kept.as_deref().map_or_else(|| "not set".to_owned(), short_digest);
        let _infallible = writeln!(text, "\ngroups disagree about {} (here: {kept}):", conflict.reference);
        for (digest, groups) in &conflict.wanted {
            let _infallible = writeln!(text, "  {} wanted by {}", short_digest(digest), groups.join(", "));
        }
    }
    text
}
