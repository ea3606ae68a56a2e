//! `spire`: who makes identities, and the agents that attested.

use fleet_protocol::api::{SpireAgents, SpireStatus};

use crate::cli::{Output, Spire};
use crate::client::Client;
use crate::error::Error;
use crate::render;

pub(crate) async fn run(client: &Client, output: Output, command: Spire) -> Result<(), Error> {
    match command {
        Spire::Status => {
            let status: SpireStatus = client.get(&["api", "spire", "status"]).await?;
            render::show(output, &status, record)
        }
        Spire::Agents { attestation_type } => {
            let query = attestation_type.map(|method| ("attestation_type", method.as_str()));
            let agents: SpireAgents = client.ask(&["api", "spire", "agents"], query.as_slice()).await?;
            render::show(output, &agents, table)
        }
    }
}

fn record(status: &SpireStatus) -> comfy_table::Table {
    let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
    let connected = if status.enabled { yes(status.connected) } else { String::new() };
    render::record([
        ("SPIFFE", if status.enabled { "enabled" } else { "not enabled" }.to_owned()),
        ("Trust domain", status.trust_domain.clone().unwrap_or_default()),
        ("Provider", status.provider.clone().unwrap_or_default()),
        ("Connected", connected),
    ])
}

fn table(answer: &SpireAgents) -> comfy_table::Table {
    let mut table = render::table(["AGENT", "ATTESTED BY", "SVID ENDS", "SELECTORS"]);
    for agent in &answer.agents {
        table.add_row([
            agent.spiffe_id.clone(),
            agent.attestation_type.clone(),
            agent.expires_at.map(|end| end.to_string()).unwrap_or_default(),
            agent.selectors.join("\n"),
        ]);
    }
    table
}
