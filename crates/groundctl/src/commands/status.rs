//! `status`: the fleet in a few lines.

use std::collections::BTreeMap;

use fleet_protocol::api::{Group, SatelliteLifecycle};
use serde::Serialize;
use serde_json::Value;

use crate::cli::Output;
use crate::client::Client;
use crate::error::Error;
use crate::render;

const STATES: [SatelliteLifecycle; 5] = [
    SatelliteLifecycle::Pending,
    SatelliteLifecycle::AwaitingApproval,
    SatelliteLifecycle::Online,
    SatelliteLifecycle::Stale,
    SatelliteLifecycle::Revoked,
];

#[derive(Serialize)]
struct Fleet {
    server: String,
    health: String,
    satellites: u64,
    by_state: BTreeMap<&'static str, u64>,
    drifting: u64,
    groups: usize,
    artifacts: usize,
}

pub(crate) async fn status(client: &Client, output: Output) -> Result<(), Error> {
    let health = match client.get::<Value>(&["health"]).await {
        Ok(body) => body["status"].as_str().unwrap_or("unknown").to_owned(),
        Err(Error::Answer { .. } | Error::Refused { .. }) => "unhealthy".to_owned(),
        Err(error) => return Err(error),
    };
    let path = ["api", "satellites"];
    let mut by_state = BTreeMap::new();
    for state in STATES {
        let count = client.count(&path, &[("state", state.as_str())]).await?;
        if count > 0 {
            by_state.insert(state.as_str(), count);
        }
    }
    let groups: Vec<Group> = client.list(&["api", "groups"]).await?;
    let fleet = Fleet {
        server: client.server_text(),
        health,
        satellites: by_state.values().sum(),
        drifting: client.count(&path, &[("drift", "true")]).await?,
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
            ("Drifting", fleet.drifting.to_string()),
            ("Groups", format!("{} with {} artifacts", fleet.groups, fleet.artifacts)),
        ])
    })
}
