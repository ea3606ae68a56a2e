//! The answering side of the status socket.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Json, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use blob_store::Store;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use secrecy::SecretString;
use tokio::net::UnixListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{API_VERSION, Message, NewToken, ProcessStatus, RegistryStatus, SocketPath, StatusDocument};
use crate::config::{IdentitySource, LiveConfig, Site};
use crate::sealed::{Notice, Vault};
use crate::serve::namespaces;
use crate::status::{RegistrationState, Status, StatusBoard};

/// Questions at the same time; a script that asks more often waits.
const CONNECTIONS: usize = 16;
const LARGEST_BODY: usize = 16 * 1024;
const HEADER_READ: Duration = Duration::from_secs(5);

/// What the answers are made of.
#[derive(Debug)]
pub struct Subject {
    /// When the process started.
    pub started_at: Timestamp,
    /// What the site decided.
    pub site: Arc<Site>,
    /// The store.
    pub store: Store,
    /// The satellite's own view.
    pub board: StatusBoard,
    /// Where the local registry listens.
    pub registry_address: Option<std::net::SocketAddr>,
    /// Where Docker's own listener is.
    pub docker_mirror: watch::Sender<Option<std::net::SocketAddr>>,
    /// What is known only once the sealed state is open.
    pub opened: OnceLock<Opened>,
    /// Takes a new one-time token.
    pub token: watch::Sender<Option<SecretString>>,
    /// Wakes the replication.
    pub sync: Arc<Notify>,
}

/// What is known once the sealed state is open.
#[derive(Debug)]
pub struct Opened {
    /// The configuration in force.
    pub config: LiveConfig,
    /// The sealed state.
    pub vault: Vault,
}

/// The status socket, answering. The file goes when this does.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    stop: CancellationToken,
    connections: TaskTracker,
}

/// Why the status socket does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another satellite answers there.
    #[error(
        "another satellite runs with the status socket {0}; stop it, or give this one a configuration directory of its own"
    )]
    Running(PathBuf),
    /// The socket could not be made.
    #[error(
        "status socket {path} cannot be made: {source}; choose another place with --control-socket (CONTROL_SOCKET)"
    )]
    Bind {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ControlServer {
    /// Makes the socket at `path` and answers on it.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn start(path: &Path, subject: Arc<Subject>) -> Result<Self, ControlError> {
        let listener = bind(path)?;
        let stop = CancellationToken::new();
        let connections = TaskTracker::new();
        connections.spawn(accept(listener, router(subject), stop.clone(), connections.clone()));
        Ok(Self { path: path.to_owned(), stop, connections })
    }

    /// Ends all answers and removes the socket.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.connections.close();
        self.connections.wait().await;
        drop(std::fs::remove_file(&self.path));
    }
}

fn bind(path: &Path) -> Result<UnixListener, ControlError> {
    let failed = |source| ControlError::Bind { path: path.to_owned(), source };
    let socket = SocketPath::new(path).map_err(failed)?;
    if std::fs::symlink_metadata(path).is_ok() {
        // A socket that nobody answers is left over from a process that was killed.
        match std::os::unix::net::UnixStream::connect(&socket.address) {
            Ok(_) => return Err(ControlError::Running(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    // The process's umask keeps others out from the first moment on; this says it again for any umask.
    let listener = UnixListener::bind(&socket.address).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

async fn accept(listener: UnixListener, router: Router, stop: CancellationToken, connections: TaskTracker) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = stream else {
            // Out of descriptors: the next question may fare better.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let service = TowerToHyperService::new(router.clone());
        let stop = stop.clone();
        connections.spawn(async move {
            let _slot = slot;
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = stop.cancelled() => {}
                outcome = connection => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "question at the status socket broke off");
                    }
                }
            }
        });
    }
}

fn router(subject: Arc<Subject>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/sync", post(sync))
        .route("/v1/token", post(token))
        .route("/v1/export", post(super::export::export))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(subject)
}

async fn status(State(subject): State<Arc<Subject>>) -> Json<StatusDocument> {
    Json(document(&subject))
}

async fn sync(State(subject): State<Arc<Subject>>) -> (StatusCode, Json<Message>) {
    subject.sync.notify_one();
    (StatusCode::ACCEPTED, Json(Message { message: "replication woken".to_owned() }))
}

