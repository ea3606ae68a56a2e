//! What there is, as Ground Control tells it.

use fleet_protocol::api::{Config, Group, Satellite};

use crate::client::Client;
use crate::error::Error;
use crate::fleet::{Current, CurrentGroup, CurrentSatellite};

/// Reads every page of configs, groups and satellites.
pub(super) async fn everything(client: &Client) -> Result<Current, Error> {
    let configs: Vec<Config> = client.list(&["api", "configs"]).await?;
    let groups: Vec<Group> = client.list(&["api", "groups"]).await?;
    let satellites: Vec<Satellite> = client.list(&["api", "satellites"]).await?;
    let mut current = Current::default();
    for config in configs {
        current.configs.insert(config.config_name, config.config);
    }
    for one in groups {
        let (name, group) = group(client, one)?;
        current.groups.insert(name, group);
    }
    for satellite in satellites {
        let groups = satellite.groups.into_iter().collect();
        let (labels, config) = (satellite.labels, satellite.config_name);
        current.satellites.insert(satellite.name, CurrentSatellite { labels, config, groups });
    }
    Ok(current)
}

/// A group by its name.
pub(super) fn group(client: &Client, group: Group) -> Result<(String, CurrentGroup), Error> {
    let selector = group.selector.filter(|text| !text.is_empty()).map(|text| text.parse()).transpose();
    // To take one that is not understood for none would change who is in the group.
    let selector = selector.map_err(|reason: String| Error::Answer {
        server: client.server_text(),
        reason: format!("the selector of group {}: {reason}", group.group_name),
    })?;
    let mut artifacts = group.artifacts;
    // Found out by Ground Control, and no one's to say.
    artifacts.iter_mut().for_each(|artifact| artifact.referrers = None);
    Ok((group.group_name, CurrentGroup { artifacts, selector }))
}
