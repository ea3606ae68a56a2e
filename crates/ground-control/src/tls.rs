//! The listener's certificate: read from files, and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use registry_server::listen::TlsServer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

use crate::config::TlsFiles;

/// How often the files are looked at. A renewed certificate is valid long before the old one ends.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not PEM.
    #[error("{variable}: cannot read {path}: {cause}")]
    File {
        /// The setting that named it.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Certificate and key do not belong together, or are of a kind that is not known.
    #[error("TLS_CERT_FILE, TLS_KEY_FILE: {0}")]
    Pair(rustls::Error),
    /// The authorities for client certificates are unusable.
    #[error("TLS_CA_FILE: {0}")]
    Authorities(String),
}

/// Reads the files into a configuration for TLS 1.2 and 1.3 that offers HTTP/2 and HTTP/1.1.
///
/// With authorities, a client may show a certificate, and one that none of them signed is refused; without a
/// certificate a client is served like any other.
///
/// # Errors
/// [`TlsError`], naming the setting.
pub fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates("TLS_CERT_FILE", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|cause| file_error("TLS_KEY_FILE", &files.key, cause))?;
    let builder = ServerConfig::builder();
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates("TLS_CA_FILE", path)? {
                roots.add(authority).map_err(|error| TlsError::Authorities(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .allow_unauthenticated()
                .build()
                .map_err(|error| TlsError::Authorities(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Puts new certificates into service when the files change, until `stop`. Files that do not load change
/// nothing: the old certificate serves on, and the log says why.
pub async fn reload_on_change(files: TlsFiles, server: TlsServer, stop: CancellationToken) {
    let mut seen = fingerprint(&files);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let now = fingerprint(&files);
        if now == seen {
            continue;
        }
        match load(&files) {
            Ok(config) => {
                server.replace(config);
                tracing::info!("certificate reloaded");
                seen = now;
            }
            // Perhaps only half of the pair is there yet: look again at the next tick, whatever has changed.
            Err(error) => tracing::warn!(%error, "certificate not reloaded, the old one serves on"),
        }
    }
}

type Fingerprint = Vec<Option<(SystemTime, u64)>>;

fn fingerprint(files: &TlsFiles) -> Fingerprint {
    let look = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    [Some(&files.certificate), Some(&files.key), files.client_authorities.as_ref()]
        .into_iter()
        .flatten()
        .map(|path| look(path))
        .collect()
}

fn certificates(variable: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(|cause| file_error(variable, path, cause))?;
    if all.is_empty() {
        return Err(file_error(variable, path, "no certificate is in it"));
    }
    Ok(all)
}

fn file_error(variable: &'static str, path: &Path, cause: impl std::fmt::Display) -> TlsError {
    TlsError::File { variable, path: path.to_path_buf(), cause: cause.to_string() }
}
