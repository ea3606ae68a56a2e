//! Our own identity by the configured provider, and who registers satellites.

use std::net::SocketAddr;
use std::sync::Arc;

use identity::Identity;
use identity::files::{self, Files};
use identity::workload_api::{self, Wanted};
use jiff::SignedDuration;
use spire::ServerClient;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::StartError;
use crate::auth::ServerKey;
use crate::config::{IdentitySource, SpiffeConfig, Spire, SpireAdmin};
use crate::identity::builtin::Authority;
use crate::identity::spire::SpireRegistrar;
use crate::identity::{Identities, Registrar};
use crate::metrics::Metrics;
use crate::store::SharedStore;

/// The address of the listener for agents, where there is one, as it was bound.
pub(super) type AgentsAddress = Option<SocketAddr>;

/// Opens what the settings say. Our own SVID may still be on its way: handshakes fail until it is there.
pub(super) async fn open(
    config: &SpiffeConfig,
    store: &SharedStore,
    key: &ServerKey,
    agents: AgentsAddress,
    metrics: &Metrics,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Identities, StartError> {
    let (own, authority, spire) = match &config.source {
        IdentitySource::Sidecar { endpoint, spire } => {
            let (keeper, own) = identity::identity();
            let follow = workload_api::follow(keeper, endpoint.clone(), Wanted::GroundControl);
            tasks.spawn(stop.clone().run_until_cancelled_owned(follow));
            (own, None, Some(spire))
        }
        IdentitySource::Static { certificate, key, bundle, spire } => {
            let (keeper, own) = identity::identity();
            let files = Files {
                certificate: certificate.clone(),
                key: key.clone(),
                bundle: bundle.clone(),
                trust_domain: config.trust_domain.clone(),
            };
            let follow = files::follow(keeper, files);
            tasks.spawn(stop.clone().run_until_cancelled_owned(follow));
            (own, None, Some(spire))
        }
        IdentitySource::Builtin { renewal_grace, .. } => {
            let grace = SignedDuration::try_from(*renewal_grace).unwrap_or(SignedDuration::MAX);
            let authority =
                Authority::open(Arc::clone(store), key, config.trust_domain.clone(), grace).await?;
            tasks.spawn(Arc::clone(&authority).keep(metrics.clone(), stop.clone()));
            (authority.own(), Some(authority), None)
        }
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(tell(own.clone())));
    let registrar: Option<Arc<dyn Registrar>> = match (&authority, spire) {
        (Some(authority), _) => Some(Arc::clone(authority) as _),
        (None, Some(Spire { admin: Some(admin), .. })) => Some(spire_registrar(admin, &own, config)?),
        (None, _) => None,
    };
    Ok(Identities {
        trust_domain: config.trust_domain.clone(),
        provider: config.provider(),
        own,
        registrar,
        authority,
        auto_register: config.auto_register,
        agent_server: agent_server(config, agents),
    })
}

fn spire_registrar(
    admin: &SpireAdmin,
    own: &Identity,
    config: &SpiffeConfig,
) -> Result<Arc<dyn Registrar>, StartError> {
    let client = match admin {
        SpireAdmin::Socket(path) => ServerClient::unix(path),
        SpireAdmin::Tcp(host, port) => ServerClient::tcp(host, *port, own.clone(), &config.trust_domain)?,
    };
    Ok(Arc::new(SpireRegistrar::new(client, config.trust_domain.clone())))
}

/// What registrants are told of the server that their agents attest to.
fn agent_server(config: &SpiffeConfig, bound: AgentsAddress) -> Option<(String, u16)> {
    match &config.source {
        IdentitySource::Sidecar { spire, .. } | IdentitySource::Static { spire, .. } => spire.public.clone(),
        IdentitySource::Builtin { agents_host, .. } => {
            let bound = bound?;
            Some((agents_host.clone().unwrap_or_else(|| bound.ip().to_string()), bound.port()))
        }
    }
}

/// Says in the log who we are, and when there is nobody to be.
async fn tell(mut own: Identity) {
    if own.current().is_none() {
        tracing::info!("waiting for our own svid, tls handshakes fail until it is there");
        if own.ready().await.is_none() {
            return;
        }
    }
    loop {
        match own.current() {
            Some(current) => {
                let (leaf, authorities) = (current.svid.leaf(), current.bundle.authorities.len());
                tracing::info!(identity = %leaf.id, expires_at = %leaf.not_after, authorities, "svid in service");
            }
            None => tracing::warn!("our own svid is gone, tls handshakes fail"),
        }
        if !own.changed().await {
            return;
        }
    }
}
