//! Whom the satellite trusts before it has an SVID, and while it renews one: the bundle in the site's file, and the one
//! that the last answer brought.

use std::path::Path;

use identity::{SpiffeId, TrustBundle, TrustDomain};
use x509_parser::extensions::GeneralName;

use crate::config::ExpectedServer;

/// A bundle of many authorities is a few kilobytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads the site's bundle. Its trust domain is the one that its authorities name (SPIFFE Trust Domain and Bundle; X509-SVID,
/// section 3.1), else that of the expected server.
pub(super) fn from_file(path: &Path, expected: &ExpectedServer) -> Result<TrustBundle, String> {
    let shown = path.display();
    let fail = |why: String| format!("trust bundle {shown} {why}; TRUST_BUNDLE_FILE names it");
    let length = std::fs::metadata(path).map_err(|error| fail(format!("cannot be read: {error}")))?.len();
    if length > MAX_FILE {
        return Err(fail("is larger than 1 MiB".to_owned()));
    }
    let pem = std::fs::read_to_string(path).map_err(|error| fail(format!("cannot be read: {error}")))?;
    from_pem(&pem, expected).map_err(fail)
}

fn from_pem(pem: &str, expected: &ExpectedServer) -> Result<TrustBundle, String> {
    let named = identity::svid::certificates_from_pem(pem)
        .map_err(|error| format!("cannot be used: {error}"))?
        .iter()
        .find_map(|authority| trust_domain(authority));
    let domain = match (named, expected) {
        (Some(domain), _) => domain,
        (None, ExpectedServer::Exactly(id)) => id.trust_domain().clone(),
        (None, _) => {
            return Err("names no trust domain; name Ground Control in SPIFFE_EXPECTED_SERVER_ID".to_owned());
        }
    };
    TrustBundle::from_pem(domain, pem).map_err(|error| format!("cannot be used: {error}"))
}

/// The trust domain in an authority's certificate.
fn trust_domain(der: &[u8]) -> Option<TrustDomain> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => {
            uri.parse::<SpiffeId>().ok().filter(|id| id.path().is_empty()).map(|id| id.trust_domain().clone())
        }
        _ => None,
    })
}

/// Both of these; those of another trust domain than the first are left out.
pub(super) fn joined(first: TrustBundle, second: Option<TrustBundle>) -> TrustBundle {
    let mut all = first;
    for authority in
        second.into_iter().filter(|b| b.trust_domain == all.trust_domain).flat_map(|b| b.authorities)
    {
        if !all.authorities.contains(&authority) {
            all.authorities.push(authority);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use identity::authority::CertificateAuthority;
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    fn authority(domain: &str) -> String {
        let now = Timestamp::now();
        let domain = domain.parse().unwrap();
        CertificateAuthority::generate(&domain, now, now + SignedDuration::from_hours(1))
            .unwrap()
            .certificate_pem()
    }

    #[test]
    fn the_trust_domain_is_what_the_authorities_name() {
        let pem = authority("td.example");
        let bundle = from_pem(&pem, &ExpectedServer::GroundControl).unwrap();
        assert_eq!(bundle.trust_domain.as_str(), "td.example");
        for bad in ["", "no PEM"] {
            assert!(from_pem(bad, &ExpectedServer::GroundControl).is_err(), "{bad:?}");
        }
        let missing = from_file(Path::new("/nowhere/b.pem"), &ExpectedServer::Any).unwrap_err();
        assert!(missing.contains("/nowhere/b.pem") && missing.contains("TRUST_BUNDLE_FILE"), "{missing}");
    }

    #[test]
    fn bundles_are_joined_within_one_trust_domain() {
        let bundle = |pem: &str| from_pem(pem, &ExpectedServer::Any).unwrap();
        let (one, two, foreign) = (bundle(&authority("a")), bundle(&authority("a")), bundle(&authority("b")));
        assert_eq!(joined(one.clone(), Some(two.clone())).authorities.len(), 2);
        assert_eq!(joined(one.clone(), Some(one.clone())), one);
        assert_eq!(joined(one.clone(), Some(foreign)), one);
        assert_eq!(joined(one.clone(), None), one);
    }
}
