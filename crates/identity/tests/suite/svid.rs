//! X.509-SVIDs and bundles: what is taken, what is refused, and when to renew.

use identity::{Leaf, Svid, SvidError, TrustBundle};
use jiff::Timestamp;
use proptest::prelude::*;
use rcgen::{BasicConstraints, IsCa, KeyUsagePurpose};

use crate::ca::{Ca, EDGE, EXPIRED, GC, Spec, bundle, domain};

#[test]
fn a_leaf_says_whose_it_is_and_for_how_long() {
    let issued = Ca::root().issue(&Spec::of(&[EDGE]));
    let leaf = Leaf::parse(&issued.chain[0]).unwrap();
    assert_eq!(leaf.id.to_string(), EDGE);
    assert_eq!(leaf.not_after.as_second() - leaf.not_before.as_second(), 3660);
    assert!(!leaf.serial.is_empty());
    assert_eq!(leaf.public_key, rcgen::PublicKeyData::subject_public_key_info(&issued.key));
    assert!(!leaf.is_expired(Timestamp::now()));
    assert!(!leaf.is_expired(leaf.not_after), "the last second is good");
    assert!(leaf.is_expired(leaf.not_after + jiff::SignedDuration::from_secs(1)));
}

#[test]
fn what_breaks_a_rule_is_no_svid() {
    let ca = Ca::root();
    let refused = |what: &str, spec: Spec<'_>| {
        assert!(Leaf::parse(&ca.issue(&spec).chain[0]).is_err(), "{what}");
    };
    refused("no name", Spec::of(&[]));
    refused("two IDs", Spec::of(&[EDGE, GC]));
    refused("two URIs", Spec::of(&[EDGE, "https://example.com/"]));
    refused("no SPIFFE ID", Spec::of(&["https://example.com/"]));
    refused("no path", Spec::of(&["spiffe://harbor-satellite.local"]));
    refused("no canonical ID", Spec::of(&["spiffe://harbor-satellite.local/a//b"]));
    refused("an authority", Spec { is_ca: IsCa::Ca(BasicConstraints::Unconstrained), ..Spec::of(&[EDGE]) });
    refused("no key usage", Spec { usages: vec![], ..Spec::of(&[EDGE]) });
    let usages = |usages: &[KeyUsagePurpose]| Spec { usages: usages.to_vec(), ..Spec::of(&[EDGE]) };
    refused("no digitalSignature", usages(&[KeyUsagePurpose::KeyAgreement]));
    refused("keyCertSign", usages(&[KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign]));
    refused("cRLSign", usages(&[KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign]));
    assert!(
        Leaf::parse(&usages(&[KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement]).leaf(&ca))
            .is_ok()
    );
    assert!(Leaf::parse(&vec![0; 64].into()).is_err());
    let mut longer = ca.issue(&Spec::of(&[EDGE])).chain[0].to_vec();
    longer.push(0);
    assert!(Leaf::parse(&longer.into()).is_err(), "bytes behind it");
}

impl Spec<'_> {
    fn leaf(&self, ca: &Ca) -> rustls::pki_types::CertificateDer<'static> {
        ca.issue(self).chain.swap_remove(0)
    }
}

#[test]
fn an_svid_is_read_from_pem_and_never_shows_its_key() {
    let issued = Ca::root().intermediate().issue(&Spec::of(&[EDGE]));
    let svid = Svid::from_pem(&issued.chain_pem(), &issued.key.serialize_pem()).unwrap();
    assert_eq!(svid.id().to_string(), EDGE);
    assert_eq!(svid.chain(), issued.chain);
    assert_eq!(svid.certified_key().cert, issued.chain);
    let leaf = svid.leaf();
    assert_eq!(format!("{svid:?}"), format!("Svid({EDGE}, {}/{})", leaf.not_before, leaf.not_after));
}

