//! The built-in authority: certificates for satellites and node agents without SPIRE.

use std::sync::Arc;

use axum::Router;
use identity::{Identity, TrustBundle, TrustDomain};
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::auth::ServerKey;
use crate::store::SharedStore;

/// Why the built-in authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Not there yet.
    #[error("not there yet")]
    Later,
}

/// The built-in authority.
#[derive(Debug)]
pub struct Authority {}

impl Authority {
    /// Opens the authority of `trust_domain`, which is made where there is none. [`Authority::own`] is ready then.
    ///
    /// `grace`: for how long after its end an SVID still renews.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub async fn open(
        _store: SharedStore,
        _key: &ServerKey,
        _trust_domain: TrustDomain,
        _grace: SignedDuration,
    ) -> Result<Arc<Self>, AuthorityError> {
        Err(AuthorityError::Later)
    }

    /// Keeps authorities and our own SVIDs fresh until `stop`: a task that runs as long as the program.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// Ground Control's own identity, `/gc/main`.
    pub fn own(&self) -> Identity {
        identity::identity().1
    }

    /// The authorities of the trust domain now.
    pub fn bundle(&self) -> TrustBundle {
        unimplemented!()
    }

    /// The agents' listener as a router (gRPC), to be served by `registry_server::listen::serve` under
    /// [`Authority::agent_tls`].
    pub fn agent_router(self: &Arc<Self>) -> Router {
        Router::new()
    }

    /// TLS of the agents' listener: the SVID `/spire/server`, HTTP/2 alone, a client certificate where one is shown.
    ///
    /// # Errors
    /// [`identity::tls::TlsError`].
    pub fn agent_tls(&self) -> Result<registry_server::listen::TlsServer, AuthorityError> {
        Err(AuthorityError::Later)
    }
}

/// `POST /satellites/attest`, `GET` and `POST /satellites/renew`; without an authority they say that there is none (404).
pub fn routes<S: Clone + Send + Sync + 'static>(_authority: Option<Arc<Authority>>) -> Router<S> {
    Router::new()
}
