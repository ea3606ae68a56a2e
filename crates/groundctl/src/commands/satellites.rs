//! `satellites`.

pub(super) mod accounts;
mod describe;

use std::collections::BTreeMap;

use fleet_protocol::api::{
    NewSatellite, NewSatelliteAnswer, Satellite, SatelliteAccounts, SatelliteArtifact, SatelliteImage,
    SatelliteStatus,
};
use fleet_protocol::heartbeat::NodePresence;
use reqwest::Method;
use serde::Deserialize;

use crate::cli::{Filter, Output, Satellites, Which};
use crate::client::{Client, Ignored};
use crate::commands::registration;
use crate::error::Error;
use crate::render;

const PATH: [&str; 2] = ["api", "satellites"];

/// What is answered to who shuts a satellite out.
#[derive(Debug, Deserialize)]
struct ShutOut {
    /// What still stands open to it, where the registry's accounts are not one for each satellite.
    #[serde(default)]
    message: Option<String>,
}

impl ShutOut {
    fn told(self, done: String) -> String {
        match self.message {
            None => done,
            Some(message) => format!("{done}; {message}"),
        }
    }
}

pub(crate) async fn run(client: &Client, output: Output, command: Satellites) -> Result<(), Error> {
    match command {
        Satellites::List { which, filter } => list(client, output, which, &filter).await,
        Satellites::Get { name } => {
            let satellite: Satellite = client.get(&[PATH[0], PATH[1], &name]).await?;
            render::show(output, &satellite, record)
        }
        Satellites::Describe { name } => describe::run(client, output, &name).await,
        Satellites::Artifacts { name } => {
            let path = [PATH[0], PATH[1], &name, "artifacts"];
            let artifacts: Vec<SatelliteArtifact> = client.list(&path).await?;
            render::show(output, &artifacts, |artifacts| describe::artifacts(artifacts))
        }
        Satellites::Accounts { name } => {
            let path = [PATH[0], PATH[1], &name, "accounts"];
            let accounts: SatelliteAccounts = client.get(&path).await?;
            render::show(output, &accounts, accounts::of_satellite)
        }
        Satellites::Create { name, groups, config } => {
            let request = NewSatellite { name: name.clone(), groups: Some(groups), config_name: config };
            let answer: NewSatelliteAnswer = client.make(&PATH, Some(&request), None).await?;
            render::show(output, &answer, |answer| {
                render::record([
                    ("Satellite", name.clone()),
                    ("Token", answer.token.clone()),
                    ("Use", "give it to the satellite as TOKEN within 24 hours; it works once".to_owned()),
                ])
            })
        }
        Satellites::Register(register) => registration::register(client, output, *register).await,
        Satellites::Revoke { name } => {
            let path = [PATH[0], PATH[1], &name, "revoke"];
            let answer: ShutOut = client.send(Method::POST, &path, None::<&()>).await?;
            let done = format!("satellite {name} revoked: every later request of it is refused");
            render::done(output, &answer.told(done))
        }
        Satellites::Enable { name, handover } => registration::enable(client, output, &name, handover).await,
        Satellites::Approve { name } => {
            let path = [PATH[0], PATH[1], &name, "approve"];
            let _: Ignored = client.send(Method::POST, &path, None::<&()>).await?;
            render::done(output, &format!("satellite {name} approved"))
        }
        Satellites::Label { name, labels } => {
            let patch: BTreeMap<_, _> = labels.into_iter().collect();
            let path = [PATH[0], PATH[1], &name, "labels"];
            let satellite: Satellite = client.send(Method::PATCH, &path, Some(&patch)).await?;
            render::show(output, &satellite, record)
        }
        Satellites::Delete { name } => {
            let answer: ShutOut =
                client.send(Method::DELETE, &[PATH[0], PATH[1], &name], None::<&()>).await?;
            render::done(output, &answer.told(format!("satellite {name} deleted")))
        }
        Satellites::Status { name } => {
            let status: SatelliteStatus = client.get(&[PATH[0], PATH[1], &name, "status"]).await?;
            render::show(output, &status, status_record)
        }
        Satellites::Images { name } => {
            let images: Vec<SatelliteImage> = client.list(&[PATH[0], PATH[1], &name, "images"]).await?;
            render::show(output, &images, |images| {
                let mut table = render::table(["IMAGE", "DIGEST", "SIZE"]);
                for image in images {
                    let digest = image.digest.clone().unwrap_or_default();
                    table.add_row([image.reference.clone(), digest, render::bytes(image.size_bytes)]);
                }
                table
            })
        }
    }
}