async fn token(
    State(subject): State<Arc<Subject>>,
    Json(new): Json<NewToken>,
) -> (StatusCode, Json<Message>) {
    let token = new.token.trim();
    if token.is_empty() {
        return (StatusCode::BAD_REQUEST, Json(Message { message: "the token is empty".to_owned() }));
    }
    let message = match subject.site.identity.source {
        IdentitySource::Token => "token taken, registration is tried with it",
        IdentitySource::Builtin { .. } => "join token taken, attestation is tried with it",
        IdentitySource::WorkloadApi { .. } => {
            let message = "this satellite registers by its SVID, a token is of no use to it".to_owned();
            return (StatusCode::CONFLICT, Json(Message { message }));
        }
    };
    subject.token.send_replace(Some(SecretString::from(token)));
    (StatusCode::ACCEPTED, Json(Message { message: message.to_owned() }))
}

/// The status at this moment.
#[must_use]
pub fn document(subject: &Subject) -> StatusDocument {
    let satellite = subject.board.snapshot();
    let usage = subject.store.usage().unwrap_or_default();
    let opened = subject.opened.get();
    let config = opened.map(|opened| opened.config.current());
    let state = opened.map(|opened| opened.vault.state());
    let registration = state.as_ref().and_then(|state| state.registration.as_ref());
    let elapsed = Timestamp::now().duration_since(subject.started_at);
    let problems = problems(&satellite);
    StatusDocument {
        api_version: API_VERSION,
        healthy: problems.is_empty(),
        problems,
        process: ProcessStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: subject.started_at,
            uptime_seconds: u64::try_from(elapsed.as_secs()).unwrap_or(0),
            config_dir: subject.site.config_dir.clone(),
            ground_control_url: config
                .as_ref()
                .and_then(|config| config.ground_control_url.as_ref())
                .or(subject.site.layer.ground_control_url.as_ref())
                .map(ToString::to_string),
            state_url: registration.map(|registration| registration.state.clone()),
        },
        registry: RegistryStatus {
            address: subject.registry_address.map(|address| address.to_string()),
            namespaces: match (registration, &config) {
                (Some(registration), Some(config)) => namespaces::of(registration, config),
                _ => Vec::new(),
            },
            byo_registry: config
                .and_then(|config| config.byo_registry.as_ref().map(|registry| registry.url.to_string())),
            local_namespaces: subject.site.local_namespaces.names().map(str::to_owned).collect(),
            data_dir: subject.site.registry_data_dir.clone(),
            bytes: usage.bytes,
            contents: usage.contents,
            manifests: usage.manifests,
            tags: usage.tags,
            repositories: usage.repositories,
        },
        transfers: subject.board.transfers().snapshot(),
        fetching: subject.board.transfers().fetching(),
        satellite,
    }
}

/// What needs a person, one line each.
fn problems(status: &Status) -> Vec<String> {
    let mut found = Vec::new();
    if status.registration.state == RegistrationState::Refused {
        let why = status.registration.message.as_deref().unwrap_or("no reason given");
        found.push(format!("registration refused: {why}"));
    }
    if let Some(problem) = &status.identity.problem {
        found.push(format!("identity: {problem}"));
    }
    for (name, scheduler) in &status.schedulers {
        if let Some(error) = scheduler.last_error.as_ref().filter(|_| scheduler.failures_in_a_row > 0) {
            let times = match scheduler.failures_in_a_row {
                1 => String::new(),
                times => format!(" {times} times in a row"),
            };
            found.push(format!("{name} failed{times}: {error}"));
        }
    }
    for failed in &status.failed {
        found.push(format!("{} is not here: {}", failed.reference, failed.reason));
    }
    for conflict in &status.conflicts {
        found.push(format!("groups disagree about {}", conflict.reference));
    }
    if let Some(refused) = &status.config.refused {
        found.push(format!("configuration refused: {}", refused.reason));
    }
    if let Some(problem) = &status.mirrors.problem {
        found.push(format!("mirrors: {problem}"));
    }
    for (runtime, there) in &status.mirrors.runtimes {
        if !matches!(there.state.as_str(), "in_force" | "removed") {
            let why = there.message.as_deref().unwrap_or("no reason given");
            found.push(format!("mirrors of {runtime}: {}: {why}", there.state.replace('_', " ")));
        }
    }
    if let Some(lan) = &status.lan {
        found.extend(lan.problems(Timestamp::now()));
    }
    for (name, delivery) in &status.deliveries {
        if let Some(problem) = &delivery.problem {
            found.push(format!("delivery to {name}: {problem}"));
        }
        for failed in &delivery.failed {
            found.push(format!("delivery to {}: {}", failed.reference, failed.reason));
        }
    }
    if let Some(problem) = status.docker_mirror.as_ref().and_then(|there| there.problem.as_ref()) {
        found.push(format!("docker's own listener: {problem}"));
    }
    // How a machine is built is worth knowing, and nothing that anybody could put right today.
    let lasting = Notice::NoHardware.to_string();
    found.extend(status.warnings.iter().filter(|warning| **warning != lasting).cloned());
    found
}
