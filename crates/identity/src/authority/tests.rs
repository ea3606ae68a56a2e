use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::generate(&TrustDomain::default(), at(1_700_000_000), at(1_800_000_000)).unwrap()
}

fn issue(id: &str, public_key: Vec<u8>) -> Issue {
    Issue {
        id: id.parse().unwrap(),
        public_key,
        serial: serial(7),
        not_before: at(1_700_000_100),
        not_after: at(1_700_086_500),
        dns_names: Vec::new(),
    }
}

const SATELLITE: &str = "spiffe://harbor-satellite.local/satellite/region/default/edge-01";

#[test]
fn the_authority_is_a_signing_certificate_of_its_trust_domain() {
    let authority = authority();
    let (rest, parsed) = x509_parser::parse_x509_certificate(authority.certificate()).unwrap();
    assert!(rest.is_empty());
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(
        names.value.general_names,
        [x509_parser::extensions::GeneralName::URI("spiffe://harbor-satellite.local")]
    );
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    // Bits 5 and 6: keyCertSign, cRLSign.
    assert_eq!(usage.value.flags, 0b110_0000);
    let identifier = |oid: &str| parsed.extensions().iter().any(|e| e.oid.to_id_string() == oid);
    assert!(identifier("2.5.29.14") && identifier("2.5.29.35"), "subject and authority key identifier");
    assert_eq!(parsed.validity().not_before.timestamp(), 1_700_000_000);
    assert_eq!(parsed.validity().not_after.timestamp(), 1_800_000_000);
    parsed.verify_signature(None).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn what_was_kept_signs_as_before() {
    let made = authority();
    let kept = CertificateAuthority::from_pem(&made.certificate_pem(), &made.key_pem()).unwrap();
    assert_eq!(kept.certificate(), made.certificate());
    assert_eq!(kept.not_after(), at(1_800_000_000));
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = kept.issue(&issue(SATELLITE, key.subject_public_key_info())).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(made.certificate()).unwrap();
    leaf.verify_signature(Some(root.public_key())).unwrap();
    assert_eq!(leaf.issuer(), root.subject());
    let other = authority();
    assert!(matches!(
        CertificateAuthority::from_pem(&made.certificate_pem(), &other.key_pem()),
        Err(AuthorityError::Mismatch)
    ));
    assert!(CertificateAuthority::from_pem("", "").is_err());
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn a_leaf_is_an_svid_for_the_key_it_was_asked_for() {
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = authority().issue(&issue(SATELLITE, key.subject_public_key_info())).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [x509_parser::extensions::GeneralName::URI(SATELLITE)]);
    let constraints = leaf.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature alone");
    let extended = leaf.extended_key_usage().unwrap().unwrap();
    assert!(extended.value.server_auth && extended.value.client_auth && !extended.value.any);
    assert_eq!(leaf.validity().not_after.timestamp(), 1_700_086_500);
    assert_eq!(epoch_of(leaf.raw_serial()), Some(7));
}

#[test]
fn what_it_must_not_sign_it_does_not() {
    let authority = authority();
    let key = rcgen::KeyPair::generate().unwrap().subject_public_key_info();
    for id in ["spiffe://elsewhere/satellite/region/default/edge-01", "spiffe://harbor-satellite.local"] {
        assert!(matches!(authority.issue(&issue(id, key.clone())), Err(AuthorityError::Foreign(_))), "{id}");
    }
    let late = Issue { not_after: at(1_800_000_001), ..issue(SATELLITE, key) };
    assert!(matches!(authority.issue(&late), Err(AuthorityError::Outlived(_))));
    assert!(matches!(authority.issue(&issue(SATELLITE, vec![1, 2, 3])), Err(AuthorityError::Issue(_))));
}

#[test]
fn names_for_the_web_stand_beside_the_identity() {
    let key = rcgen::KeyPair::generate().unwrap().subject_public_key_info();
    let wanted = Issue { dns_names: vec!["gc.example.com".to_owned()], ..issue(SATELLITE, key) };
    let leaf = authority().issue(&wanted).unwrap();
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 2);
}

proptest! {
    #[test]
    fn an_epoch_reads_back(epoch in prop_oneof![0i64..10, 0..=i64::MAX], encoded in any::<bool>()) {
        let serial = serial(epoch);
        prop_assert_eq!(serial.len(), 20);
        prop_assert!(serial[0] < 0x80);
        // As DER would hold it: without zeros in front, and with one where it would be negative.
        let short: Vec<u8> = serial.iter().copied().skip_while(|byte| *byte == 0).collect();
        let padded = [&[0][..], &short].concat();
        let held = if encoded { padded } else { short };
        prop_assert_eq!(epoch_of(&held), Some(epoch));
    }

    #[test]
    fn any_serial_is_read_without_harm(serial in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Some(epoch) = epoch_of(&serial) {
            prop_assert!(epoch >= 0);
        }
    }
}
