//! From settings to a running server, and back to a clean end.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use registry_server::listen::{self, Limits, ListenError, TlsServer};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, AppState, Settings};
use crate::auth::{KeyError, LoginError, People, PeopleSettings, RegistryTokens, Robots, ServerKey};
use crate::config::Config;
use crate::domain::StoreError;
use crate::domain::secret::HashKey;
use crate::publish::{self, BuiltinRegistry, Publisher, PublisherHandle};
use crate::registry::{Accounts, Policy, token_router};
use crate::store::{self, HeartbeatRecorder, SharedStore};
use crate::tls::{self, TlsError};

/// How often what nothing names is collected from the registry's store.
const COLLECT_EVERY: Duration = Duration::from_secs(15 * 60);
/// How often ended sessions and old failures are removed.
const PURGE_EVERY: Duration = Duration::from_secs(10 * 60);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made.
    #[error("DATA_DIR: cannot make {path}: {source}")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server key cannot be had.
    #[error("SECRET_KEY_FILE: {0}")]
    Key(#[from] KeyError),
    /// The database cannot be opened or brought up to date.
    #[error("DATABASE_URL: cannot open the database: {}", chain(.0))]
    Database(#[source] StoreError),
    /// The database was opened and then failed.
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    /// The built-in registry's folder cannot be opened.
    #[error("cannot open the registry in {path}: {source}")]
    Registry {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<blob_store::StoreError>,
    },
    /// The first administrator cannot be made.
    #[error("cannot make the first administrator: {0}")]
    Bootstrap(#[source] LoginError),
    /// The address is taken or not ours.
    #[error("LISTEN: cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A republication that does not know under which address the server will be reached.
    #[error("PUBLIC_REGISTRY_URL: needed to republish, because documents hold it and LISTEN names no port")]
    UnknownUrl,
    /// The certificate files are unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// An error and all its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The data folder, the key and the database.
async fn open_database(config: &Config) -> Result<(ServerKey, SharedStore), StartError> {
    let data_dir = &config.data_dir;
    // For this user only: password hashes and the key lie in it.
    blob_store::durable::create_dir_all(data_dir)
        .map_err(|source| StartError::DataDir { path: data_dir.clone(), source })?;
    let store = store::open(&config.database).await.map_err(StartError::Database)?;
    let fresh = !store.has_users().await?;
    let key = ServerKey::open(config.secret_key_file.as_deref(), data_dir, fresh)?;
    Ok((key, store))
}

fn open_registry(config: &Config) -> Result<blob_store::Store, StartError> {
    let path = config.data_dir.join("registry");
    blob_store::Store::open(&path, blob_store::Options::default())
        .map_err(|source| StartError::Registry { path, source: Box::new(source) })
}

fn publisher(store: &SharedStore, blobs: &blob_store::Store, url: &str) -> (Publisher, PublisherHandle) {
    let registry = Arc::new(BuiltinRegistry::new(blobs.clone()));
    Publisher::new(Arc::clone(store), registry, publish::Options::new(url))
}

/// How a republication ended.
#[derive(Debug)]
pub enum Republished {
    /// This process wrote what there is to write.
    Here(publish::Status),
    /// A server has the registry open; it was asked, and writes so many documents within seconds.
    ByServer(u64),
}

/// Asks for every state document to be written again, or removed where what it describes is gone; does it at once
/// unless a server is running that does it.
///
/// # Errors
/// [`StartError`]; documents that could not be written are counted in the answer.
pub async fn republish(config: &Config) -> Result<Republished, StartError> {
    let (_, store) = open_database(config).await?;
    let now = jiff::Timestamp::now();
    // Where the port is the system's choice, the URL is that of the last start.
    let url = if config.public_registry_url.is_none() && config.listen.port() == 0 {
        store.registry_url().await?.ok_or(StartError::UnknownUrl)?
    } else {
        config.public_url(config.listen)
    };
    let asked = store.republish_all(now).await?;
    tracing::info!(documents = asked, "asked for all documents");
    let blobs = match open_registry(config) {
        Ok(blobs) => blobs,
        Err(StartError::Registry { source, .. })
            if matches!(*source, blob_store::StoreError::Locked { .. }) =>
        {
            store.close().await;
            return Ok(Republished::ByServer(asked));
        }
        Err(error) => return Err(error),
    };
    store.set_registry_url(&url, now).await?;
    let (mut publisher, _handle) = publisher(&store, &blobs, &url);
    let status = publisher.drain().await;
    store.close().await;
    Ok(Republished::Here(status))
}

/// A server that serves; [`Running::stop`] ends it.
#[derive(Debug)]
pub struct Running {
    /// The address that was bound.
    pub address: SocketAddr,
    /// What satellites and clients are told.
    pub public_url: String,
    /// The first administrator's password where it had to be made up: to be shown once.
    pub generated_password: Option<SecretString>,
    /// What handlers share; for looking at the server from inside in tests.
    pub state: AppState,
    stop_listening: CancellationToken,
    listener: JoinHandle<Result<(), ListenError>>,
    stop_tasks: CancellationToken,
    stop_publisher: watch::Sender<bool>,
    tasks: TaskTracker,
}

/// Opens everything, makes the first administrator and the default config if they are not there, and serves.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: &Config) -> Result<Running, StartError> {
    let tls = match &config.tls {
        None => None,
        Some(files) => Some((files.clone(), TlsServer::new(tls::load(files)?))),
    };
    let (key, store) = open_database(config).await?;
    let blobs = open_registry(config)?;
    let hash_key = Arc::new(HashKey::new(key.derive("machine-secrets").bytes()));
    let people = Arc::new(People::new(
        Arc::clone(&store),
        &key,
        Arc::clone(&hash_key),
        PeopleSettings {
            session: config.session_duration,
            lockout: config.lockout_duration,
            passwords: config.passwords,
        },
    ));
    let generated_password =
        people.bootstrap(config.admin_password.as_ref()).await.map_err(StartError::Bootstrap)?;
    let now = jiff::Timestamp::now();
    store.ensure_default_config(now).await?;

    let (listener, address) = bind(config.listen).await?;
    let public_url = config.public_url(address);
    if store.set_registry_url(&public_url, now).await? {
        tracing::info!(url = %public_url, "registry URL is new, documents are written again");
    }
    let (publisher, handle) = publisher(&store, &blobs, &public_url);
    let robots = Robots::new(Arc::clone(&store), Arc::clone(&hash_key));
    let accounts =
        Accounts::new(Arc::clone(&store), Arc::clone(&people), robots.clone(), RegistryTokens::new(&key));
    let state = AppState {
        heartbeats: HeartbeatRecorder::start(Arc::clone(&store)),
        store,
        blobs: blobs.clone(),
        people,
        robots,
        hash_key,
        publisher: handle,
        settings: Arc::new(Settings { registry_url: public_url.clone() }),
    };
    let policy = Arc::new(Policy::new(accounts.clone(), &public_url));
    let own_host = public_url.split_once("://").map_or("", |(_, host)| host);
    let options = registry_server::Options {
        // A client that mirrors through this registry names it by its own host.
        namespaces: registry_server::Namespaces::new([own_host]),
        ..registry_server::Options::default()
    };
    let registry = registry_server::router(blobs, policy, options).merge(token_router(accounts));
    let router = api::router(state.clone(), registry);

    let stop_listening = CancellationToken::new();
    let stop_tasks = CancellationToken::new();
    let (stop_publisher, publisher_stopped) = watch::channel(false);
    let tasks = TaskTracker::new();
    tasks.spawn(publisher.run(publisher_stopped));
    tasks.spawn(collect_garbage(state.blobs.clone(), stop_tasks.clone()));
    tasks.spawn(purge(state.clone(), stop_tasks.clone()));
    if let Some((files, server)) = &tls {
        tasks.spawn(tls::reload_on_change(files.clone(), server.clone(), stop_tasks.clone()));
    }
    let limits = Limits { drain: config.shutdown_timeout, ..Limits::default() };
    let shutdown = stop_listening.clone().cancelled_owned();
    let listener =
        tokio::spawn(listen::serve(listener, tls.map(|(_, server)| server), router, limits, shutdown));
    tracing::info!(%address, url = %public_url, database = state.store.kind(), "listening");
    Ok(Running {
        address,
        public_url,
        generated_password,
        state,
        stop_listening,
        listener,
        stop_tasks,
        stop_publisher,
        tasks,
    })
}

impl Running {
    /// Waits until the listener ends by itself, which it does only when it is broken.
    ///
    /// # Errors
    /// [`ListenError`], or `None` if its task panicked.
    pub async fn ended(&mut self) -> Result<(), Option<ListenError>> {
        match (&mut self.listener).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Some(error)),
            Err(_) => Err(None),
        }
    }

    /// Takes no more connections, lets answers under way end within `SHUTDOWN_TIMEOUT`, lets the publisher finish
    /// the document in hand, and closes the database.
    pub async fn stop(mut self) {
        self.stop_listening.cancel();
        if !self.listener.is_finished() {
            let _ = self.ended().await;
        }
        self.stop_tasks.cancel();
        self.stop_publisher.send_replace(true);
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(10), self.tasks.wait()).await.is_err() {
            tracing::warn!("background work did not end in time, the next start continues it");
        }
        self.state.store.close().await;
        tracing::info!("stopped");
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |source| StartError::Listen { address, source };
    let listener = match TcpListener::bind(address).await {
        // A machine without IPv6 still has all the interfaces of IPv4.
        Err(_) if address.ip().is_unspecified() && address.is_ipv6() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        other => other,
    }
    .map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

async fn collect_garbage(blobs: blob_store::Store, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(COLLECT_EVERY);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match blobs.collect_garbage().await {
            Ok(report) => tracing::info!(?report, "garbage collected"),
            Err(error) => tracing::warn!(%error, "garbage not collected, tried again later"),
        }
    }
}

async fn purge(state: AppState, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(PURGE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let policy = state.people.lockout();
        if let Err(error) = state.store.purge_expired(policy, jiff::Timestamp::now()).await {
            tracing::warn!(%error, "ended sessions not removed, tried again later");
        }
    }
}
