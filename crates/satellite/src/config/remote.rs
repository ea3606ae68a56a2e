//! What a config document from Ground Control may change, and what it may not.

use std::fmt;

use fleet_protocol::config::ConfigDocument;

use super::layer::{self, Origin};
use super::{Effective, Layer, Site, identity};

/// The decisions about remote configuration; a function from values to values.
#[derive(Debug)]
pub struct RemoteConfig;

/// What taking a document means.
#[derive(Debug, Clone)]
pub struct Change {
    /// The configuration after it, as far as it changes without a restart.
    pub effective: Effective,
    /// The configuration that the next start will have.
    pub next_start: Effective,
    /// What the document itself says.
    pub(super) layer: Layer,
    /// Settings that changed and are in force at once.
    pub live: Vec<&'static str>,
    /// Settings that changed and wait for the next start.
    pub restart: Vec<&'static str>,
    /// Keys that were given and are not honoured, and settings that were left as they are, each with its reason.
    pub warnings: Vec<String>,
}

/// Why a document was refused as a whole; the last good one stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// One line for each thing that is wrong: the key, and what is wrong with it.
    pub reasons: Vec<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "remote config refused: {}", self.reasons.join("; "))
    }
}

impl RemoteConfig {
    /// Decides whether `document` can be worked with, and what changes if it is taken.
    ///
    /// # Errors
    /// [`Refusal`] with every reason, when a value does not validate or asks for a part that is not there.
    pub fn apply(site: &Site, current: &Effective, document: &ConfigDocument) -> Result<Change, Refusal> {
        decide(site, current, document)
    }
}

fn decide(site: &Site, current: &Effective, document: &ConfigDocument) -> Result<Change, Refusal> {
    let mut read = layer::read(document, Origin::Remote)?;
    if let Some(spiffe) = &read.spiffe {
        read.warnings.extend(identity::not_taken(&site.identity, spiffe));
    }
    let mut wanted = Effective::of(site, &read.layer);
    let problems = layer::problems(&wanted);
    if !problems.is_empty() {
        return Err(Refusal { reasons: problems.iter().map(ToString::to_string).collect() });
    }

    let mut restart = Vec::new();
    if wanted.listen.address != current.listen.address {
        restart.push("zot_config.http");
    }
    if (wanted.byo_wanted, &wanted.byo_registry) != (current.byo_wanted, &current.byo_registry) {
        restart.push("bring_own_registry");
    }
    if wanted.gc_grace != current.gc_grace {
        restart.push("zot_config.storage.gcDelay");
    }
    let next_start = wanted.clone();
    wanted.listen = current.listen;
    wanted.byo_wanted = current.byo_wanted;
    wanted.byo_registry.clone_from(&current.byo_registry);
    wanted.gc_grace = current.gc_grace;

    let live = [
        ("ground_control_url", wanted.ground_control_url != current.ground_control_url),
        ("log_level", wanted.log_level != current.log_level),
        ("use_unsecure", wanted.use_unsecure != current.use_unsecure),
        (
            "state_replication_interval",
            wanted.state_replication_interval != current.state_replication_interval,
        ),
        (
            "register_satellite_interval",
            wanted.register_satellite_interval != current.register_satellite_interval,
        ),
        ("heartbeat_interval", wanted.heartbeat_interval != current.heartbeat_interval),
        ("referrers_interval", wanted.referrer_interval != current.referrer_interval),
        ("metrics", wanted.metrics != current.metrics),
        ("tls", wanted.tls != current.tls),
        ("harbor_registry_url", wanted.harbor_registry_url != current.harbor_registry_url),
        (
            "registry_fallback",
            (&wanted.mirrors, &wanted.mirror_paths, &wanted.mirror_peers)
                != (&current.mirrors, &current.mirror_paths, &current.mirror_peers),
        ),
        ("direct_delivery", wanted.image_folder != current.image_folder),
        ("zot_config.storage.gc", wanted.gc != current.gc),
        ("zot_config.storage.gcInterval", wanted.gc_interval != current.gc_interval),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect();
    Ok(Change { effective: wanted, next_start, layer: read.layer, live, restart, warnings: read.warnings })
}

#[cfg(test)]
mod tests;
