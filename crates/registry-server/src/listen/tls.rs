//! The server's side of TLS, with certificates that can change while it runs.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;

/// A TLS configuration that may be replaced while connections are accepted. Clones share it.
#[derive(Debug, Clone)]
pub struct TlsServer(Arc<RwLock<Arc<ServerConfig>>>);

impl TlsServer {
    /// Serves with `config`. Its `alpn_protocols` decide whether HTTP/2 is spoken: `["h2", "http/1.1"]`.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        TlsServer(Arc::new(RwLock::new(config)))
    }

    /// Uses `config` from the next handshake on; connections that stand keep theirs.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl From<Arc<ServerConfig>> for TlsServer {
    fn from(config: Arc<ServerConfig>) -> Self {
        TlsServer::new(config)
    }
}

/// The certificate chain that a peer showed in its handshake, leaf first, as a request extension.
#[derive(Debug, Clone)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);
