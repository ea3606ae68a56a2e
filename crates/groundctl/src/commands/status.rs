//! `status`: the fleet in a few lines.

use std::collections::BTreeMap;

use fleet_protocol::api::{Group, Satellite};
use serde::Serialize;
use serde_json::Value;

use crate::cli::Output;
use crate::client::Client;
use crate::error::Error;
use crate::render;

#[derive(Serialize)]
struct Fleet {
    server: String,
    health: String,
    satellites: usize,
    by_state: BTreeMap<&'static str, usize>,
    groups: usize,
    artifacts: usize,
}

pub(crate) async fn status(client: &Client, output: Output) -> Result<(), Error> {
    let health = match client.get::<Value>(&["health"]).await {
        Ok(body) => body["status"].as_str().unwrap_or("unknown").to_owned(),
        Err(Error::Answer { .. } | Error::Refused { .. }) => "unhealthy".to_owned(),
        Err(error) => return Err(error),
    };
    let satellites: Vec<Satellite> = client.list(&["api", "satellites"]).await?;
    let groups: Vec<Group> = client.list(&["api", "groups"]).await?;
    let mut by_state = BTreeMap::new();
    for satellite in &satellites {
        *by_state.entry(satellite.state.as_str()).or_insert(0) += 1;
    }
    let fleet = Fleet {
        server: client.server_text(),
        health,
        satellites: satellites.len(),
        by_state,
        groups: groups.len(),
        artifacts: groups.iter().map(|group| group.artifacts.len()).sum(),
    };
    render::show(output, &fleet, |fleet| {
        let states: Vec<String> =
            fleet.by_state.iter().map(|(state, count)| format!("{count} {state}")).collect();
        render::record([
            ("Ground Control", format!("{} ({})", fleet.server, fleet.health)),
            ("Satellites", format!("{} ({})", fleet.satellites, states.join(", "))),
            ("Groups", format!("{} with {} artifacts", fleet.groups, fleet.artifacts)),
        ])
    })
}
