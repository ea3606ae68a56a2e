//! X.509-SVIDs and trust bundles (X509-SVID, SPIFFE Trust Domain and Bundle).

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::id::{IdError, SpiffeId, TrustDomain};
use crate::pem;

/// The most certificates that a chain or a bundle may hold: several times what any rotation needs.
const MAX_CERTIFICATES: usize = 64;

/// Why something is no X.509-SVID, or no trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// The text holds no readable PEM block of the kind that is needed.
    #[error("no readable PEM {what}: {cause}")]
    Pem {
        /// The kind of block.
        what: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// The bytes are no X.509 certificate.
    #[error("not an X.509 certificate: {0}")]
    Certificate(String),
    /// A rule of X509-SVID is broken.
    #[error("not an X.509-SVID: {0}")]
    Rule(&'static str),
    /// The URI in the certificate is no SPIFFE ID.
    #[error("not an X.509-SVID: {0}")]
    Id(#[from] IdError),
    /// The chain is not ordered leaf first, each certificate followed by its issuer.
    #[error(
        "certificate {0} of the chain is not followed by its issuer; put the leaf first, then each issuer"
    )]
    Chain(usize),
    /// The private key is unreadable, or is not that of the leaf.
    #[error("the private key does not fit the certificate: {0}")]
    Key(String),
    /// The SVID is of another trust domain than the bundle.
    #[error("{id} is not of the trust domain {trust_domain}")]
    TrustDomain {
        /// The SVID's ID.
        id: SpiffeId,
        /// The bundle's trust domain.
        trust_domain: TrustDomain,
    },
    /// A bundle without an authority trusts nobody: it is a mistake.
    #[error("the trust bundle holds no certificate")]
    EmptyBundle,
    /// More certificates than anybody needs.
    #[error("{0} certificates are more than the {MAX_CERTIFICATES} that are taken")]
    TooMany(usize),
}

/// What the leaf certificate of an X.509-SVID says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub id: SpiffeId,
    /// Good from.
    pub not_before: Timestamp,
    /// Good to, this second included.
    pub not_after: Timestamp,
    /// The serial number: big-endian, as it stands in the certificate.
    pub serial: Vec<u8>,
    /// The public key: a DER `SubjectPublicKeyInfo`.
    pub public_key: Vec<u8>,
}

impl Leaf {
    /// Reads a certificate and holds it to the rules for a leaf: exactly one URI name, a SPIFFE ID with a path
    /// (X509-SVID, sections 2 and 5.2); no authority (4.1); `digitalSignature` and neither `keyCertSign` nor `cRLSign`
    /// (4.3). Who signed it, and whether it is good at this moment, is asked elsewhere.
    ///
    /// # Errors
    /// [`SvidError`] naming the rule.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, SvidError> {
        let certificate = parse_certificate(der)?;
        let id = spiffe_id(&certificate)?;
        if certificate.is_ca() {
            return Err(SvidError::Rule("it is a certificate authority"));
        }
        let usage = certificate
            .key_usage()
            .map_err(|_| SvidError::Rule("its key usage is unreadable or doubled"))?
            .ok_or(SvidError::Rule("it has no key usage"))?
            .value;
        if !usage.digital_signature() {
            return Err(SvidError::Rule("its key usage lacks digitalSignature"));
        }
        if usage.key_cert_sign() || usage.crl_sign() {
            return Err(SvidError::Rule("its key usage allows the signing of certificates"));
        }
        let time = |seconds| {
            Timestamp::from_second(seconds).map_err(|_| SvidError::Rule("its validity is out of range"))
        };
        Ok(Self {
            id,
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            serial: certificate.raw_serial().to_vec(),
            public_key: certificate.public_key().raw.to_vec(),
        })
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now.as_second() > self.not_after.as_second()
    }
}

fn parse_certificate<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, SvidError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|error| SvidError::Certificate(error.to_string()))?;
    if !rest.is_empty() {
        return Err(SvidError::Certificate("bytes follow it".to_owned()));
    }
    Ok(certificate)
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, SvidError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| SvidError::Rule("its subject alternative names are unreadable or doubled"))?
        .ok_or(SvidError::Rule("it has no subject alternative name"))?;
    // An unreadable name could be a second URI.
    if names.value.general_names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(SvidError::Rule("one of its subject alternative names is unreadable"));
    }
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(SvidError::Rule("it must have exactly one URI name"));
    };
    let id: SpiffeId = uri.parse()?;
    if id.path().is_empty() {
        return Err(SvidError::Rule("its SPIFFE ID has no path"));
    }
    Ok(id)
}

/// An X.509-SVID with its private key. Clones share it; the key is never shown.
#[derive(Clone)]
pub struct Svid {
    leaf: Arc<Leaf>,
    certified: Arc<CertifiedKey>,
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Leaf { id, not_before, not_after, .. } = &*self.leaf;
        write!(f, "Svid({id}, {not_before}/{not_after})")
    }
}

