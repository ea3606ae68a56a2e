//! What a group's list stands for, and the URL of its replication adapter.

use std::path::PathBuf;

use fleet_protocol::Artifact;
use fleet_protocol::api::{ArtifactResolution, GroupDetail, ReplicationUrl};
use reqwest::Method;
use secrecy::ExposeSecret as _;

use super::PATH;
use crate::cli::Output;
use crate::client::{Client, Ignored};
use crate::error::Error;
use crate::private_file::PrivateFile;
use crate::render;

/// What is wanted of a repository: its tags, or its rule.
pub(super) fn wanted(artifact: &Artifact) -> String {
    match &artifact.pattern {
        Some(pattern) => rule(&pattern.to_string(), artifact.keep),
        None => artifact.tags.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(","),
    }
}

fn rule(pattern: &str, keep: Option<u32>) -> String {
    match keep {
        None | Some(1) => pattern.to_owned(),
        Some(keep) => format!("{pattern} (newest {keep})"),
    }
}

/// A row for each manifest that satellites are given, and for what nothing is found for.
pub(super) fn table(group: &GroupDetail) -> comfy_table::Table {
    let mut table = render::table(["REPOSITORY", "WANTED", "TAG", "DIGEST", "UNRESOLVED"]);
    for resolution in &group.resolutions {
        let unresolved = resolution.unresolved.as_ref().map_or_else(String::new, |unresolved| {
            format!("{}: {}", render::ago(Some(unresolved.since)), unresolved.reason)
        });
        let mut row = |tag: Option<&str>, digest: &str| {
            let (repository, wanted) = (resolution.repository.as_str(), selected(resolution));
            table.add_row([repository, &wanted, tag.unwrap_or_default(), digest, &unresolved]);
        };
        if resolution.resolved.is_empty() {
            row(None, resolution.digest.as_deref().unwrap_or_default());
        }
        for resolved in &resolution.resolved {
            row(resolved.tag.as_deref(), &resolved.digest);
        }
    }
    for artifact in group.group.artifacts.iter().filter(|artifact| artifact.deleted) {
        let digest = artifact.digest.map(|digest| digest.to_string()).unwrap_or_default();
        let digest = format!("{digest} (deleted)");
        table.add_row([artifact.repository.as_str(), &wanted(artifact), "", digest.trim(), ""]);
    }
    table
}

fn selected(resolution: &ArtifactResolution) -> String {
    match (&resolution.pattern, &resolution.tag) {
        (Some(pattern), _) => rule(&pattern.to_string(), resolution.keep),
        (None, Some(tag)) => tag.clone(),
        (None, None) => "digest".to_owned(),
    }
}

/// Makes the adapter's URL, or takes it away.
pub(super) async fn replication(
    client: &Client,
    output: Output,
    group: &str,
    file: Option<PathBuf>,
    remove: bool,
) -> Result<(), Error> {
    let path = [PATH[0], PATH[1], group, "replication-secret"];
    // What cannot be kept is not asked for.
    let file = file.as_deref().map(PrivateFile::prepare).transpose()?;
    if remove {
        let _: Ignored = client.send(Method::DELETE, &path, None::<&()>).await?;
        return render::done(
            output,
            &format!("group {group} takes nothing from a replication adapter any more"),
        );
    }
    let answer: ReplicationUrl = client.make(&path, None::<&()>, None).await?;
    let Some(file) = file else {
        return match output {
            Output::Json => render::json(&answer),
            Output::Table => render::done(output, answer.url.expose_secret()),
        };
    };
    let place = file.path().display().to_string();
    file.keep(answer.url.expose_secret().as_bytes())?;
    render::done(output, &format!("the URL of group {group} is in {place}"))
}
