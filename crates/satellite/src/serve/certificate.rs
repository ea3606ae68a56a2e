//! The certificate of the LAN listener, and its TLS: signed by the local authority and renewed by itself, or the site's own
//! and read again when it changes. Nothing is resumed, so that every connection is checked anew.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use registry_server::listen::TlsServer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};

use super::accounts::fingerprint;
use super::addresses;
use super::local_ca::{Authorities, Names, SERVER_LIFE};
use crate::config::{CertificateFiles, LanSettings};

/// How often clock, addresses and files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InUse {
    /// What it names, where the local authority signed it.
    pub(super) names: Option<Names>,
    /// When it ends.
    pub(super) not_after: Timestamp,
    /// When the authority ends by which nodes are known.
    pub(super) authority_not_after: Timestamp,
    authorities: Fingerprint,
    files: Option<Fingerprint>,
}

/// What a certificate may be changed by.
#[derive(Debug)]
struct Around {
    names: Names,
    authorities: Fingerprint,
    files: Option<Fingerprint>,
}

type Fingerprint = [Option<(SystemTime, u64, u64)>; 2];

impl InUse {
    /// Whether another one is needed: its end comes near, the clock was put back before its begin, names or files changed.
    fn is_over(&self, now: Timestamp, around: &Around) -> bool {
        if self.authorities != around.authorities {
            return true;
        }
        match &self.names {
            Some(own) => {
                let left = self.not_after.duration_since(now);
                let ends = left < SERVER_LIFE / 2 && self.not_after < self.authority_not_after;
                *own != around.names || ends || left > SERVER_LIFE
            }
            None => self.files != around.files,
        }
    }
}

/// Makes the TLS configuration of the moment. Blocks.
pub(super) fn load(
    settings: &LanSettings,
    config_dir: &Path,
    address: std::net::IpAddr,
) -> Result<(Arc<ServerConfig>, InUse), String> {
    // Before they are read: what changes meanwhile is seen at the next look.
    let seen = authorities(config_dir);
    let ours = Authorities::open(config_dir).map_err(|error| error.to_string())?;
    let in_use = |names, not_after, files| InUse {
        names,
        not_after,
        // The first look may have made it.
        authorities: if seen[0].is_some() { seen } else { authorities(config_dir) },
        authority_not_after: ours.not_after(),
        files,
    };
    let (chain, key, in_use) = match &settings.certificate {
        None => {
            let names = addresses::names(&settings.names, address);
            let now = Timestamp::now();
            let issued =
                ours.of_listener(now).issue_server(&names, now).map_err(|error| error.to_string())?;
            (vec![issued.certificate], issued.key, in_use(Some(names), issued.not_after, None))
        }
        Some(files) => {
            let seen = fingerprints(files);
            let (chain, key, not_after) = read(files)?;
            (chain, key, in_use(None, not_after, Some(seen)))
        }
    };
    Ok((configuration(chain, key, &ours)?, in_use))
}

/// Keeps the certificate good, for as long as it is polled.
pub(super) async fn keep(
    settings: &LanSettings,
    config_dir: &Path,
    address: std::net::IpAddr,
    tls: &TlsServer,
    mut in_use: InUse,
    tell: impl Fn(&InUse, Option<String>),
) {
    let mut problem = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (settings, config_dir, old) = (settings.clone(), config_dir.to_owned(), in_use.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let around = Around {
                names: addresses::names(&settings.names, address),
                authorities: authorities(&config_dir),
                files: settings.certificate.as_ref().map(fingerprints),
            };
            old.is_over(Timestamp::now(), &around).then(|| load(&settings, &config_dir, address))
        });
        match looked.await {
            Ok(None) => continue,
            Ok(Some(Ok((config, new)))) => {
                tls.replace(config);
                tracing::info!(until = %new.not_after, "certificate of the lan listener renewed");
                in_use = new;
                problem = None;
                tell(&in_use, None);
            }
            // Perhaps only half of the pair is there yet: the old one serves on.
            Ok(Some(Err(why))) if problem.as_ref() != Some(&why) => {
                tracing::warn!(
                    error = why,
                    "certificate of the lan listener not renewed, the old one serves on"
                );
                tell(&in_use, Some(why.clone()));
                problem = Some(why);
            }
            Ok(Some(Err(_))) | Err(_) => {}
        }
    }
}