#[test]
fn a_chain_out_of_order_is_refused() {
    let middle = Ca::root().intermediate();
    let issued = middle.intermediate().issue(&Spec::of(&[EDGE]));
    assert_eq!(issued.chain.len(), 3);
    assert!(Svid::from_der(issued.chain.clone(), issued.private_key()).is_ok());
    let mut strange = issued.chain.clone();
    strange.push(Ca::root().certificate());
    assert!(Svid::from_der(strange, issued.private_key()).is_ok(), "a root of the issuer's name may follow");
    let mut swapped = issued.chain.clone();
    swapped.swap(0, 1);
    assert!(Svid::from_der(swapped, issued.private_key()).is_err());
    let leaf_twice = vec![issued.chain[0].clone(), issued.chain[0].clone()];
    assert_eq!(Svid::from_der(leaf_twice, issued.private_key()).unwrap_err(), SvidError::Chain(0));
    assert!(Svid::from_der(vec![], issued.private_key()).is_err());
    let many = vec![issued.chain[0].clone(); 65];
    assert_eq!(Svid::from_der(many, issued.private_key()).unwrap_err(), SvidError::TooMany(65));
}

#[test]
fn the_key_must_be_the_leafs() {
    let ca = Ca::root();
    let (one, other) = (ca.issue(&Spec::of(&[EDGE])), ca.issue(&Spec::of(&[EDGE])));
    assert!(matches!(Svid::from_der(one.chain.clone(), other.private_key()), Err(SvidError::Key(_))));
    assert!(matches!(Svid::from_pem(&one.chain_pem(), "no key"), Err(SvidError::Pem { .. })));
    assert!(Svid::from_pem("", &one.key.serialize_pem()).is_err());
}

#[test]
fn an_svid_may_be_expired_when_it_is_read() {
    let issued = Ca::root().issue(&Spec { validity: EXPIRED, ..Spec::of(&[EDGE]) });
    assert!(
        issued.svid().leaf().is_expired(Timestamp::now()),
        "an edge that was away reads its own to renew it"
    );
}

#[test]
fn a_bundle_goes_through_pem_and_is_never_empty() {
    let (one, two) = (Ca::root(), Ca::root());
    let both = bundle(&[&one, &two]);
    assert_eq!(TrustBundle::from_pem(domain(), &both.to_pem()).unwrap(), both);
    assert_eq!(TrustBundle::from_pem(domain(), "").unwrap_err(), SvidError::EmptyBundle);
    assert_eq!(TrustBundle::from_der(domain(), vec![]).unwrap_err(), SvidError::EmptyBundle);
    assert!(TrustBundle::from_der(domain(), vec![vec![1, 2, 3].into()]).is_err());
    let cut = both.to_pem().replace("-----END CERTIFICATE-----\n", "");
    assert!(TrustBundle::from_pem(domain(), &cut).is_err());
    let foreign = one.svid("spiffe://elsewhere.example/gc/main");
    assert!(matches!(foreign.check_domain(&both), Err(SvidError::TrustDomain { .. })));
    one.svid(EDGE).check_domain(&both).unwrap();
}

proptest! {
    #[test]
    fn renewal_comes_after_half_of_the_life_and_well_before_its_end(jitter in any::<f64>()) {
        let svid = Ca::root().svid(EDGE);
        let leaf = svid.leaf();
        let life = leaf.not_after.as_second() - leaf.not_before.as_second();
        let spent = svid.renew_at(jitter).as_second() - leaf.not_before.as_second();
        prop_assert!(spent >= life / 2 && spent <= life * 6 / 10 + 1, "{spent} of {life}");
    }

    #[test]
    fn no_bytes_make_the_parser_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..512), at in 0usize..600, bit in 0u8..8) {
        let _ = Leaf::parse(&bytes.into());
        let mut certificate = Ca::root().issue(&Spec::of(&[EDGE])).chain[0].to_vec();
        let at = at % certificate.len();
        certificate[at] ^= 1 << bit;
        let _ = Leaf::parse(&certificate.into());
    }
}
