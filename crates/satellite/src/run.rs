//! The satellite's life: start, serve, replicate, end.
//!
//! The order of a start is its design. The local registry comes first and waits for nothing but the store, so that
//! containers start with the network gone; then the status socket; then, off the threads that serve, the sealed state
//! is opened, which costs a deliberately slow key derivation; and only then what talks to the cloud.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use blob_store::{Store, durable};
use jiff::Timestamp;
use otlp::messages::Resource;
use otlp::{Exporter, SpanExport};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::config::{Effective, IdentitySource, LiveConfig, Site, live};
use crate::control::server::{ControlError, ControlServer, Opened, Subject};
use crate::delivery::{Offers, Surroundings, folders};
use crate::device::{DeviceFacts, DeviceRoots};
use crate::events::Events;
use crate::logging::{self, LogControl};
use crate::maintenance;
use crate::mirrors;
use crate::schedulers::{Core, Parts};
use crate::sealed::{Notice, Vault};
use crate::serve::accounts::Accounts;
use crate::serve::lan::{self, LanListener};
use crate::serve::{LocalRegistry, ServeError, docker, kept_namespaces, namespaces};
use crate::site as cluster;
use crate::status::StatusBoard;

/// Two threads serve and replicate; an edge machine has other work.
const WORKERS: usize = 2;
/// Threads for files and key derivation; idle ones end.
const BLOCKING_THREADS: usize = 8;
const BLOCKING_IDLE: Duration = Duration::from_secs(5);
/// Below the configuration directory: the last desired state, and what was brought into a registry of the site's own.
const STATE_DIR: &str = "state";
const VAULT_RETRY: Duration = Duration::from_secs(10);

/// Why the satellite ended other than by a signal.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("cannot start: {0}")]
    Runtime(#[source] std::io::Error),
    #[error(
        "configuration directory {path} cannot be made: {source}; choose another with --config-dir (CONFIG_DIR)"
    )]
    ConfigDir { path: PathBuf, source: std::io::Error },
    #[error("store {path} cannot be opened: {source}; --registry-data-dir (REGISTRY_DATA_DIR) names it")]
    Store { path: PathBuf, source: Box<blob_store::StoreError> },
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Runs the satellite until a signal ends it.
#[must_use]
pub fn run(site: Site) -> ExitCode {
    let boot = live::at_boot(&site);
    let (log, spans) = logging::start(site.json_logging, boot.log_level, site.traces.is_some());
    for warning in &site.warnings {
        tracing::warn!("{warning}");
    }
    match start(site, boot, &log, spans) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What is secret will be in this process's memory: it is not to be found in a core file, nobody else of the same account
/// looks into it, and files are for nobody else. To be called before anything secret is read; what the system does not
/// allow is returned.
#[must_use]
pub fn harden() -> Vec<String> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let core =
        setrlimit(Resource::Core, none).err().map(|error| format!("core files not turned off: {error}"));
    let traceable = set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .err()
        .map(|error| format!("process left traceable: {error}"));
    [core, traceable].into_iter().flatten().collect()
}

fn start(site: Site, boot: Effective, log: &LogControl, spans: Option<SpanExport>) -> Result<(), RunError> {
    durable::create_dir_all(&site.config_dir)
        .map_err(|source| RunError::ConfigDir { path: site.config_dir.clone(), source })?;
    if let Ok(metadata) = std::fs::metadata(&site.config_dir)
        && metadata.permissions().mode() & 0o077 != 0
    {
        let path = site.config_dir.display();
        tracing::warn!(%path, "configuration directory is open to other accounts, set its mode to 0700");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_IDLE)
        .enable_all()
        .build()
        .map_err(RunError::Runtime)?;
    let shutdown_timeout = site.shutdown_timeout;
    let outcome = runtime.block_on(live(site, boot, log, spans));
    runtime.shutdown_timeout(shutdown_timeout.min(Duration::from_secs(2)));
    outcome
}