/// One provider, TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1; a client may show a certificate of the local
/// authority, or of the one that follows it.
fn configuration(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ours: &Authorities,
) -> Result<Arc<ServerConfig>, String> {
    let text = |error: rustls::Error| error.to_string();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in ours.certificates() {
        roots.add(certificate.clone()).map_err(text)?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(text)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|error| format!("certificate and key do not go together: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Timestamp);

fn read(files: &CertificateFiles) -> Result<Pair, String> {
    let failed = |path: &Path, why: String| format!("{}: {why}", path.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(|error| failed(&files.certificate, format!("LAN_TLS_CERT_FILE cannot be read: {error}")))?;
    let leaf = chain
        .first()
        .ok_or_else(|| failed(&files.certificate, "LAN_TLS_CERT_FILE holds no certificate".to_owned()))?;
    let not_after = x509_parser::parse_x509_certificate(leaf)
        .ok()
        .and_then(|(_, leaf)| Timestamp::from_second(leaf.validity().not_after.timestamp()).ok())
        .ok_or_else(|| {
            failed(&files.certificate, "LAN_TLS_CERT_FILE holds no X.509 certificate".to_owned())
        })?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| failed(&files.key, format!("LAN_TLS_KEY_FILE cannot be read: {error}")))?;
    Ok((chain, key, not_after))
}

fn fingerprints(files: &CertificateFiles) -> Fingerprint {
    [fingerprint(&files.certificate), fingerprint(&files.key)]
}

fn authorities(config_dir: &Path) -> Fingerprint {
    Authorities::files(config_dir).map(|file| fingerprint(&file))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn it_is_renewed_long_before_its_end_and_when_something_changed() {
        let now = Timestamp::now();
        let names = Names { names: vec!["a".to_owned()], addresses: Vec::new() };
        let stamp = Some((SystemTime::UNIX_EPOCH, 1, 1));
        let around =
            |names: &Names, files| Around { names: names.clone(), authorities: [stamp, None], files };
        let same = around(&names, None);
        let in_use = InUse {
            names: Some(names.clone()),
            not_after: now + SERVER_LIFE,
            authority_not_after: now + SERVER_LIFE * 100,
            authorities: [stamp, None],
            files: None,
        };
        let day = SignedDuration::from_hours(24);
        assert!(!in_use.is_over(now, &same));
        assert!(!in_use.is_over(now + day * 3, &same));
        assert!(in_use.is_over(now + day * 4, &same));
        assert!(in_use.is_over(now + day * 400, &same), "a clock that was put right");
        assert!(in_use.is_over(now - day, &same), "or back");
        assert!(in_use.is_over(now, &around(&Names::default(), None)));
        let rotated = Around { authorities: [stamp, stamp], ..around(&names, None) };
        assert!(in_use.is_over(now, &rotated), "whom else to let in");
        let last = InUse { authority_not_after: in_use.not_after, ..in_use.clone() };
        assert!(!last.is_over(now + day * 6, &same), "as long as the authority, and no longer");
        let seen = Some([None, stamp]);
        let own = InUse { names: None, not_after: now, files: seen, ..in_use };
        assert!(!own.is_over(now, &around(&names, seen)), "the site renews its own");
        assert!(own.is_over(now, &around(&names, Some([None, None]))));
    }

    /// A site that runs while its authority is rotated.
    #[test]
    fn a_rotation_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = LanSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            names: vec!["site.example".to_owned()],
            certificate: None,
            accounts_file: None,
            site_token_file: None,
        };
        let loaded = || load(&settings, folder.path(), settings.listen.ip()).unwrap().1;
        let around = || Around {
            names: addresses::names(&settings.names, settings.listen.ip()),
            authorities: authorities(folder.path()),
            files: None,
        };
        let first = loaded();
        assert!(!first.is_over(Timestamp::now(), &around()), "the authority that was made just now is known");
        Authorities::rotate(folder.path()).unwrap();
        assert!(first.is_over(Timestamp::now(), &around()));
        let second = loaded();
        assert!(!second.is_over(Timestamp::now(), &around()));
        Authorities::finish(folder.path()).unwrap();
        assert!(second.is_over(Timestamp::now(), &around()));
        assert!(!loaded().is_over(Timestamp::now(), &around()));
    }
}
