//! Attestation and renewal with the built-in authority: how an edge comes by its X.509-SVID without SPIRE.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::registration::exposed;

/// `POST /satellites/attest`: a one-time join token, and the key that the SVID shall be for.
///
/// The SPIFFE ID comes from the token. The claim binds the token to the key of the request, so that a lost answer can be
/// asked for again with the same key, and with no other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AttestRequest {
    /// The join token.
    #[serde(serialize_with = "exposed")]
    pub join_token: SecretString,
    /// PKCS#10 request (PEM), signed by the key. Its subject and extensions are passed over.
    pub csr: String,
}

/// The answer to `GET /satellites/renew`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalNonce {
    /// Good once, for five minutes.
    pub nonce: String,
    /// When it is worth nothing any more.
    pub expires_at: Timestamp,
}

/// `POST /satellites/renew`: a new key, vouched for by the old one. Works with an expired SVID, too, within the grace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// PKCS#10 request (PEM) of the new key.
    pub csr: String,
    /// The SPIFFE ID of the SVID that is renewed.
    pub spiffe_id: String,
    /// The nonce.
    pub nonce: String,
    /// ECDSA P-256 with SHA-256 by the old key over [`renewal_message`]; the signature in DER, base64.
    pub signature: String,
}

/// What is signed to renew: `renew`, the SPIFFE ID, the nonce, and the base64 (with padding) of the request's DER, each
/// on a line of its own.
pub fn renewal_message(spiffe_id: &str, nonce: &str, csr_base64: &str) -> String {
    format!("renew\n{spiffe_id}\n{nonce}\n{csr_base64}")
}

/// The answer to attestation and to renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SvidAnswer {
    /// The X.509-SVID: the leaf, then what lies between it and the authority, if anything (PEM).
    pub svid: String,
    /// The authorities of the trust domain (PEM).
    pub trust_bundle: String,
    /// The end of the SVID.
    pub expires_at: Timestamp,
}