async fn live(
    mut site: Site,
    mut boot: Effective,
    log: &LogControl,
    spans: Option<SpanExport>,
) -> Result<(), RunError> {
    let shutdown_timeout = site.shutdown_timeout;
    let mut end = Signals::new().map_err(RunError::Runtime)?;

    let options = blob_store::Options { grace: boot.gc_grace, ..blob_store::Options::default() };
    let store = Store::open(&site.registry_data_dir, options).map_err(|source| RunError::Store {
        path: site.registry_data_dir.clone(),
        source: Box::new(source),
    })?;
    site.kept_namespaces = kept_namespaces::remember(&site.config_dir, &site.local_namespaces, &store);
    boot.kept_namespaces = site.kept_namespaces.clone();
    let site = Arc::new(site);
    let mut registry = if boot.byo_wanted {
        None
    } else {
        let registry = LocalRegistry::start(
            store.clone(),
            boot.listen.address,
            namespaces::answered(
                &namespaces::kept(&site.config_dir),
                &boot.mirror_paths,
                &site.kept_namespaces,
            ),
            &site.local_namespaces,
            shutdown_timeout,
        )
        .await?;
        tracing::info!(address = %registry.address(), "local registry serves");
        Some(registry)
    };

    let subject = Arc::new(Subject {
        started_at: Timestamp::now(),
        site: Arc::clone(&site),
        store: store.clone(),
        board: StatusBoard::default(),
        registry_address: registry.as_ref().map(LocalRegistry::address),
        docker_mirror: watch::Sender::new(None),
        opened: OnceLock::new(),
        token: watch::Sender::new(site.token.clone().filter(|_| !site.identity.is_spiffe())),
        sync: Arc::new(Notify::new()),
    });
    let stop = CancellationToken::new();
    let token_file = site.lan.as_ref().and_then(|lan| lan.site_token_file.clone());
    let cluster = token_file.map(|file| cluster::Site::new(file, stop.clone()));
    let lan = site.lan.clone().map(|settings| {
        let accounts = Accounts::default();
        let offered = |registry: &LocalRegistry| {
            let (namespaces, local) = (registry.namespaces().clone(), site.local_namespaces.clone());
            lan::registry(store.clone(), namespaces, accounts.clone(), local)
        };
        LanListener::start(lan::Parts {
            settings,
            config_dir: site.config_dir.clone(),
            registry: registry.as_ref().map(offered),
            accounts,
            extra: cluster.clone().map(cluster::routes::routes).unwrap_or_default(),
            board: subject.board.clone(),
            drain: shutdown_timeout,
        })
    });
    let control = ControlServer::start(&site.control_socket, Arc::clone(&subject))?;
    let tasks = TaskTracker::new();
    if let Some(cluster) = cluster.clone() {
        let show = cluster::nodes::show(cluster, subject.board.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(show));
    }
    if let (Some(spans), Some(endpoint)) = (spans, &site.traces) {
        match exporter(endpoint, &boot) {
            Ok(exporter) => {
                let instance = rustix::system::uname().nodename().to_string_lossy().into_owned();
                let resource = Resource::service("satellite", env!("CARGO_PKG_VERSION"), &instance);
                tasks.spawn(spans.run(exporter, resource, stop.clone()));
            }
            Err(error) => tracing::warn!(error, "no spans are sent"),
        }
    }
    let hosts = registry.as_ref().map(|registry| registry.namespaces().clone());
    tasks.spawn(replicate(
        Arc::clone(&subject),
        boot,
        log.clone(),
        hosts,
        cluster,
        stop.clone(),
        tasks.clone(),
    ));

    let failed = async {
        match &mut registry {
            Some(registry) => registry.failed().await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        signal = end.next() => {
            tracing::info!(signal, "ending");
            Ok(())
        }
        error = failed => Err(error.into()),
    };

    stop.cancel();
    tasks.close();
    let orderly = async {
        let registry = async {
            // After a failure of its own there is nothing left to end.
            if outcome.is_ok()
                && let Some(registry) = registry
            {
                registry.shutdown().await;
            }
        };
        let lan = async {
            if let Some(lan) = lan {
                lan.shutdown().await;
            }
        };
        tokio::join!(tasks.wait(), registry, lan, control.shutdown());
    };
    tokio::select! {
        () = orderly => tracing::info!("ended"),
        () = tokio::time::sleep(shutdown_timeout) => tracing::warn!("ended before all work did"),
        signal = end.next() => tracing::warn!(signal, "ended at once"),
    }
    outcome
}

/// The way to the collector, trusted as Ground Control is.
fn exporter(endpoint: &Url, boot: &Effective) -> Result<Exporter, String> {
    let options = registry_client::TlsOptions {
        ca_file: boot.tls.ca_file.clone(),
        skip_verify: boot.tls.skip_verify,
        own_origin: None,
    };
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(registry_client::tls_config(&options)?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    Ok(Exporter::new(client, endpoint.as_str()))
}

/// What comes after the local registry serves: the sealed state, then everything that talks to the cloud.
async fn replicate(
    subject: Arc<Subject>,
    boot: Effective,
    log: LogControl,
    hosts: Option<registry_server::Namespaces>,
    cluster: Option<cluster::Site>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let Some((vault, set_aside)) = stop.run_until_cancelled(open_vault(&subject)).await else { return };
    if !set_aside.is_empty() {
        let answered = withdraw_when_registered(Arc::clone(&subject), vault.clone(), set_aside);
        tasks.spawn(stop.clone().run_until_cancelled_owned(answered));
    }
    let (config, refusal) = LiveConfig::open(Arc::clone(&subject.site), boot, vault.clone());
    if let Some(refusal) = refusal {
        tracing::warn!("kept {refusal}");
        subject.board.warn(format!("kept {refusal}"));
    }
    log.set(config.current().log_level);
    // Set once, here.
    drop(subject.opened.set(Opened { config: config.clone(), vault: vault.clone() }));

    tasks.spawn(stop.clone().run_until_cancelled_owned(follow_log_level(config.clone(), log)));
    tasks.spawn(
        stop.clone().run_until_cancelled_owned(mirrors::follow::follow(Arc::clone(&subject), config.clone())),
    );
    if let Some(hosts) = hosts {
        let parts = docker::Parts {
            site: Arc::clone(&subject.site),
            store: subject.store.clone(),
            namespaces: hosts.clone(),
            board: subject.board.clone(),
            address: subject.docker_mirror.clone(),
        };
        tasks.spawn(docker::keep(parts, config.clone(), stop.clone()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(namespaces::follow(
            config.clone(),
            vault.clone(),
            hosts,
            subject.site.kept_namespaces.clone(),
        )));
    }
    tasks.spawn(
        stop.clone().run_until_cancelled_owned(maintenance::collect(subject.store.clone(), config.clone())),
    );
    tasks.spawn(stop.clone().run_until_cancelled_owned(maintenance::scrub(Arc::clone(&subject))));
    tasks.spawn(stop.clone().run_until_cancelled_owned(maintenance::return_memory()));

    let state_dir = subject.site.config_dir.join(STATE_DIR);
    if let Err(error) = durable::create_dir_all(&state_dir) {
        // The core works without: it reads the desired state again after the next start.
        tracing::warn!(path = %state_dir.display(), %error, "directory for the desired state not made");
    }
    let events = Events::new(subject.board.clone());
    let offers = Offers::default();
    let around = Surroundings {
        offers: offers.clone(),
        config: config.clone(),
        vault: vault.clone(),
        events: events.clone(),
    };
    if let Some(cluster) = cluster {
        let nodes = cluster::deliver(
            cluster,
            subject.registry_address.map(|_| subject.store.clone()),
            around.clone(),
        );
        tasks.spawn(stop.clone().run_until_cancelled_owned(nodes));
    }
    tasks.spawn(stop.clone().run_until_cancelled_owned(deliver(
        Arc::clone(&subject),
        state_dir.clone(),
        around,
    )));
    let core = Core::start(Parts {
        config,
        token: subject.token.subscribe(),
        replicate: Arc::clone(&subject.sync),
        vault,
        store: subject.store.clone(),
        state_dir,
        events,
        offers,
    });
    stop.cancelled().await;
    core.shutdown(subject.site.shutdown_timeout).await;
}

/// Keeps the image folders.
async fn deliver(subject: Arc<Subject>, state_dir: PathBuf, around: Surroundings) {
    folders::keep(&subject.site, &state_dir, subject.store.clone(), around).await;
}

/// A satellite that has a new identity has no use for the advice to give it one.
async fn withdraw_when_registered(subject: Arc<Subject>, vault: Vault, advice: Vec<String>) {
    let mut states = vault.subscribe();
    if states.wait_for(|state| state.registration.is_some()).await.is_ok() {
        subject.board.update(|status| status.warnings.retain(|warning| !advice.contains(warning)));
    }
}

/// Opens the sealed state, and says what was set aside; where the disk does not let it be read, tries again, because starting without it would ask
/// for a new identity.
async fn open_vault(subject: &Subject) -> (Vault, Vec<String>) {
    let mut failures = Vec::new();
    loop {
        let config_dir = subject.site.config_dir.clone();
        let opened = tokio::task::spawn_blocking(move || {
            Vault::open(&config_dir, DeviceFacts::read(&DeviceRoots::default()))
        })
        .await;
        match opened {
            Ok(Ok((vault, notices))) => {
                subject.board.update(|status| status.warnings.retain(|warning| !failures.contains(warning)));
                let mut set_aside = Vec::new();
                for notice in notices {
                    let mut text = notice.to_string();
                    match notice {
                        Notice::PartReplaced | Notice::Imported { .. } => {
                            tracing::info!("{text}");
                            continue;
                        }
                        Notice::NoHardware => {}
                        Notice::SetAside { .. } => {
                            let advice = match subject.site.identity.source {
                                IdentitySource::Token => {
                                    "give the satellite a new token (TOKEN, or `satellite token`)"
                                }
                                IdentitySource::Builtin { .. } => {
                                    "give the satellite a new join token (JOIN_TOKEN_FILE, or `satellite token`)"
                                }
                                IdentitySource::WorkloadApi { .. } => {
                                    "the satellite registers again by its SVID"
                                }
                            };
                            text = format!("{text}; {advice}");
                            set_aside.push(text.clone());
                        }
                    }
                    tracing::warn!("{text}");
                    subject.board.warn(text);
                }
                return (vault, set_aside);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "sealed state not opened, trying again");
                subject.board.warn(error.to_string());
                failures.push(error.to_string());
            }
            Err(error) => tracing::error!(%error, "opening the sealed state ended abnormally, trying again"),
        }
        tokio::time::sleep(VAULT_RETRY).await;
    }
}

async fn follow_log_level(config: LiveConfig, log: LogControl) {
    let mut changes = config.subscribe();
    while changes.changed().await.is_ok() {
        let level = changes.borrow_and_update().log_level;
        log.set(level);
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
