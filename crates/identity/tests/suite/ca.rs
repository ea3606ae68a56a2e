//! A certificate authority for tests: unlike the built-in one it signs whatever it is told to.

use std::time::Duration;

use identity::{Svid, TrustBundle, TrustDomain};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub(crate) const TD: &str = "harbor-satellite.local";
pub(crate) const GC: &str = "spiffe://harbor-satellite.local/gc/main";
pub(crate) const EDGE: &str = "spiffe://harbor-satellite.local/satellite/region/default/edge-01";

/// Seconds relative to now.
#[derive(Clone, Copy)]
pub(crate) struct Validity(pub(crate) i64, pub(crate) i64);

pub(crate) const GOOD: Validity = Validity(-60, 3600);
pub(crate) const EXPIRED: Validity = Validity(-7200, -3600);

/// What is to stand in a leaf.
pub(crate) struct Spec<'a> {
    pub(crate) uris: &'a [&'a str],
    pub(crate) validity: Validity,
    pub(crate) is_ca: IsCa,
    pub(crate) usages: Vec<KeyUsagePurpose>,
    pub(crate) extended: Vec<ExtendedKeyUsagePurpose>,
}

impl<'a> Spec<'a> {
    /// A good SVID of these IDs.
    pub(crate) fn of(uris: &'a [&'a str]) -> Self {
        Self {
            uris,
            validity: GOOD,
            is_ca: IsCa::ExplicitNoCa,
            usages: vec![KeyUsagePurpose::DigitalSignature],
            extended: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

/// A leaf with its issuers below the root, and its key.
pub(crate) struct Issued {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: KeyPair,
}

impl Issued {
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()))
    }

    pub(crate) fn svid(&self) -> Svid {
        Svid::from_der(self.chain.clone(), self.private_key()).unwrap()
    }

    pub(crate) fn chain_pem(&self) -> String {
        identity::svid::chain_to_pem(&self.chain)
    }
}

pub(crate) struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The certificates between a leaf and the root, this one's own first.
    below_root: Vec<CertificateDer<'static>>,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    /// A root. All have one name, as the roots of one trust domain often do: only the keys tell them apart.
    pub(crate) fn root() -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(ca_params("root"), key).unwrap();
        Self { issuer, below_root: Vec::new() }
    }

    /// An authority that this one signed for.
    pub(crate) fn intermediate(&self) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(ca_params("intermediate"), key, &self.issuer).unwrap();
        let mut below_root = vec![issuer.der().clone()];
        below_root.extend(self.below_root.iter().cloned());
        Self { issuer, below_root }
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    pub(crate) fn issue(&self, spec: &Spec<'_>) -> Issued {
        let now = u64::try_from(Timestamp::now().as_second()).unwrap();
        let at = |offset: i64| {
            date_time_ymd(1970, 1, 1) + Duration::from_secs(now.checked_add_signed(offset).unwrap())
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names =
            spec.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.not_before = at(spec.validity.0);
        params.not_after = at(spec.validity.1);
        params.is_ca = spec.is_ca;
        params.key_usages.clone_from(&spec.usages);
        params.extended_key_usages.clone_from(&spec.extended);
        let key = KeyPair::generate().unwrap();
        let mut chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        chain.extend(self.below_root.iter().cloned());
        Issued { chain, key }
    }

    /// A good SVID.
    pub(crate) fn svid(&self, id: &str) -> Svid {
        self.issue(&Spec::of(&[id])).svid()
    }
}

/// The bundle of these roots.
pub(crate) fn bundle(roots: &[&Ca]) -> TrustBundle {
    TrustBundle::from_der(domain(), roots.iter().map(|ca| ca.certificate()).collect()).unwrap()
}

pub(crate) fn domain() -> TrustDomain {
    TD.parse().unwrap()
}
