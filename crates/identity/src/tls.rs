//! TLS that authorises by SPIFFE ID, for as long as the program lives.
//!
//! A configuration holds no certificate and no trust anchor: each handshake takes those that the [`Identity`] holds at
//! that moment, and fails where it holds none. So rotation of an SVID or of the authorities needs no new configuration,
//! and a withdrawn identity is without effect at once. For the same reason nothing is resumed: neither side keeps or
//! takes tickets, every connection is checked anew.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use crate::id::{SpiffeId, TrustDomain};
use crate::source::Identity;
use crate::svid::{Leaf, SvidError, TrustBundle};
use crate::tls::trust::Trust;

mod present;
mod trust;
mod verify;

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The library refuses the settings.
    #[error("no TLS configuration: {0}")]
    Configuration(#[from] rustls::Error),
    /// The trust bundle is unusable.
    #[error("trust bundle: {0}")]
    Bundle(#[from] SvidError),
}

/// Which server a client takes. It is always one of our own trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// This one.
    Exactly(SpiffeId),
    /// One of these.
    AnyOf(Vec<SpiffeId>),
    /// Any member of our trust domain.
    Member,
}

impl Expected {
    fn takes(&self, id: &SpiffeId, ours: &TrustDomain) -> bool {
        id.trust_domain() == ours
            && match self {
                Self::Exactly(expected) => expected == id,
                Self::AnyOf(expected) => expected.contains(id),
                Self::Member => true,
            }
    }
}

/// A server that shows our SVID. A client may show a certificate: one that is no good SVID of our trust domain ends the
/// handshake, and without one the client is served as anybody ([`peer`] tells who it is).
///
/// # Errors
/// [`TlsError::Configuration`] where the provider lacks what TLS 1.2 and 1.3 need.
pub fn server_config(identity: &Identity, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let verifier = verify::Clients::new(Trust::live(identity.clone(), &provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(present::OurSvid::new(identity.clone())));
    config.alpn_protocols = owned(alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A client that shows our SVID and takes the expected server, whatever the name in the URL. Without an identity of our
/// own every handshake fails.
///
/// # Errors
/// [`TlsError::Configuration`] where the provider lacks what TLS 1.2 and 1.3 need.
pub fn client_config(
    identity: &Identity,
    expected: Expected,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = verify::Servers::new(Trust::live(identity.clone(), &provider), expected);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(present::OurSvid::new(identity.clone())));
    config.alpn_protocols = owned(alpn);
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A client with no certificate of its own that takes the expected server by a bundle it was given: for the requests that
/// lead to an SVID.
///
/// # Errors
/// [`TlsError::Bundle`] where the bundle is empty or broken, [`TlsError::Configuration`] as in [`client_config`].
pub fn bootstrap_client_config(
    bundle: TrustBundle,
    expected: Expected,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let verifier = verify::Servers::new(Trust::fixed(bundle, &provider)?, expected);
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = owned(alpn);
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Who the other side of a handshake is, from the certificates it showed. They must have come through a handshake of one
/// of these configurations: here only their contents are read. That the leaf has not expired since is for the caller to
/// ask, with each request.
///
/// # Errors
/// [`SvidError`] where there is no certificate, or the first is no X.509-SVID.
pub fn peer(certificates: &[CertificateDer<'_>]) -> Result<Leaf, SvidError> {
    Leaf::parse(certificates.first().ok_or(SvidError::Rule("no certificate was shown"))?)
}

/// The one provider of this program, whether or not it is installed as the process's default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

fn now() -> Timestamp {
    Timestamp::now()
}
