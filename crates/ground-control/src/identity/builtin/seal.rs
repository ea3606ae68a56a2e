//! Keys of authorities as the database keeps them: sealed under the server key, bound to the authority that they belong to.

use identity::TrustDomain;
use zeroize::Zeroizing;

use super::AuthorityError;
use crate::auth::{self, ServerKey};

/// Seals and opens.
#[derive(Debug)]
pub(super) struct Seal {
    seal: auth::Seal,
    trust_domain: TrustDomain,
}

impl Seal {
    pub(super) fn new(key: &ServerKey, trust_domain: &TrustDomain) -> Self {
        Self { seal: auth::Seal::new(key, "authority-keys"), trust_domain: trust_domain.clone() }
    }

    /// A key put into another row, or into another trust domain, does not open.
    fn context(&self, id: &str) -> Vec<u8> {
        [self.trust_domain.as_str().as_bytes(), &[0], id.as_bytes()].concat()
    }

    pub(super) fn seal(&self, id: &str, key: &str) -> Result<String, AuthorityError> {
        self.seal.seal(&self.context(id), key).map_err(|_| AuthorityError::Sealed(id.to_owned()))
    }

    pub(super) fn open(&self, id: &str, sealed: &str) -> Result<Zeroizing<String>, AuthorityError> {
        self.seal.open(&self.context(id), sealed).map_err(|_| AuthorityError::Sealed(id.to_owned()))
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
