//! Keys, signatures, and requests for certificates.

use identity::key::{Csr, KeyError, KeyPair, verify};
use proptest::prelude::*;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;

use crate::ca::EDGE;

#[test]
fn a_key_goes_through_pem() {
    let key = KeyPair::generate().unwrap();
    let pem = key.to_pem();
    assert!(pem.starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS#8");
    let again = KeyPair::from_pem(&pem).unwrap();
    assert_eq!(again.public_key(), key.public_key());
    assert!(verify(&key.public_key(), b"m", &again.sign(b"m").unwrap()));
    assert_eq!(format!("{key:?}"), "KeyPair { .. }");
    assert_ne!(KeyPair::generate().unwrap().public_key(), key.public_key());
}

#[test]
fn only_p256_is_a_key_of_ours() {
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    assert!(matches!(KeyPair::from_pem(&other.serialize_pem()), Err(KeyError::Key(_))));
    assert!(KeyPair::from_pem("").is_err());
    assert!(!verify(&rcgen::PublicKeyData::subject_public_key_info(&other), b"m", b"s"));
    assert!(!verify(b"", b"m", b"s"));
}

#[test]
fn a_request_shows_that_its_maker_holds_the_key() {
    let key = KeyPair::generate().unwrap();
    for id in [None, Some(EDGE.parse().unwrap())] {
        let pem = key.csr_pem(id.as_ref()).unwrap();
        let csr = Csr::from_pem(&pem).unwrap();
        assert_eq!(csr.public_key, key.public_key());
        assert_eq!(Csr::from_der(&csr.der).unwrap(), csr);
    }
}

#[test]
fn agents_may_ask_for_other_keys() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_RSA_SHA256]
    {
        let key = if std::ptr::eq(algorithm, &raw const rcgen::PKCS_RSA_SHA256) {
            rcgen::KeyPair::generate_rsa_for(algorithm, rcgen::RsaKeySize::_2048).unwrap()
        } else {
            rcgen::KeyPair::generate_for(algorithm).unwrap()
        };
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let csr = Csr::from_der(request.der()).unwrap();
        assert_eq!(csr.public_key, rcgen::PublicKeyData::subject_public_key_info(&key));
    }
    let odd = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&odd).unwrap();
    assert_eq!(Csr::from_der(request.der()).unwrap_err(), KeyError::Unsupported);
}

#[test]
fn a_request_for_anothers_key_is_refused() {
    let (mine, yours) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let request =
        CertificateSigningRequestDer::from_pem_slice(mine.csr_pem(None).unwrap().as_bytes()).unwrap();
    let mut der = request.to_vec();
    let (mine, yours) = (mine.public_key(), yours.public_key());
    let at = der.windows(mine.len()).position(|window| window == mine).unwrap();
    der[at..at + yours.len()].copy_from_slice(&yours);
    assert_eq!(Csr::from_der(&der).unwrap_err(), KeyError::Signature);
}

#[test]
fn what_is_no_request_is_refused() {
    let pem = KeyPair::generate().unwrap().csr_pem(None).unwrap();
    assert!(matches!(Csr::from_pem("x"), Err(KeyError::Csr(_))));
    assert!(matches!(
        Csr::from_pem(&pem.replace("CERTIFICATE REQUEST", "CERTIFICATE")),
        Err(KeyError::Csr(_))
    ));
    assert!(matches!(Csr::from_pem(&"x".repeat(1 << 20)), Err(KeyError::Csr(_))));
    assert!(matches!(Csr::from_der(&vec![0x30; 1 << 20]), Err(KeyError::Csr(_))));
    let mut longer = Csr::from_pem(&pem).unwrap().der;
    longer.push(0);
    assert!(matches!(Csr::from_der(&longer), Err(KeyError::Csr(_))));
}

proptest! {
    #[test]
    fn a_signature_is_good_for_its_message_and_key_alone(message in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let key = KeyPair::generate().unwrap();
        let signature = key.sign(&message).unwrap();
        prop_assert!(verify(&key.public_key(), &message, &signature));
        prop_assert!(!verify(&KeyPair::generate().unwrap().public_key(), &message, &signature));
        let mut other = message.clone();
        other.push(0);
        prop_assert!(!verify(&key.public_key(), &other, &signature));
        let mut broken = signature.clone();
        let at = at.index(broken.len());
        broken[at] ^= 1 << bit;
        prop_assert!(!verify(&key.public_key(), &message, &broken));
    }
}
