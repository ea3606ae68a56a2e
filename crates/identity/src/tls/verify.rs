//! Whom we take in a handshake: a chain to the bundle of the moment, the rules of an X.509-SVID, our trust domain, and for
//! a server the ID that is expected.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::Expected;
use super::trust::Trust;
use crate::id::{SpiffeId, TrustDomain};
use crate::svid::{Leaf, SvidError};

use std::sync::Arc;

/// Why a certificate with a good chain is not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    NoSvid(#[from] SvidError),
    #[error("{id} is not of our trust domain {ours}")]
    Foreign { id: SpiffeId, ours: TrustDomain },
    #[error("the server is {id}, which is not the one expected")]
    Unexpected { id: SpiffeId },
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// Takes clients of our trust domain, and clients without a certificate.
#[derive(Debug)]
pub(super) struct Clients {
    trust: Trust,
}

impl Clients {
    pub(super) fn new(trust: Trust) -> Self {
        Self { trust }
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: they change while the configuration lives, and RFC 8446, section 4.2.4 makes them a hint.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let anchors = self.trust.anchors()?;
        anchors.clients.verify_client_cert(end_entity, intermediates, now)?;
        let leaf = Leaf::parse(end_entity).map_err(Refusal::from)?;
        if leaf.id.trust_domain() != &anchors.trust_domain {
            return Err(Refusal::Foreign { id: leaf.id, ours: anchors.trust_domain.clone() }.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.trust.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.trust.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes the expected server, by its SPIFFE ID and never by a host name.
#[derive(Debug)]
pub(super) struct Servers {
    trust: Trust,
    expected: Expected,
}

impl Servers {
    pub(super) fn new(trust: Trust, expected: Expected) -> Self {
        Self { trust, expected }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let anchors = self.trust.anchors()?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &anchors.roots,
            intermediates,
            now,
            self.trust.provider.signature_verification_algorithms.all,
        )?;
        let leaf = Leaf::parse(end_entity).map_err(Refusal::from)?;
        if leaf.id.trust_domain() != &anchors.trust_domain {
            return Err(Refusal::Foreign { id: leaf.id, ours: anchors.trust_domain.clone() }.into());
        }
        if !self.expected.takes(&leaf.id, &anchors.trust_domain) {
            return Err(Refusal::Unexpected { id: leaf.id }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.trust.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.trust.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.provider.signature_verification_algorithms.supported_schemes()
    }
}
