//! The satellite's own certificate authority: by it the nodes of a site know its registry, and the registry knows them.
//!
//! It is made once, in one file of the configuration directory that only the satellite's account reads, and vouches for
//! nothing outside the site: whoever trusts it was given its certificate by hand (`satellite ca export`). What it signs for
//! the listener lives for days and is never kept; what it signs for a node (`satellite ca issue`) is that node's to keep.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use blob_store::durable;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

mod authorities;

pub use authorities::{Authorities, RotateError};

/// Certificate and key, in the configuration directory.
pub const FILE: &str = "lan-ca.pem";

/// How long the certificate of the listener lives. It is renewed long before.
pub const SERVER_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Certificates begin before they are made, for clocks that are slow.
const BACKDATE: SignedDuration = SignedDuration::from_hours(24);
/// The authority begins here whatever the clock says, so that one that a device without a battery made in 1970 is good later.
const BEGIN: i64 = 1_735_689_600;
/// How long an authority lives.
const LIFE: SignedDuration = SignedDuration::from_hours(20 * 365 * 24);
/// A file larger than this holds no authority.
const LARGEST: u64 = 64 * 1024;
/// The organisation in every subject; nobody decides anything by it.
const ORGANIZATION: &str = "Harbor Satellite";

/// Why there is no authority, or why it does not sign.
#[derive(Debug, thiserror::Error)]
pub enum LocalCaError {
    /// Its file cannot be read or made.
    #[error("the local authority {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its file holds something else.
    #[error(
        "{path} holds no authority of a satellite ({why}); move it away, and a new one is made that nodes have to be given anew"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Nothing could be made or signed.
    #[error("no certificate can be made: {0}")]
    Issue(#[from] rcgen::Error),
    /// A name that a certificate cannot hold.
    #[error("`{0}` is no name for a certificate: 1 to 63 of a-z, A-Z, 0-9, dot, dash and underscore")]
    Name(String),
}

/// A certificate and its key.
pub struct Issued {
    /// The certificate (DER).
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When it ends.
    pub not_after: Timestamp,
    key_pem: Zeroizing<String>,
}

impl Issued {
    /// The certificate in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        identity::svid::chain_to_pem(std::slice::from_ref(&self.certificate))
    }

    /// The key in PEM (PKCS#8).
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }
}

impl fmt::Debug for Issued {
    // Written by hand: it holds a key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Issued").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The authority with its key.
pub struct LocalCa {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    not_after: Timestamp,
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalCa").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl LocalCa {
    /// The authority of a configuration directory, made now where there is none yet. Of several processes that make one at
    /// the same time, all get the same.
    ///
    /// # Errors
    /// [`LocalCaError`].
    pub fn open(config_dir: &Path) -> Result<Self, LocalCaError> {
        Self::open_file(config_dir, FILE)
    }

    fn open_file(config_dir: &Path, name: &str) -> Result<Self, LocalCaError> {
        let path = config_dir.join(name);
        if let Some(kept) = Self::read(&path)? {
            return Ok(kept);
        }
        let failed = |source| LocalCaError::File { path: path.clone(), source };
        durable::create_dir_all(config_dir).map_err(failed)?;
        let text = Self::generate(Timestamp::now())?;
        let temporary = config_dir.join(format!(".{name}.{:016x}", rand::random::<u64>()));
        let made = durable::write_file(&temporary, text.as_bytes(), durable::PRIVATE_FILE)
            .and_then(|()| give_to_owner_of(config_dir, &temporary))
            // Unlike a rename it replaces nothing.
            .and_then(|()| match fs::hard_link(&temporary, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            });
        let removed = durable::remove_file(&temporary);
        made.and(removed).map_err(failed)?;
        Self::read(&path)?.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    fn read(path: &Path) -> Result<Option<Self>, LocalCaError> {
        let mut text = Zeroizing::new(String::new());
        let read = fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LocalCaError::File { path: path.to_owned(), source }),
        }
        let malformed = |why: String| LocalCaError::Malformed { path: path.to_owned(), why };
        let certificate =
            CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| malformed(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|error| malformed(error.to_string()))?;
        let key = KeyPair::try_from(&key).map_err(|error| malformed(error.to_string()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|error| malformed(error.to_string()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(malformed("its key belongs to another certificate".to_owned()));
        }
        if !parsed.is_ca() {
            return Err(malformed("its certificate is no authority's".to_owned()));
        }
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|error| malformed(error.to_string()))?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| malformed(error.to_string()))?;
        Ok(Some(Self { certificate, issuer, not_after }))
    }

