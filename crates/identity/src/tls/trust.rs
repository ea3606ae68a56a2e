//! Whom we trust in a handshake: the bundle of the moment as trust anchors, made anew only when it changes.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::id::TrustDomain;
use crate::source::{Current, Identity};
use crate::svid::{SvidError, TrustBundle};

/// A bundle, ready for checking chains.
#[derive(Debug)]
pub(super) struct Anchors {
    /// Whose authorities they are.
    pub(super) trust_domain: TrustDomain,
    /// For the chains of servers.
    pub(super) roots: Arc<RootCertStore>,
    /// For the chains of clients.
    pub(super) clients: Arc<dyn ClientCertVerifier>,
}

impl Anchors {
    fn new(bundle: &TrustBundle, provider: &Arc<CryptoProvider>) -> Result<Self, SvidError> {
        let roots = Arc::new(bundle.roots()?);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .build()
            .map_err(|error| SvidError::Certificate(error.to_string()))?;
        Ok(Self { trust_domain: bundle.trust_domain.clone(), roots, clients })
    }
}

/// Where the anchors of the moment come from.
#[derive(Debug)]
pub(super) struct Trust {
    source: Source,
    pub(super) provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Source {
    Fixed(Arc<Anchors>),
    Live { identity: Identity, made: Mutex<Option<Made>> },
}

/// The anchors made last, and what they were made of.
#[derive(Debug)]
struct Made {
    of: Arc<Current>,
    anchors: Arc<Anchors>,
}

impl Trust {
    pub(super) fn live(identity: Identity, provider: &Arc<CryptoProvider>) -> Self {
        Self { source: Source::Live { identity, made: Mutex::new(None) }, provider: Arc::clone(provider) }
    }

    pub(super) fn fixed(bundle: TrustBundle, provider: &Arc<CryptoProvider>) -> Result<Self, SvidError> {
        let anchors = Arc::new(Anchors::new(&bundle, provider)?);
        Ok(Self { source: Source::Fixed(anchors), provider: Arc::clone(provider) })
    }

    /// The anchors of this moment.
    ///
    /// # Errors
    /// A TLS error where our own identity is withdrawn or has expired, or its bundle is unusable: nobody is trusted then.
    pub(super) fn anchors(&self) -> Result<Arc<Anchors>, rustls::Error> {
        let (identity, made) = match &self.source {
            Source::Fixed(anchors) => return Ok(Arc::clone(anchors)),
            Source::Live { identity, made } => (identity, made),
        };
        let current = identity
            .current()
            .ok_or_else(|| rustls::Error::General("we have no SPIFFE identity at this moment".to_owned()))?;
        if current.svid.leaf().is_expired(super::now()) {
            return Err(rustls::Error::General(format!("our own SVID {} has expired", current.svid.id())));
        }
        // What is under the lock is replaced whole: it is good even if a holder panicked.
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *made {
            Some(last) if Arc::ptr_eq(&last.of, &current) => Ok(Arc::clone(&last.anchors)),
            // A new SVID with the same bundle, as at most rotations.
            Some(last) if last.of.bundle == current.bundle => {
                last.of = current;
                Ok(Arc::clone(&last.anchors))
            }
            slot => {
                let anchors = Anchors::new(&current.bundle, &self.provider).map_err(|error| {
                    rustls::Error::General(format!("our trust bundle is unusable: {error}"))
                })?;
                let anchors = Arc::new(anchors);
                *slot = Some(Made { of: current, anchors: Arc::clone(&anchors) });
                Ok(anchors)
            }
        }
    }
}
