//! What the sealed file holds of an identity that the built-in authority issued.

use std::fmt;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};

/// An X.509-SVID with its key, and whom it trusts. The three change together.
#[derive(Clone, Serialize, Deserialize)]
pub struct HeldIdentity {
    /// The private key (PKCS#8 PEM). It was made here and leaves this file only for memory.
    #[serde(serialize_with = "exposed")]
    pub key: SecretString,
    /// The certificates, leaf first (PEM).
    pub svid: String,
    /// The authorities of the trust domain (PEM).
    pub trust_bundle: String,
    /// SHA-256 of the join token that it goes back to: the token may stay in its file.
    pub join_token_sha256: String,
    /// When it was issued last, by this machine's clock.
    pub issued_at: Timestamp,
}

/// An attestation under way. The claim at Ground Control is bound to the key, so a lost answer is asked for again with it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Joining {
    /// SHA-256 of the join token, hexadecimal.
    pub token_sha256: String,
    /// The private key (PKCS#8 PEM).
    #[serde(serialize_with = "exposed")]
    pub key: SecretString,
}

/// A renewal under way: the next key, on the disk before Ground Control hears of it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Renewing {
    /// The private key (PKCS#8 PEM).
    #[serde(serialize_with = "exposed")]
    pub key: SecretString,
}

impl fmt::Debug for HeldIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HeldIdentity").field("issued_at", &self.issued_at).finish_non_exhaustive()
    }
}

impl fmt::Debug for Joining {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Joining").finish_non_exhaustive()
    }
}

impl fmt::Debug for Renewing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Renewing").finish_non_exhaustive()
    }
}

/// Into the sealed file, and nowhere else.
fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}
