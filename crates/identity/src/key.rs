//! Keys that never leave the machine they were made on, and the requests that are signed with them.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, UnparsedPublicKey,
    VerificationAlgorithm,
};
use rcgen::{PublicKeyData as _, SigningKey as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::oid_registry as oids;
use x509_parser::prelude::{
    AlgorithmIdentifier, FromDer as _, SubjectPublicKeyInfo, X509CertificationRequest,
};
use zeroize::Zeroizing;

use crate::id::SpiffeId;

/// The largest request that is looked at; one with an RSA key of 8192 bits has about 3 KiB.
const MAX_CSR: usize = 16 * 1024;

/// Why a key or a request is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key could be made, or it could not sign.
    #[error("cannot {what}: {cause}")]
    Crypto {
        /// What was tried.
        what: &'static str,
        /// What went wrong.
        cause: String,
    },
    /// The text is no P-256 private key in PKCS#8.
    #[error("not a P-256 private key in PEM: {0}")]
    Key(String),
    /// The text or the bytes are no certificate signing request.
    #[error("not a certificate signing request: {0}")]
    Csr(String),
    /// The request's key is of a kind, or its signature by a method, that is not taken.
    #[error("the certificate signing request uses a key or signature that is not taken: use ECDSA P-256")]
    Unsupported,
    /// Whoever made the request does not hold the key in it.
    #[error("the signature of the certificate signing request is not by its own key")]
    Signature,
}

/// A P-256 key pair.
pub struct KeyPair {
    inner: rcgen::KeyPair,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] where the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let inner = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|error| KeyError::Crypto { what: "make a key", cause: error.to_string() })?;
        Ok(Self { inner })
    }

    /// Reads a PKCS#8 key in PEM.
    ///
    /// # Errors
    /// [`KeyError::Key`] where it is none, or not a P-256 one.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| KeyError::Key(error.to_string()))?;
        let inner = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256)
            .map_err(|error| KeyError::Key(error.to_string()))?;
        Ok(Self { inner })
    }

    /// The key as PKCS#8 PEM. The caller guards it.
    #[must_use]
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.inner.serialize_pem())
    }

    /// The private key as rustls takes it.
    #[must_use]
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.inner.serialize_der()))
    }

    /// The public key: a DER `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        self.inner.subject_public_key_info()
    }

    /// A certificate signing request (RFC 2986) for this key, naming an ID where there is one to name.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] where it cannot be signed.
    pub fn csr_pem(&self, id: Option<&SpiffeId>) -> Result<String, KeyError> {
        let fail = |error: rcgen::Error| KeyError::Crypto {
            what: "make a certificate signing request",
            cause: error.to_string(),
        };
        let mut parameters = rcgen::CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(id) = id {
            let uri = id.to_string().try_into().map_err(fail)?;
            parameters.subject_alt_names = vec![rcgen::SanType::URI(uri)];
        }
        parameters.serialize_request(&self.inner).and_then(|request| request.pem()).map_err(fail)
    }

    /// Signs: ECDSA P-256 with SHA-256, the signature in DER.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] where the system gives no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.inner.sign(message).map_err(|error| KeyError::Crypto { what: "sign", cause: error.to_string() })
    }
}

/// Whether a message was signed by a P-256 key (a DER `SubjectPublicKeyInfo`): ECDSA with SHA-256, the signature in DER.
#[must_use]
pub fn verify(public_key_spki: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let Ok((rest, spki)) = SubjectPublicKeyInfo::from_der(public_key_spki) else { return false };
    rest.is_empty()
        && curve(&spki.algorithm) == Some(Curve::P256)
        && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki.subject_public_key.data)
            .verify(message, signature)
            .is_ok()
}

/// A certificate signing request whose maker holds the key. Nothing else in it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// The key that a certificate is asked for: a DER `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
    /// The whole request in DER.
    pub der: Vec<u8>,
}

impl Csr {
    /// Reads a request in PEM.
    ///
    /// # Errors
    /// As [`Csr::from_der`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.len() > 2 * MAX_CSR {
            return Err(KeyError::Csr("it is too long".to_owned()));
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| KeyError::Csr(error.to_string()))?;
        Self::from_der(&der)
    }

    /// Reads a request in DER and checks that its own key signed it. Keys: P-256, P-384, RSA of 2048 bits and more.
    ///
    /// # Errors
    /// [`KeyError`] where it is no request, its key is not taken, or another key signed it.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        if der.len() > MAX_CSR {
            return Err(KeyError::Csr("it is too long".to_owned()));
        }
        let (rest, request) =
            X509CertificationRequest::from_der(der).map_err(|error| KeyError::Csr(error.to_string()))?;
        if !rest.is_empty() {
            return Err(KeyError::Csr("bytes follow it".to_owned()));
        }
        let info = &request.certification_request_info;
        let spki = &info.subject_pki;
        let method = method(&spki.algorithm, &request.signature_algorithm).ok_or(KeyError::Unsupported)?;
        UnparsedPublicKey::new(method, &spki.subject_public_key.data)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| KeyError::Signature)?;
        Ok(Self { public_key: spki.raw.to_vec(), der: der.to_vec() })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
}

fn curve(algorithm: &AlgorithmIdentifier<'_>) -> Option<Curve> {
    if algorithm.algorithm != oids::OID_KEY_TYPE_EC_PUBLIC_KEY {
        return None;
    }
    let curve = algorithm.parameters.as_ref()?.as_oid().ok()?;
    if curve == oids::OID_EC_P256 {
        Some(Curve::P256)
    } else if curve == oids::OID_NIST_EC_P384 {
        Some(Curve::P384)
    } else {
        None
    }
}

/// How a signature of this kind by a key of this kind is checked; `None` for one that is not taken.
fn method(
    key: &AlgorithmIdentifier<'_>,
    signature: &AlgorithmIdentifier<'_>,
) -> Option<&'static dyn VerificationAlgorithm> {
    let signature = &signature.algorithm;
    if let Some(curve) = curve(key) {
        let sha256 = *signature == oids::OID_SIG_ECDSA_WITH_SHA256;
        let sha384 = *signature == oids::OID_SIG_ECDSA_WITH_SHA384;
        return match curve {
            Curve::P256 if sha256 => Some(&ECDSA_P256_SHA256_ASN1),
            Curve::P256 if sha384 => Some(&ECDSA_P256_SHA384_ASN1),
            Curve::P384 if sha256 => Some(&ECDSA_P384_SHA256_ASN1),
            Curve::P384 if sha384 => Some(&ECDSA_P384_SHA384_ASN1),
            _ => None,
        };
    }
    if key.algorithm != oids::OID_PKCS1_RSAENCRYPTION {
        return None;
    }
    if *signature == oids::OID_PKCS1_SHA256WITHRSA {
        Some(&RSA_PKCS1_2048_8192_SHA256)
    } else if *signature == oids::OID_PKCS1_SHA384WITHRSA {
        Some(&RSA_PKCS1_2048_8192_SHA384)
    } else if *signature == oids::OID_PKCS1_SHA512WITHRSA {
        Some(&RSA_PKCS1_2048_8192_SHA512)
    } else {
        None
    }
}
