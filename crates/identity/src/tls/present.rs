//! What we show in a handshake.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::source::Identity;

/// Shows the SVID that is good at the moment of the handshake: none where it is withdrawn or has expired.
#[derive(Debug)]
pub(super) struct OurSvid {
    identity: Identity,
}

impl OurSvid {
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity }
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.identity.current()?;
        (!current.svid.leaf().is_expired(super::now())).then(|| current.svid.certified_key())
    }
}

impl ResolvesServerCert for OurSvid {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for OurSvid {
    /// The authorities that a server hints at are no help: ours change while it runs, and we have but one SVID.
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
