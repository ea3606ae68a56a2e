//! A certificate authority of a trust domain for tests, which shares nothing with the product's: it issues what is
//! right, and what is wrong on purpose.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use crate::{Error, Result};

/// How long certificates are good that are not to be wrong.
const LIFE: Duration = Duration::from_secs(3600);
/// Clocks of a test may differ by this.
const SKEW: Duration = Duration::from_secs(60);

/// An authority; its bundle holds all its certificates so far.
#[derive(Debug)]
pub struct Authority {
    trust_domain: String,
    issuer: Issuer<'static, KeyPair>,
    /// DER, the signing one last.
    certificates: Vec<Vec<u8>>,
}

/// An SVID with its key.
#[derive(Clone, Debug)]
pub struct IssuedSvid {
    /// Whose it is.
    pub spiffe_id: String,
    /// The leaf (DER).
    pub certificate: Vec<u8>,
    /// PKCS#8 (DER).
    pub key: Vec<u8>,
}

/// What an SVID is to be.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Its URI names.
    pub uris: Vec<String>,
    /// Its beginning.
    pub not_before: SystemTime,
    /// Its end.
    pub not_after: SystemTime,
    /// Whether it claims to be an authority.
    pub is_authority: bool,
}

impl Authority {
    /// A new authority with its first certificate.
    pub fn new(trust_domain: &str) -> Result<Self> {
        let (issuer, certificate) = certificate_authority(trust_domain)?;
        Ok(Self { trust_domain: trust_domain.to_owned(), issuer, certificates: vec![certificate] })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Signs with a new certificate from now on; the earlier ones stay in the bundle.
    pub fn rotate(&mut self) -> Result<()> {
        let (issuer, certificate) = certificate_authority(&self.trust_domain)?;
        self.issuer = issuer;
        self.certificates.push(certificate);
        Ok(())
    }

    /// Forgets all certificates but the present one.
    pub fn forget_old(&mut self) {
        let present = self.certificates.pop();
        self.certificates = present.into_iter().collect();
    }

    /// The certificates (DER).
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// The certificates (PEM).
    pub fn bundle_pem(&self) -> String {
        self.certificates.iter().map(|der| pem("CERTIFICATE", der)).collect()
    }

    /// An SVID for this path of the trust domain, good for an hour.
    pub fn issue(&self, path: &str) -> Result<IssuedSvid> {
        self.issue_as(&self.wish(path))
    }

    /// What is right for this path.
    pub fn wish(&self, path: &str) -> Wish {
        let now = SystemTime::now();
        Wish {
            uris: vec![format!("spiffe://{}{path}", self.trust_domain)],
            not_before: now - SKEW,
            not_after: now + LIFE,
            is_authority: false,
        }
    }

    /// An SVID as it is wished, right or wrong.
    pub fn issue_as(&self, wish: &Wish) -> Result<IssuedSvid> {
        let key = KeyPair::generate().map_err(bad)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("testbed workload");
        for uri in &wish.uris {
            params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().map_err(bad)?));
        }
        params.is_ca = match wish.is_authority {
            true => IsCa::Ca(BasicConstraints::Unconstrained),
            false => IsCa::ExplicitNoCa,
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = wish.not_before.into();
        params.not_after = wish.not_after.into();
        params.serial_number = Some(serial());
        let certificate = params.signed_by(&key, &self.issuer).map_err(bad)?;
        Ok(IssuedSvid {
            spiffe_id: wish.uris.first().cloned().unwrap_or_default(),
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
        })
    }
}

impl IssuedSvid {
    /// The chain (PEM).
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The key (PEM).
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

/// A certificate of a machine as an operator's own authority would give it, and that authority's: what the node
/// attestor `x509pop` asks for.
#[derive(Clone, Debug)]
pub struct MachineCertificate {
    /// The operator's authority (PEM).
    pub authority: String,
    /// The machine's certificate (PEM).
    pub certificate: String,
    /// Its key (PEM, PKCS#8).
    pub key: String,
}

impl MachineCertificate {
    /// A certificate whose common name is `name`.
    pub fn new(name_of_machine: &str) -> Result<Self> {
        let params = CertificateParams::default();
        let (authority, certificate, key) = of_a_machine("operator.example", name_of_machine, params)?;
        Ok(Self { authority, certificate, key })
    }
}

/// A certificate of a server in the web, and the authority's that gave it.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    /// The authority (PEM).
    pub authority: String,
    /// The server's certificate (PEM).
    pub certificate: String,
    /// Its key (PEM, PKCS#8).
    pub key: String,
}

impl ServerCertificate {
    /// A certificate for these names and addresses.
    pub fn new(names: &[&str]) -> Result<Self> {
        let owned: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(owned).map_err(bad)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let common = names.first().unwrap_or(&"server");
        let (authority, certificate, key) = of_a_machine("web.example", common, params)?;
        Ok(Self { authority, certificate, key })
    }
}

/// A certificate for digital signatures by an authority of its own: the authority's, the certificate and its key (PEM).
fn of_a_machine(
    of_authority: &str,
    common: &str,
    mut params: CertificateParams,
) -> Result<(String, String, String)> {
    let (issuer, authority) = certificate_authority(of_authority)?;
    let key = KeyPair::generate().map_err(bad)?;
    params.distinguished_name = name(common);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_before = (SystemTime::now() - SKEW).into();
    params.not_after = (SystemTime::now() + LIFE).into();
    params.serial_number = Some(serial());
    let certificate = params.signed_by(&key, &issuer).map_err(bad)?;
    Ok((pem("CERTIFICATE", &authority), pem("CERTIFICATE", certificate.der()), key.serialize_pem()))
}

fn certificate_authority(trust_domain: &str) -> Result<(Issuer<'static, KeyPair>, Vec<u8>)> {
    let key = KeyPair::generate().map_err(bad)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("{trust_domain} {:08x}", rand::random::<u32>()));
    let uri = format!("spiffe://{trust_domain}");
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().map_err(bad)?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (SystemTime::now() - SKEW).into();
    params.not_after = (SystemTime::now() + 24 * LIFE).into();
    params.serial_number = Some(serial());
    let certificate = params.self_signed(&key).map_err(bad)?.der().to_vec();
    Ok((Issuer::new(params, key), certificate))
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Positive, and never the same twice.
fn serial() -> SerialNumber {
    let mut bytes = rand::random::<[u8; 16]>();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// RFC 7468.
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned() + "\n");
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}

fn bad(error: rcgen::Error) -> Error {
    Error::Content(format!("cannot make a certificate: {error}"))
}
