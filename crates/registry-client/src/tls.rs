//! What a registry's certificate is checked against.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// How a registry's certificate is checked.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// PEM file of authorities that are trusted besides the public ones (`TLS_CA_FILE`).
    pub ca_file: Option<PathBuf>,
    /// Check no certificate at all. Whoever sits on the wire then reads the credentials: only ever on an
    /// operator's explicit word, never as a side effect of allowing plain HTTP.
    pub skip_verify: bool,
    /// What is used instead at the registry's own origin, as it is: a registry whose certificate is checked in another way
    /// (by SPIFFE ID), or that is shown a certificate. Token services and redirects on other origins are still
    /// checked by what stands above.
    pub own_origin: Option<ClientConfig>,
}

/// The rustls configuration. Only HTTP/1.1 is offered: a blob then has a connection of its own, whose loss
/// costs no other, and whose reads are large. Public for clients of other services that are trusted in the same way.
///
/// # Errors
/// Text that names the CA file and what is wrong with it.
pub fn client_config(options: &TlsOptions) -> Result<ClientConfig, String> {
    let provider = CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?;
    let mut config = if options.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(NoVerification(provider)))
    } else {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(file) = &options.ca_file {
            let shown = file.display();
            let pem = std::fs::read(file).map_err(|e| format!("cannot read the TLS CA file {shown}: {e}"))?;
            let mut count = 0_usize;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|e| format!("TLS CA file {shown} is not PEM: {e}"))?;
                roots
                    .add(certificate)
                    .map_err(|e| format!("TLS CA file {shown} holds a bad certificate: {e}"))?;
                count += 1;
            }
            if count == 0 {
                return Err(format!("TLS CA file {shown} holds no certificate"));
            }
        }
        builder.with_root_certificates(roots)
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The configuration for the registry's own origin, where it has one of its own.
pub(crate) fn own_origin(options: &TlsOptions) -> Option<ClientConfig> {
    let mut config = options.own_origin.clone()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(config)
}

/// Takes any certificate; signatures of the handshake are still checked, so that a broken peer is noticed.
#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
