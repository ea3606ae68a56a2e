//! Starts whoever keeps the identity up to date, and shows in the status what they keep.

use std::sync::Arc;
use std::time::Duration;

use identity::IdentityKeeper;
use identity::workload_api::{self, Wanted};
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::sync::{Notify, watch};

use super::{EdgeIdentity, builtin};
use crate::config::{IdentitySource, LiveConfig};
use crate::events::{Event, Events};
use crate::sealed::Vault;

/// How often the clock is looked at: an SVID expires without anybody saying so.
const LOOK: Duration = Duration::from_secs(5);

/// Keeps the identity as the settings say, for as long as it is polled.
pub(crate) async fn keep(
    keeper: Option<IdentityKeeper>,
    config: LiveConfig,
    vault: Vault,
    token: watch::Receiver<Option<SecretString>>,
    events: Events,
) {
    let settings = config.site().identity.clone();
    let Some(keeper) = keeper else { return };
    match settings.source {
        IdentitySource::Token => {}
        IdentitySource::WorkloadApi { endpoint } => match endpoint.parse() {
            Ok(endpoint) => match workload_api::follow(keeper, endpoint, Wanted::Satellite).await {},
            Err(error) => {
                let error: workload_api::EndpointError = error;
                events.emit(Event::IdentityTrouble { what: error.to_string() });
            }
        },
        IdentitySource::Builtin { join_token_file, trust_bundle_file } => {
            let parts = builtin::Parts {
                join_token_file,
                trust_bundle_file,
                expected: settings.expected_server,
                config,
                vault,
                keeper,
                token,
                events,
            };
            builtin::run(parts).await;
        }
    }
}

/// Tells status and log what is held, and wakes what waits for it.
pub(crate) async fn tell(
    mut identity: EdgeIdentity,
    source: IdentitySource,
    events: Events,
    registration: Arc<Notify>,
    others: [Arc<Notify>; 2],
) {
    if !identity.is_used() {
        return;
    }
    if let IdentitySource::WorkloadApi { endpoint } = &source {
        let what = format!(
            "no SVID yet from the Workload API at {endpoint}: an agent has to run there and know this workload"
        );
        events.emit(Event::IdentityTrouble { what });
    }
    let mut told: Option<Vec<u8>> = None;
    let mut was_there = false;
    loop {
        let current = identity.current();
        match &current {
            Some(current) => {
                let serial = current.svid.leaf().serial.clone();
                if told.as_ref() != Some(&serial) || !was_there {
                    told = Some(serial);
                    events.emit(Event::IdentityHeld {
                        id: current.svid.id().to_string(),
                        expires_at: current.svid.leaf().not_after,
                        authorities: current.bundle.authorities.len(),
                    });
                    registration.notify_one();
                    if !was_there {
                        others.iter().for_each(|other| other.notify_one());
                    }
                } else {
                    let authorities = current.bundle.authorities.len() as u64;
                    if events.status().read(|status| status.identity.authorities != authorities) {
                        events.status().update(|status| status.identity.authorities = authorities);
                    }
                }
            }
            None if was_there => {
                let expired = identity.kept().map(|kept| kept.svid.leaf().not_after);
                let what = match expired.filter(|at| *at <= Timestamp::now()) {
                    Some(at) => format!("the SVID expired at {at} and there is no new one"),
                    None => {
                        "the SVID was withdrawn: nothing new is fetched until there is one again".to_owned()
                    }
                };
                if let IdentitySource::WorkloadApi { .. } = source {
                    events.emit(Event::IdentityTrouble { what });
                }
            }
            None => {}
        }
        was_there = current.is_some();
        drop(current);
        tokio::select! {
            () = identity.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
