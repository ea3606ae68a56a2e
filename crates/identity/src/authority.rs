//! The certificate authority of a trust domain: makes itself, signs SVIDs for keys that it never sees, and knows when it
//! is another's turn ([`rotation`]).
//!
//! Its own certificate is an SVID whose SPIFFE ID is the trust domain's (X509-SVID, section 3.2): CA, `keyCertSign` and
//! `cRLSign`, and nothing else. What it signs are leaves for both sides of TLS (section 4.3 and 4.4).

pub mod rotation;

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::id::{SpiffeId, TrustDomain};

/// How long an SVID lives.
pub const SVID_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// Certificates begin a little before they are made, for clocks that are slow.
pub const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// The longest serial number (RFC 5280, section 4.1.2.2).
const SERIAL: usize = 20;
const EPOCH: usize = size_of::<i64>();
/// The organisation in every subject; nobody decides anything by it.
const ORGANIZATION: &str = "Harbor Satellite";

/// Why the authority did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its certificate or key is not one.
    #[error("the authority's certificate or key does not parse: {0}")]
    Malformed(String),
    /// Its key is another's.
    #[error("the authority's key does not belong to its certificate")]
    Mismatch,
    /// Nothing could be made or signed.
    #[error("the certificate cannot be made: {0}")]
    Issue(#[from] rcgen::Error),
    /// An identity of another trust domain, or none that a leaf can have.
    #[error("{0} is no identity that this authority vouches for")]
    Foreign(SpiffeId),
    /// The certificate would outlive what it hangs on.
    #[error("the authority ends at {0}, before the certificate would")]
    Outlived(Timestamp),
}

/// What an SVID is made of.
#[derive(Debug, Clone)]
pub struct Issue {
    /// Whose.
    pub id: SpiffeId,
    /// For which key: SubjectPublicKeyInfo (DER).
    pub public_key: Vec<u8>,
    /// See [`serial`].
    pub serial: Vec<u8>,
    /// Its begin.
    pub not_before: Timestamp,
    /// Its end, at most that of the authority.
    pub not_after: Timestamp,
    /// Names for clients that know no SPIFFE.
    pub dns_names: Vec<String>,
}

/// A certificate authority with its key.
pub struct CertificateAuthority {
    trust_domain: TrustDomain,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, rcgen::KeyPair>,
    not_after: Timestamp,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("trust_domain", &self.trust_domain)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// A new one, with a new key (ECDSA P-256).
    ///
    /// # Errors
    /// [`AuthorityError::Issue`].
    pub fn generate(
        trust_domain: &TrustDomain,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, AuthorityError> {
        let key = rcgen::KeyPair::generate()?;
        let serial = serial(0);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
        // Two authorities of one bundle are told apart by their names, too.
        params.distinguished_name.push(DnType::CommonName, format!("authority {}", hex(&serial[EPOCH..])));
        params.serial_number = Some(SerialNumber::from(serial));
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_epoch(not_before);
        params.not_after = epoch + since_epoch(not_after);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
        let certificate = params.self_signed(&key)?.der().clone();
        Self::new(certificate, key)
    }

    /// One that was kept.
    ///
    /// # Errors
    /// [`AuthorityError`] where it is none, or its key another's.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| AuthorityError::Malformed(error.to_string()))?;
        let key =
            rcgen::KeyPair::from_pem(key).map_err(|error| AuthorityError::Malformed(error.to_string()))?;
        Self::new(certificate, key)
    }

    fn new(certificate: CertificateDer<'static>, key: rcgen::KeyPair) -> Result<Self, AuthorityError> {
        let malformed = |what: &str| AuthorityError::Malformed(what.to_owned());
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|error| AuthorityError::Malformed(error.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(AuthorityError::Mismatch);
        }
        if !parsed.is_ca() {
            return Err(malformed("it is no authority's"));
        }
        let names = parsed
            .subject_alternative_name()
            .map_err(|error| AuthorityError::Malformed(error.to_string()))?
            .ok_or_else(|| malformed("it names no trust domain"))?;
        let [x509_parser::extensions::GeneralName::URI(name)] = names.value.general_names.as_slice() else {
            return Err(malformed("it does not name exactly one trust domain"));
        };
        let trust_domain: TrustDomain =
            name.parse().map_err(|error: crate::IdError| AuthorityError::Malformed(error.to_string()))?;
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|error| AuthorityError::Malformed(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { trust_domain, certificate, issuer, not_after })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate (PEM).
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        crate::svid::chain_to_pem(std::slice::from_ref(&self.certificate))
    }

    /// Its key (PEM, PKCS#8): for keeping it, sealed.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Its end.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Signs an SVID.
    ///
    /// # Errors
    /// [`AuthorityError`]: another trust domain's identity, one without a path, a key of a kind that nobody knows, or an
    /// end after its own.
    pub fn issue(&self, issue: &Issue) -> Result<CertificateDer<'static>, AuthorityError> {
        if issue.id.trust_domain() != &self.trust_domain || issue.id.path().is_empty() {
            return Err(AuthorityError::Foreign(issue.id.clone()));
        }
        if issue.not_after > self.not_after {
            return Err(AuthorityError::Outlived(self.not_after));
        }
        let key = SubjectPublicKeyInfo::from_der(&issue.public_key)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
        params.serial_number = Some(SerialNumber::from_slice(&issue.serial));
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + since_epoch(issue.not_before);
        params.not_after = epoch + since_epoch(issue.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![SanType::URI(issue.id.to_string().try_into()?)];
        for name in &issue.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        Ok(params.signed_by(&key, &self.issuer)?.der().clone())
    }
}

/// A serial number that carries the epoch of whom it is issued to: its first 8 bytes, and 12 random ones.
///
/// An epoch is never negative, so that the number is positive and has at most 20 octets (RFC 5280, section 4.1.2.2).
#[must_use]
pub fn serial(epoch: i64) -> Vec<u8> {
    let mut serial = Vec::with_capacity(SERIAL);
    serial.extend_from_slice(&epoch.max(0).to_be_bytes());
    let random: [u8; SERIAL - EPOCH] = rand::random();
    serial.extend_from_slice(&random);
    serial
}

/// The epoch in a serial number, as a certificate holds it; `None` where it has no room for one.
#[must_use]
pub fn epoch_of(serial: &[u8]) -> Option<i64> {
    // DER leaves zeros in front out, and adds one where the number would otherwise be negative.
    let significant = serial.iter().position(|byte| *byte != 0).map_or(&[][..], |at| &serial[at..]);
    let mut full = [0_u8; SERIAL];
    full.get_mut(SERIAL.checked_sub(significant.len())?..)?.copy_from_slice(significant);
    i64::try_from(u64::from_be_bytes(full[..EPOCH].try_into().ok()?)).ok()
}

/// From the epoch of Unix to then; a certificate's dates are whole seconds, and none of ours are before it.
fn since_epoch(then: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(then.as_second()).unwrap_or(0))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