    /// Certificate and key of a new one (ECDSA P-256), in PEM.
    fn generate(now: Timestamp) -> Result<Zeroizing<String>, LocalCaError> {
        let key = KeyPair::generate()?;
        let begin = Timestamp::from_second(BEGIN).unwrap_or(Timestamp::UNIX_EPOCH);
        let serial: [u8; 16] = rand::random();
        let mut params = params(begin, now.max(begin) + LIFE);
        params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
        // Nodes that know several sites tell their authorities apart.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("satellite LAN {}", hex::encode(&serial[..8])));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Zeroizing::new(format!("{}{}", certificate.pem(), &*Zeroizing::new(key.serialize_pem()))))
    }

    /// Its certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate (PEM): what nodes are given.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        identity::svid::chain_to_pem(std::slice::from_ref(&self.certificate))
    }

    /// Its end.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// A certificate for a listener, with a new key.
    ///
    /// # Errors
    /// [`LocalCaError::Issue`].
    pub fn issue_server(&self, names: &Names, now: Timestamp) -> Result<Issued, LocalCaError> {
        let mut sans = Vec::new();
        for name in &names.names {
            sans.push(SanType::DnsName(name.as_str().try_into()?));
        }
        sans.extend(names.addresses.iter().copied().map(SanType::IpAddress));
        self.issue("satellite", sans, ExtendedKeyUsagePurpose::ServerAuth, now, SERVER_LIFE)
    }

    /// A certificate by which a node is known, with a new key.
    ///
    /// # Errors
    /// [`LocalCaError::Name`], [`LocalCaError::Issue`].
    pub fn issue_client(
        &self,
        name: &str,
        now: Timestamp,
        life: SignedDuration,
    ) -> Result<Issued, LocalCaError> {
        if !is_name(name) {
            return Err(LocalCaError::Name(name.to_owned()));
        }
        self.issue(name, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth, now, life)
    }

    fn issue(
        &self,
        name: &str,
        sans: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        now: Timestamp,
        life: SignedDuration,
    ) -> Result<Issued, LocalCaError> {
        let key = KeyPair::generate()?;
        let not_after = (now + life).min(self.not_after);
        let mut params = params(now - BACKDATE, not_after);
        params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = sans;
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        let key_der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let key_pem = Zeroizing::new(key.serialize_pem());
        Ok(Issued { certificate, key: key_der, not_after, key_pem })
    }
}

/// What a listener's certificate names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Host names.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// A name that accounts and certificates can have.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=63).contains(&name.len()) && name.chars().all(allowed)
}

fn params(not_before: Timestamp, not_after: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let serial: [u8; 16] = rand::random();
    // Positive, whatever its first byte (RFC 5280, section 4.1.2.2).
    params.serial_number = Some(SerialNumber::from_slice(&[&[1], serial.as_slice()].concat()));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(not_before);
    params.not_after = epoch + since_epoch(not_after);
    params
}

/// From the epoch of Unix to then, in whole seconds, as certificates count.
fn since_epoch(then: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(then.as_second()).unwrap_or(0))
}

/// What root makes in a service's directory is the service's.
fn give_to_owner_of(directory: &Path, file: &Path) -> io::Result<()> {
    let (directory, ours) = (fs::metadata(directory)?, fs::metadata(file)?);
    if directory.uid() == ours.uid() {
        return Ok(());
    }
    chown(file, Some(directory.uid()), Some(directory.gid()))
}

#[cfg(test)]
mod tests;
