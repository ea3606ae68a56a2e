//! Keys of authorities as the database keeps them: AES-256-GCM under a key made of the server key, bound to the
//! authority that they belong to.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::TrustDomain;
use zeroize::Zeroizing;

use super::AuthorityError;
use crate::auth::{DerivedKey, ServerKey};

/// Bytes of a nonce (NIST SP 800-38D, section 5.2.1.1), in front of what is sealed.
const NONCE: usize = 12;

/// Seals and opens.
#[derive(Debug)]
pub(super) struct Seal {
    key: DerivedKey,
    trust_domain: TrustDomain,
}

impl Seal {
    pub(super) fn new(key: &ServerKey, trust_domain: &TrustDomain) -> Self {
        Self { key: key.derive("authority-keys"), trust_domain: trust_domain.clone() }
    }

    /// A key put into another row, or into another trust domain, does not open.
    fn context(&self, id: &str) -> Vec<u8> {
        [self.trust_domain.as_str().as_bytes(), &[0], id.as_bytes()].concat()
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&self.key.bytes().into())
    }

    pub(super) fn seal(&self, id: &str, key: &str) -> Result<String, AuthorityError> {
        let nonce: [u8; NONCE] = rand::random();
        let sealed = self
            .cipher()
            .encrypt(&Nonce::from(nonce), Payload { msg: key.as_bytes(), aad: &self.context(id) })
            .map_err(|_| AuthorityError::Sealed(id.to_owned()))?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }

    pub(super) fn open(&self, id: &str, sealed: &str) -> Result<Zeroizing<String>, AuthorityError> {
        let fail = || AuthorityError::Sealed(id.to_owned());
        let bytes = STANDARD.decode(sealed).map_err(|_| fail())?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>().ok_or_else(fail)?;
        let key = self
            .cipher()
            .decrypt(&Nonce::from(*nonce), Payload { msg: sealed, aad: &self.context(id) })
            .map_err(|_| fail())?;
        String::from_utf8(key).map(Zeroizing::new).map_err(|_| fail())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ServerKey {
        ServerKey::open(None, tempfile::tempdir().unwrap().path(), true).unwrap()
    }

    #[test]
    fn only_the_same_key_and_the_same_place_open() {
        let (one, domain) = (key(), TrustDomain::default());
        let seal = Seal::new(&one, &domain);
        let sealed = seal.seal("a", "secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_ne!(sealed, seal.seal("a", "secret").unwrap());
        assert_eq!(*Seal::new(&one, &domain).open("a", &sealed).unwrap(), "secret");
        assert!(seal.open("b", &sealed).is_err());
        assert!(Seal::new(&key(), &domain).open("a", &sealed).is_err());
        assert!(Seal::new(&one, &"elsewhere".parse().unwrap()).open("a", &sealed).is_err());
        for broken in ["", "AAAA", "not base64"] {
            assert!(seal.open("a", broken).is_err());
        }
    }
}
