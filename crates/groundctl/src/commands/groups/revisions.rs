//! `groups revisions` and `groups restore`.

use comfy_table::Table;
use fleet_protocol::Artifact;
use fleet_protocol::api::{GroupRevision, GroupRevisionDetail};

use super::{PATH, following};
use crate::cli::Output;
use crate::client::Client;
use crate::error::Error;
use crate::render;

pub(super) async fn list(client: &Client, output: Output, name: &str) -> Result<(), Error> {
    let revisions: Vec<GroupRevision> = client.list(&[PATH[0], PATH[1], name, "revisions"]).await?;
    render::show(output, &revisions, |revisions| {
        let mut table = render::table(["REVISION", "AUTHOR", "WHEN", "CHANGE"]);
        for revision in revisions {
            table.add_row([
                revision.number.to_string(),
                revision.author.clone(),
                render::ago(Some(revision.created_at)),
                summary(revision),
            ]);
        }
        table
    })
}

pub(super) async fn show(client: &Client, output: Output, name: &str, number: u64) -> Result<(), Error> {
    let path = [PATH[0], PATH[1], name, "revisions", &number.to_string()];
    let revision: GroupRevisionDetail = client.get(&path).await?;
    render::show(output, &revision, difference)
}

pub(super) async fn restore(client: &Client, output: Output, name: &str, number: u64) -> Result<(), Error> {
    let path = [PATH[0], PATH[1], name, "revisions", &number.to_string(), "restore"];
    let made: GroupRevisionDetail = client.make(&path, None::<&()>, None).await?;
    match output {
        Output::Json => render::json(&made),
        Output::Table => {
            let made = made.revision.number;
            render::done(
                output,
                &format!("group {name} has the list of revision {number}, as revision {made}"),
            )
        }
    }
}

/// A change in a few words: `+2 -1 ~3, restored from 4`.
fn summary(revision: &GroupRevision) -> String {
    let mut text: Vec<String> = [('+', revision.added), ('-', revision.removed), ('~', revision.changed)]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(sign, count)| format!("{sign}{count}"))
        .collect();
    if revision.reordered {
        text.push("another order".to_owned());
    }
    let text = text.join(" ");
    match revision.restored_from {
        Some(number) if text.is_empty() => format!("restored from {number}"),
        Some(number) => format!("{text}, restored from {number}"),
        None => text,
    }
}

fn difference(revision: &GroupRevisionDetail) -> Table {
    let mut table = render::table(["", "REPOSITORY", "WANTED", "DIGEST"]);
    let mut row = |sign: &str, artifact: &Artifact| {
        let digest = artifact.digest.map(|digest| digest.to_string()).unwrap_or_default();
        let digest = if artifact.deleted { format!("{digest} (deleted)") } else { digest };
        table.add_row([
            sign.to_owned(),
            artifact.repository.to_string(),
            following::wanted(artifact),
            digest.trim().to_owned(),
        ]);
    };
    let difference = &revision.difference;
    for artifact in &difference.removed {
        row("-", artifact);
    }
    for change in &difference.changed {
        row("~ from", &change.from);
        row("~ to", &change.to);
    }
    for artifact in &difference.added {
        row("+", artifact);
    }
    for artifact in revision.artifacts.iter().filter(|artifact| {
        !difference.added.contains(artifact)
            && difference.changed.iter().all(|change| change.to != **artifact)
    }) {
        row("", artifact);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_in_a_few_words() {
        let mut revision = GroupRevision {
            number: 7,
            author: "ann".into(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            restored_from: None,
            added: 2,
            removed: 0,
            changed: 1,
            reordered: false,
        };
        assert_eq!(summary(&revision), "+2 ~1");
        revision.restored_from = Some(4);
        assert_eq!(summary(&revision), "+2 ~1, restored from 4");
        (revision.added, revision.changed, revision.reordered) = (0, 0, true);
        assert_eq!(summary(&revision), "another order, restored from 4");
    }
}
