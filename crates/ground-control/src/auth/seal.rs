//! Secrets that have to be read again, as the database keeps them: AES-256-GCM under a key made of the server key, bound to
//! the place that they belong to.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{DerivedKey, ServerKey};

/// Bytes of a nonce (NIST SP 800-38D, section 5.2.1.1), in front of what is sealed.
const NONCE: usize = 12;

/// It does not open: another key sealed it, or it was put into another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what is sealed does not open, the server key is another one or the database was changed")]
pub struct NotOpened;

/// Seals and opens secrets of one kind.
#[derive(Debug, Clone)]
pub struct Seal(DerivedKey);

impl Seal {
    /// For the secrets of this `purpose`.
    pub fn new(key: &ServerKey, purpose: &str) -> Self {
        Self(key.derive(purpose))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&self.0.bytes().into())
    }

    /// Seals `secret`; what is put into a place with another `context` does not open.
    ///
    /// # Errors
    /// [`NotOpened`] for a secret of more than 64 GiB.
    pub fn seal(&self, context: &[u8], secret: &str) -> Result<String, NotOpened> {
        let nonce: [u8; NONCE] = rand::random();
        let sealed = self
            .cipher()
            .encrypt(&Nonce::from(nonce), Payload { msg: secret.as_bytes(), aad: context })
            .map_err(|_| NotOpened)?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// Opens what [`Seal::seal`] made.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open(&self, context: &[u8], sealed: &str) -> Result<Zeroizing<String>, NotOpened> {
        let bytes = STANDARD.decode(sealed).map_err(|_| NotOpened)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>().ok_or(NotOpened)?;
        let secret = self
            .cipher()
            .decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: context })
            .map_err(|_| NotOpened)?;
        String::from_utf8(secret).map(Zeroizing::new).map_err(|_| NotOpened)
    }
}