impl Svid {
    /// Reads a PEM chain, leaf first, and a PEM private key.
    ///
    /// # Errors
    /// As [`Svid::from_der`], and [`SvidError::Pem`].
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, SvidError> {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| SvidError::Pem { what: "private key", cause: error.to_string() })?;
        Self::from_der(certificates_from_pem(chain)?, key)
    }

    /// Takes a chain, leaf first, each followed by its issuer, and the leaf's private key (PKCS#8, SEC1 or PKCS#1).
    ///
    /// # Errors
    /// [`SvidError`] where the leaf breaks a rule of X509-SVID, the chain is out of order, or the key is another's.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, SvidError> {
        if chain.len() > MAX_CERTIFICATES {
            return Err(SvidError::TooMany(chain.len()));
        }
        let first = chain.first().ok_or_else(|| SvidError::Pem {
            what: "certificate",
            cause: "no certificate is in it".to_owned(),
        })?;
        let leaf = Leaf::parse(first)?;
        check_order(&chain)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|error| SvidError::Key(error.to_string()))?;
        Ok(Self { leaf: Arc::new(leaf), certified: Arc::new(certified) })
    }

    /// What the leaf says.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Whose it is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// The certificates, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// Chain and key as rustls shows them in a handshake.
    #[must_use]
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// Whether it is of the trust domain whose authorities it is to be used with.
    ///
    /// # Errors
    /// [`SvidError::TrustDomain`] where it is of another.
    pub fn check_domain(&self, bundle: &TrustBundle) -> Result<(), SvidError> {
        if self.id().trust_domain() == &bundle.trust_domain {
            return Ok(());
        }
        Err(SvidError::TrustDomain { id: self.id().clone(), trust_domain: bundle.trust_domain.clone() })
    }

    /// When to renew it: after half its life, and up to a tenth of its life later, as `jitter` (0 to 1) says, so that a
    /// fleet that was issued at once does not come back at once.
    #[must_use]
    pub fn renew_at(&self, jitter: f64) -> Timestamp {
        let life = self.leaf.not_after.duration_since(self.leaf.not_before).as_secs().max(0);
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
        let late = SignedDuration::from_secs(life / 10).mul_f64(jitter);
        self.leaf
            .not_before
            .saturating_add(SignedDuration::from_secs(life / 2) + late)
            .unwrap_or(self.leaf.not_before)
    }
}

fn check_order(chain: &[CertificateDer<'static>]) -> Result<(), SvidError> {
    let parsed = chain.iter().map(parse_certificate).collect::<Result<Vec<_>, _>>()?;
    for (index, pair) in parsed.windows(2).enumerate() {
        let [below, above] = pair else { continue };
        if below.issuer().as_raw() != above.subject().as_raw() || !above.is_ca() {
            return Err(SvidError::Chain(index));
        }
    }
    Ok(())
}

/// The authorities of a trust domain: whoever they signed for belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// Whose authorities they are.
    pub trust_domain: TrustDomain,
    /// Their certificates; never none.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// Reads PEM certificates.
    ///
    /// # Errors
    /// As [`TrustBundle::from_der`], and [`SvidError::Pem`].
    pub fn from_pem(trust_domain: TrustDomain, pem: &str) -> Result<Self, SvidError> {
        Self::from_der(trust_domain, certificates_from_pem(pem)?)
    }

    /// Takes DER certificates.
    ///
    /// # Errors
    /// [`SvidError::EmptyBundle`] without any, [`SvidError::Certificate`] where one cannot be a trust anchor.
    pub fn from_der(
        trust_domain: TrustDomain,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, SvidError> {
        let bundle = Self { trust_domain, authorities };
        bundle.roots()?;
        Ok(bundle)
    }

    /// The authorities as PEM, one block each.
    #[must_use]
    pub fn to_pem(&self) -> String {
        chain_to_pem(&self.authorities)
    }

    /// The authorities as trust anchors for TLS.
    pub(crate) fn roots(&self) -> Result<RootCertStore, SvidError> {
        match self.authorities.len() {
            0 => return Err(SvidError::EmptyBundle),
            many if many > MAX_CERTIFICATES => return Err(SvidError::TooMany(many)),
            _ => {}
        }
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(authority.clone()).map_err(|error| SvidError::Certificate(error.to_string()))?;
        }
        Ok(roots)
    }
}

/// Certificates as PEM, one block each, in their order.
#[must_use]
pub fn chain_to_pem(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|certificate| pem::encode("CERTIFICATE", certificate)).collect()
}

/// The certificates of a PEM text, in their order; other blocks are passed over.
///
/// # Errors
/// [`SvidError::Pem`] where a block is broken.
pub fn certificates_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, SvidError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| SvidError::Pem { what: "certificate", cause: error.to_string() })
}
