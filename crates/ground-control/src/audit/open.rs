//! From settings to the followers of the audit's sinks.

use std::path::Path;
use std::sync::Arc;

use otlp::messages::Resource;

use super::file::FileSettings;
use super::follower::{Follower, Policy};
use super::local::LocalSink;
use super::network::{NetworkSink, Protocol, TlsFiles};
use super::otlp::OtlpSink;
use super::sink::Sink;
use super::socket::LocalSocket;
use crate::api::AppState;
use crate::config::{AuditConfig, SyslogConfig, SyslogNetwork, SyslogTarget};
use crate::server::StartError;

/// The file, in the data folder, with the name of this replica: its own files go on where they ended.
const REPLICA: &str = "replica-id";

/// One for each sink.
///
/// # Errors
/// [`StartError`], where the name of this replica or the collector's client cannot be had. A sink that is away is none.
pub(crate) fn followers(
    config: &AuditConfig,
    data_dir: &Path,
    state: &AppState,
) -> Result<Vec<Follower>, StartError> {
    if config.syslog.is_none() && config.collector.is_none() {
        return Ok(Vec::new());
    }
    let replica = replica(data_dir)?;
    let process = uuid::Uuid::now_v7().to_string();
    let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
    sinks.extend(config.syslog.as_ref().map(syslog));
    if let Some(endpoint) = &config.collector {
        let exporter = exporter(endpoint).map_err(StartError::Collector)?;
        let resource = Resource::service("ground-control", env!("CARGO_PKG_VERSION"), &replica);
        sinks.push(Box::new(OtlpSink::new(exporter, resource)));
    }
    let policy = Policy { backlog: config.backlog };
    let follower = |sink| {
        let names = (replica.as_str(), process.as_str());
        Follower::new(
            Arc::clone(&state.store),
            sink,
            names,
            policy,
            state.metrics.clone(),
            state.sinks.clone(),
        )
    };
    Ok(sinks.into_iter().map(follower).collect())
}

fn syslog(config: &SyslogConfig) -> Box<dyn Sink> {
    match config.target.clone() {
        SyslogTarget::File { path, max_size, max_backups, max_age, compress } => {
            let settings = FileSettings { path, max_size, max_backups, max_age, compress };
            Box::new(LocalSink::new(&config.tag, settings))
        }
        SyslogTarget::Socket(path) => Box::new(LocalSink::new(&config.tag, LocalSocket(path))),
        SyslogTarget::Network { network, host, port } => {
            let protocol = match network {
                SyslogNetwork::Udp => Protocol::Udp,
                SyslogNetwork::Tcp => Protocol::Tcp,
                SyslogNetwork::Tls { authorities, client } => Protocol::Tls(TlsFiles { authorities, client }),
            };
            Box::new(NetworkSink::new(&config.tag, protocol, (host, port)))
        }
    }
}

/// The way to a collector.
///
/// # Errors
/// Where there is no client, which is so with no settings that were checked.
pub fn exporter(endpoint: &str) -> Result<otlp::Exporter, reqwest::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        // A proxy of the environment leads elsewhere, and a redirect takes names and addresses there.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    Ok(otlp::Exporter::new(client, endpoint))
}

fn replica(data_dir: &Path) -> Result<String, StartError> {
    let path = data_dir.join(REPLICA);
    let failed = |source| StartError::Replica { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(name) if uuid::Uuid::parse_str(name.trim()).is_ok() => return Ok(name.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let name = uuid::Uuid::now_v7().to_string();
    blob_store::durable::replace_file(&path, name.as_bytes(), 0o600).map_err(failed)?;
    Ok(name)
}