async fn list(client: &Client, output: Output, which: Which, filter: &Filter) -> Result<(), Error> {
    let path: &[&str] = match which {
        Which::All => &PATH,
        Which::Active => &["api", "satellites", "active"],
        Which::Stale => &["api", "satellites", "stale"],
    };
    let drift = filter.drift.map(|drift| drift.to_string());
    let query: Vec<(&str, &str)> = filter
        .labels
        .iter()
        .map(|selector| ("label", selector))
        .chain(filter.region.iter().map(|region| ("region", region)))
        .chain(filter.state.iter().map(|state| ("state", state)))
        .chain(filter.group.iter().map(|group| ("group", group)))
        .chain(drift.iter().map(|drift| ("drift", drift)))
        .map(|(name, value)| (name, value.as_str()))
        .collect();
    let satellites: Vec<Satellite> = client.list_of(path, &query).await?;
    render::show(output, &satellites, |satellites| {
        let mut table = render::table(["NAME", "REGION", "STATE", "GROUPS", "CONFIG", "LAST SEEN"]);
        for satellite in satellites {
            table.add_row([
                satellite.name.clone(),
                satellite.region.clone(),
                satellite.state.as_str().to_owned(),
                satellite.groups.join(","),
                satellite.config_name.clone().unwrap_or_default(),
                render::ago(satellite.last_seen),
            ]);
        }
        table
    })
}

fn labels(satellite: &Satellite) -> String {
    let labels: Vec<String> = satellite.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(", ")
}

fn record(satellite: &Satellite) -> comfy_table::Table {
    render::record([
        ("Name", satellite.name.clone()),
        ("Region", satellite.region.clone()),
        ("SPIFFE ID", satellite.spiffe_id.clone().unwrap_or_default()),
        ("State", satellite.state.as_str().to_owned()),
        ("Groups", satellite.groups.join(", ")),
        ("Labels", labels(satellite)),
        ("Config", satellite.config_name.clone().unwrap_or_default()),
        ("Heartbeat", satellite.heartbeat_interval.clone().unwrap_or_default()),
        ("Last seen", render::ago(satellite.last_seen)),
        ("Created", satellite.created_at.to_string()),
    ])
}

/// A node of the site's cluster, in a line.
fn node(node: &NodePresence) -> String {
    let runtime = format!("{} {}", node.runtime, node.runtime_version);
    let mut line = format!("{} ({}): {} present", node.name, runtime.trim(), node.present);
    if node.missing > 0 {
        line += &format!(", {} missing", node.missing);
    }
    if let Some(since) = node.silent_since {
        line += &format!(", silent since {since}");
    }
    if let Some(problem) = &node.problem {
        line += &format!(", {problem}");
    }
    for failure in &node.failures {
        line += &format!("\n  {}: {}", failure.reference, failure.reason);
    }
    line
}

fn status_record(status: &SatelliteStatus) -> comfy_table::Table {
    let heartbeat = &status.heartbeat;
    let failed: Vec<String> = heartbeat
        .failed
        .iter()
        .map(|failed| format!("{} since {}: {}", failed.reference, failed.since, failed.reason))
        .chain(
            heartbeat
                .conflicts
                .iter()
                .map(|c| format!("{}: groups {} disagree", c.reference, c.groups.join(", "))),
        )
        .chain(heartbeat.document_errors.iter().map(|e| format!("{}: {}", e.document, e.reason)))
        .chain(heartbeat.config_refusals.iter().map(|reason| format!("config refused: {reason}")))
        .collect();
    let nodes: Vec<String> = heartbeat.nodes.iter().map(node).collect();
    render::record([
        ("Name", heartbeat.name.clone()),
        ("Activity", heartbeat.activity.clone()),
        ("Heartbeat", render::ago(Some(status.received_at))),
        ("State digest", heartbeat.latest_state_digest.clone()),
        ("Config digest", heartbeat.latest_config_digest.clone()),
        ("Images", heartbeat.image_count.to_string()),
        ("Storage", render::bytes(heartbeat.storage_used_bytes)),
        ("Memory", render::bytes(heartbeat.memory_used_bytes)),
        ("CPU", format!("{:.1} %", heartbeat.cpu_percent)),
        ("Last sync", format!("{} ms", heartbeat.last_sync_duration_ms)),
        ("Nodes", if nodes.is_empty() { "none".to_owned() } else { nodes.join("\n") }),
        ("Problems", if failed.is_empty() { "none".to_owned() } else { failed.join("\n") }),
    ])
}
