//! `satellites describe`: all that is known of a satellite on one screen.

use fleet_protocol::api::{
    ArtifactState, AuditEntry, Satellite, SatelliteAccounts, SatelliteArtifact, SatelliteStatus,
};
use serde::Serialize;

use super::{PATH, accounts, record, status_record};
use crate::cli::Output;
use crate::client::Client;
use crate::commands::audit;
use crate::error::Error;
use crate::render;

/// The most events.
const EVENTS: usize = 10;

/// All that is known of a satellite.
#[derive(Serialize)]
struct Description {
    satellite: Satellite,
    /// Whether it lacks a digest that it shall have, or holds one that nobody wants.
    drift: bool,
    /// Its accounts at the registry, without secrets.
    accounts: SatelliteAccounts,
    /// Its last heartbeat; absent before the first.
    status: Option<SatelliteStatus>,
    artifacts: Vec<SatelliteArtifact>,
    /// The latest changes of it; absent for who may not read the audit.
    events: Option<Vec<AuditEntry>>,
}

pub(super) async fn run(client: &Client, output: Output, name: &str) -> Result<(), Error> {
    let path = |part| [PATH[0], PATH[1], name, part];
    let satellite: Satellite = client.get(&[PATH[0], PATH[1], name]).await?;
    let status = match client.get(&path("status")).await {
        Err(Error::Refused { code: 404, .. }) => None,
        answer => Some(answer?),
    };
    let artifacts: Vec<SatelliteArtifact> = client.list(&path("artifacts")).await?;
    let accounts: SatelliteAccounts = client.get(&path("accounts")).await?;
    let subject = [("subject", format!("satellite/{name}"))];
    let events = match audit::newest(client, &subject, EVENTS).await {
        Err(Error::Refused { code: 403, .. }) => None,
        rows => Some(rows?),
    };
    let drift = drifts(&artifacts);
    let description = Description { satellite, drift, accounts, status, artifacts, events };
    if output == Output::Json {
        return render::json(&description);
    }
    show(&description);
    Ok(())
}

/// Whether a satellite lacks a digest that it shall have, or holds one that nobody wants.
fn drifts(artifacts: &[SatelliteArtifact]) -> bool {
    artifacts
        .iter()
        .any(|artifact| !matches!(artifact.state, ArtifactState::There | ArtifactState::Unresolved))
}

fn show(description: &Description) {
    let section = |title: &str| println!("\n{}", console::style(title).bold());
    render::print(&record(&description.satellite));
    section("Last heartbeat");
    match &description.status {
        Some(status) => render::print(&status_record(status)),
        None => println!("none yet: it has not registered, or never reached Ground Control"),
    }
    section("Registry accounts");
    render::print(&accounts::of_satellite(&description.accounts));
    let count = |state| description.artifacts.iter().filter(|artifact| artifact.state == state).count();
    let words: Vec<String> = STATES
        .into_iter()
        .map(|state| (count(state), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {}", word(state)))
        .collect();
    let drift = if description.drift { "drifts" } else { "no drift" };
    let words = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    section(&format!("Artifacts: {words} ({drift})"));
    if !description.artifacts.is_empty() {
        render::print(&artifacts(&description.artifacts));
    }
    let Some(events) = &description.events else { return };
    section("Latest events");
    let mut table = render::table(["AT", "WHO", "DID", "DETAILS"]);
    for row in events {
        table.add_row([
            row.at.to_string(),
            row.actor.clone(),
            audit::what(row),
            audit::details(&row.details),
        ]);
    }
    render::print(&table);
}

const STATES: [ArtifactState; 6] = [
    ArtifactState::There,
    ArtifactState::Fetching,
    ArtifactState::Failed,
    ArtifactState::Wanted,
    ArtifactState::Unresolved,
    ArtifactState::Undesired,
];

fn word(state: ArtifactState) -> &'static str {
    match state {
        ArtifactState::There => "there",
        ArtifactState::Fetching => "fetching",
        ArtifactState::Failed => "failed",
        ArtifactState::Wanted => "wanted",
        ArtifactState::Unresolved => "unresolved",
        ArtifactState::Undesired => "undesired",
    }
}

/// A row for each artifact: what it is, how far, and why not.
pub(super) fn artifacts(artifacts: &[SatelliteArtifact]) -> comfy_table::Table {
    let mut table = render::table(["ARTIFACT", "GROUP", "STATE", "BYTES", "SINCE", "WHY", "DIGEST"]);
    for artifact in artifacts {
        let tags =
            if artifact.tag.is_empty() { String::new() } else { format!(":{}", artifact.tag.join(",")) };
        let tries =
            artifact.attempts.filter(|tries| *tries > 1).map(|tries| format!(" (tried {tries} times)"));
        let reason = artifact.reason.clone().unwrap_or_default();
        table.add_row([
            format!("{}{tags}", artifact.repository),
            artifact.group_name.clone().unwrap_or_default(),
            word(artifact.state).to_owned(),
            render::part(artifact.bytes.unwrap_or(0), artifact.total_bytes.unwrap_or(0)),
            artifact.since.map(|since| render::ago(Some(since))).unwrap_or_default(),
            format!("{reason}{}", tries.unwrap_or_default()),
            artifact.digest.clone().unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_what_lacks_and_what_nobody_wants() {
        let artifact = |state| SatelliteArtifact {
            group_name: None,
            repository: "a/b".into(),
            tag: Vec::new(),
            digest: None,
            state,
            bytes: None,
            total_bytes: None,
            reason: None,
            since: None,
            attempts: None,
        };
        for state in STATES {
            let expected = !matches!(state, ArtifactState::There | ArtifactState::Unresolved);
            assert_eq!(
                drifts(&[artifact(ArtifactState::There), artifact(state)]),
                expected,
                "{}",
                word(state)
            );
        }
        assert!(!drifts(&[]));
    }
}
