//! From settings to a running server, and back to a clean end.

mod builtin_lease;
mod error;
mod identities;
mod jobs;
mod listeners;
mod open;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::SignedDuration;
use registry_server::listen::{self, ListenError, TlsServer, TrustedProxies};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::builtin_lease::BuiltinLease;
use self::listeners::{Listeners, admin_limits, bind};
use self::open::{OpenRegistry, open_database, publisher};
use crate::admin;
use crate::api::{self, AppState, Hooks, Listener, RequestLimits};
use crate::audit::{self, Refusals, Statuses};
use crate::auth::{People, PeopleSettings, RegistryTokens, Robots, Seal};
use crate::backup::DataFolder;
use crate::central::{PasswordFile, RegistryKind, SiteGate};
use crate::config::{Config, IdentitySource, RegistryConfig};
use crate::desired::Hub;
use crate::domain::secret::HashKey;
use crate::follow::{self, Hints, Policies, PushObserver, Sweep};
use crate::identity::{Identities, Lifecycle};
use crate::log::LogControl;
use crate::metrics::Metrics;
use crate::oidc::Oidc;
use crate::publish::Gate;
use crate::registry::{Accounts, Policy, token_router};
use crate::store::{HeartbeatRecorder, Store};
use crate::tls;

pub(crate) use error::chain;

pub use error::StartError;
pub use open::{Republished, republish};

/// A second listener, for all that know no SPIFFE.
#[derive(Debug, Clone)]
pub struct Web {
    /// The address that was bound.
    pub address: SocketAddr,
    /// What its clients are told.
    pub url: String,
}

/// A server that serves; [`Running::stop`] ends it.
#[derive(Debug)]
pub struct Running {
    /// The address that was bound.
    pub address: SocketAddr,
    /// What satellites and clients are told.
    pub public_url: String,
    /// The listener beside one that shows an SVID.
    pub web: Option<Web>,
    /// The built-in authority's listener for agents.
    pub agents: Option<SocketAddr>,
    /// The operators' listener.
    pub admin: Option<SocketAddr>,
    /// The first administrator's password where it had to be made up: to be shown once.
    pub generated_password: Option<SecretString>,
    /// What handlers share; for looking at the server from inside in tests.
    pub state: AppState,
    listeners: Listeners,
    stop_admin: CancellationToken,
    stop_tasks: CancellationToken,
    stop_publisher: watch::Sender<bool>,
    tasks: TaskTracker,
    /// Keeps a restore away while this runs.
    _folder: DataFolder,
}

/// The password that the first administrator is to have. A file that held it is nobody's need once there are accounts.
async fn first_password(config: &Config, store: &dyn Store) -> Result<Option<SecretString>, StartError> {
    let Some(path) = &config.admin_password_file else { return Ok(config.admin_password.clone()) };
    if store.has_users().await? {
        return Ok(None);
    }
    let password = PasswordFile::new("ADMIN_PASSWORD_FILE", path).now().await?;
    config.passwords.check(&password).map_err(StartError::FirstPassword)?;
    Ok(Some(password))
}

/// The sockets, bound before anything else tells their addresses.
struct Sockets {
    main: (TcpListener, SocketAddr),
    web: Option<(TcpListener, SocketAddr)>,
    agents: Option<(TcpListener, SocketAddr)>,
    admin: Option<(TcpListener, SocketAddr)>,
}

/// [`start_with`] where the log is somebody else's.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: &Config) -> Result<Running, StartError> {
    start_with(config, LogControl::fixed(config.log_level)).await
}

/// Opens everything, makes the first administrator and the default config if they are not there, and serves. `log`: what the
/// operators' listener changes the log's level by.
///
/// # Errors
/// [`StartError`].
pub async fn start_with(config: &Config, log: LogControl) -> Result<Running, StartError> {
    let certificate = match &config.tls {
        None => None,
        Some(files) => Some((files.clone(), TlsServer::new(tls::load(files)?))),
    };
    let (folder, key, store) = open_database(config).await?;
    let registry = OpenRegistry::open(config).await?;
    let lease = match registry {
        OpenRegistry::Builtin(_) => Some(BuiltinLease::take(Arc::clone(&store), &config.data_dir).await?),
        OpenRegistry::Harbor(_) | OpenRegistry::Oci { .. } => None,
    };
    let hash_key = Arc::new(HashKey::new(key.derive("machine-secrets").bytes()));
    let metrics = Metrics::default();
    let people = Arc::new(People::new(
        Arc::clone(&store),
        &key,
        Arc::clone(&hash_key),
        metrics.clone(),
        PeopleSettings {
            session: config.session_duration,
            lockout: config.lockout_duration,
            passwords: config.passwords,
        },
    ));
    let first = first_password(config, store.as_ref()).await?;
    let generated_password = people.bootstrap(first.as_ref()).await.map_err(StartError::Bootstrap)?;
    let now = jiff::Timestamp::now();
    store.ensure_default_config(now).await?;

    let oidc = match &config.oidc {
        None => None,
        Some(oidc) => Some(Arc::new(Oidc::new(oidc, &key).map_err(StartError::Oidc)?)),
    };

    let sockets = bind_all(config).await?;
    let (address, tasks, stop_tasks) = (sockets.main.1, TaskTracker::new(), CancellationToken::new());
    let identities = match &config.spiffe {
        None => None,
        Some(spiffe) => {
            let agents = sockets.agents.as_ref().map(|(_, address)| *address);
            Some(Arc::new(
                identities::open(spiffe, &store, &key, agents, &metrics, &tasks, &stop_tasks).await?,
            ))
        }
    };
    let public_url = config.public_url(address);
    let registry_url = registry.url(&public_url);
    if store.set_registry_url(&registry_url, now).await? {
        tracing::info!(url = %registry_url, "registry URL is new, documents are written again");
    }
    let at_harbor = matches!(config.registry, RegistryConfig::Harbor(_));
    let robots = Robots::new(Arc::clone(&store), Arc::clone(&hash_key)).at_harbor(at_harbor);
    let longest = signed(config.robot_duration);
    let (central, keeper) = registry.central(&store, &key, &hash_key, &robots, registry_url, longest);
    let central = Arc::new(central);
    let (publisher, handle) = publisher(&store, &central.documents, &central.url, FIRST_LOOK);
    let gate = central
        .keeper()
        .map(|keeper| Arc::new(SiteGate::new(Arc::clone(&store), keeper.clone())) as Arc<dyn Gate>);
    let publisher = publisher.gated_by(gate);
    let accounts =
        Accounts::new(Arc::clone(&store), Arc::clone(&people), robots.clone(), RegistryTokens::new(&key));
    let desired = Hub::new(Arc::clone(&store));
    let web = sockets.web.as_ref().map(|(_, bound)| Web { address: *bound, url: config.web_url(*bound) });
    let reached_at = web.as_ref().map_or(public_url.as_str(), |web| web.url.as_str()).trim_end_matches('/');
    let hooks =
        Hooks { secret: key.derive("harbor-webhook").hex(&[]).into(), url: format!("{reached_at}/hooks") };
    let state = AppState {
        heartbeats: HeartbeatRecorder::start(Arc::clone(&store), desired.clone(), metrics.clone()),
        desired,
        lifecycle: Lifecycle::new(Arc::clone(&store), identities.clone(), Arc::clone(&hash_key)),
        store,
        registry: Arc::clone(&central),
        people,
        limits: Arc::new(RequestLimits::new(config.api_rate_limit, metrics.clone())),
        proxies: config.trusted_proxies.clone(),
        oidc,
        robots,
        hash_key,
        answers: Seal::new(&key, "idempotent-answers"),
        publisher: handle,
        hints: Hints::default(),
        hooks: Arc::new(hooks),
        identities: identities.clone(),
        refusals: Refusals::new(metrics.clone()),
        sinks: Statuses::default(),
        metrics: metrics.clone(),
        draining: CancellationToken::new(),
    };

    // A client that mirrors through this registry names it by one of its own hosts.
    let urls = [Some(public_url.as_str()), web.as_ref().map(|web| web.url.as_str())];
    let hosts: Vec<&str> =
        urls.into_iter().flatten().filter_map(|url| Some(url.split_once("://")?.1)).collect();
    let routes = |listener: Listener, url: &str| {
        // Another registry is reached where it is; nothing of ours is served in its place.
        let Some(blobs) = central.blobs() else { return api::router(state.clone(), Router::new(), listener) };
        let policy = Arc::new(Policy::new(accounts.clone(), url));
        let options = registry_server::Options {
            namespaces: registry_server::Namespaces::new(hosts.iter().copied()),
            observer: Some(Arc::new(PushObserver::new(state.hints.clone()))),
            ..registry_server::Options::default()
        };
        let registry = registry_server::router(blobs.clone(), policy, options);
        api::router(state.clone(), registry.merge(token_router(accounts.clone())), listener)
    };

    let (mut listeners, proxies) = (Listeners::new(config.shutdown_timeout), config.trusted_proxies.clone());
    let agents = sockets.agents.as_ref().map(|(_, address)| *address);
    match &identities {
        None => {
            let tls = certificate.as_ref().map(|(_, server)| server.clone());
            listeners.serve(sockets.main.0, tls, routes(Listener::Only, &public_url), proxies);
        }
        Some(identities) => {
            let tls = TlsServer::new(Arc::new(identity::tls::server_config(&identities.own, ALPN)?));
            listeners.serve(sockets.main.0, Some(tls), routes(Listener::Svid, &public_url), proxies.clone());
            if let (Some((socket, _)), Some(web)) = (sockets.web, &web) {
                let tls = certificate.as_ref().map(|(_, server)| server.clone());
                listeners.serve(socket, tls, routes(Listener::Web, &web.url), proxies);
            }
            serve_agents(&mut listeners, identities, sockets.agents)?;
        }
    }

    let stop_admin = CancellationToken::new();
    let admin = sockets.admin.as_ref().map(|(_, address)| *address);
    if let Some((socket, _)) = sockets.admin {
        let routes = admin::router(state.clone(), log);
        tasks.spawn(serve_admin(socket, routes, stop_admin.clone()));
    }

    let (stop_publisher, publisher_stopped) = watch::channel(false);
    tasks.spawn(publisher.counted_by(metrics.clone()).run(publisher_stopped));
    match keeper {
        Some(keeper) => {
            let keeper = keeper.waking(state.publisher.clone());
            tasks.spawn(keeper.comparison().run(metrics.clone(), stop_tasks.clone()));
            tasks.spawn(keeper.run(metrics.clone(), stop_tasks.clone()));
        }
        // What was learnt of an account there binds nobody any more.
        None => state.store.set_harbor_account(None).await?,
    }
    if let Some(blobs) = central.blobs() {
        tasks.spawn(jobs::collect_garbage(
            blobs.clone(),
            Arc::clone(&state.store),
            metrics.clone(),
            stop_tasks.clone(),
        ));
    }
    tasks.spawn(state.desired.clone().run(stop_tasks.clone()));
    tasks.spawn(jobs::follow_rollouts(state.clone(), stop_tasks.clone()));
    tasks.spawn(jobs::wake_publisher(state.clone(), stop_tasks.clone()));
    if let Some(lease) = lease {
        tasks.spawn(lease.keep(stop_tasks.clone()));
    }
    let sweep = Sweep::new(
        Arc::clone(&state.store),
        Arc::clone(&central.index),
        state.publisher.clone(),
        state.hints.clone(),
        follow::Options { interval: config.sweep_interval, ..follow::Options::default() },
        metrics.clone(),
    );
    tasks.spawn(sweep.run(stop_tasks.clone()));
    if let RegistryKind::Harbor(harbor, _) = &central.kind {
        let address = match &harbor.login().config().webhook_url {
            Some(url) => format!("{url}/hooks/harbor"),
            None => format!("{}/harbor", state.hooks.url),
        };
        let policies = Policies::new(
            Arc::clone(&state.store),
            Arc::clone(harbor),
            address,
            state.hooks.secret.clone(),
            config.sweep_interval,
            metrics.clone(),
        );
        tasks.spawn(policies.run(stop_tasks.clone()));
    }
    let retention = (config.audit.retention_rows, signed(config.audit.retention));
    tasks.spawn(jobs::purge(state.clone(), retention, stop_tasks.clone()));
    tasks.spawn(state.refusals.clone().run(Arc::clone(&state.store), stop_tasks.clone()));
    for follower in audit::followers(&config.audit, &config.data_dir, &state)? {
        tasks.spawn(follower.run(stop_tasks.clone()));
    }
    let threshold = config.stale_threshold.map(signed);
    tasks.spawn(jobs::mark_stale(Arc::clone(&state.store), threshold, metrics.clone(), stop_tasks.clone()));
    tasks.spawn(jobs::return_memory(stop_tasks.clone()));
    tasks.spawn(state.lifecycle.clone().withdraw(metrics, stop_tasks.clone()));
    if let Some((files, server)) = certificate {
        tasks.spawn(tls::reload_on_change(files, server, stop_tasks.clone()));
    }
    tracing::info!(
        %address,
        url = %public_url,
        backend = central.name(),
        registry = %central.url,
        web = web.as_ref().map(|web| web.url.as_str()),
        agents = agents.map(|address| address.to_string()),
        admin = admin.map(|address| address.to_string()),
        database = state.store.kind(),
        "listening"
    );
    Ok(Running {
        address,
        public_url,
        web,
        agents,
        admin,
        generated_password,
        state,
        listeners,
        stop_admin,
        stop_tasks,
        stop_publisher,
        tasks,
        _folder: folder,
    })
}

/// For how long a group's document waits for the first look at what it lists.
const FIRST_LOOK: Duration = Duration::from_secs(3);

/// What is offered under TLS with our SVID.
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

async fn bind_all(config: &Config) -> Result<Sockets, StartError> {
    let main = bind("LISTEN", config.listen).await?;
    let web = match &config.web {
        None => None,
        Some(web) => Some(bind("WEB_LISTEN", web.listen).await?),
    };
    let agents = match config.spiffe.as_ref().map(|spiffe| &spiffe.source) {
        Some(IdentitySource::Builtin { agents, agents_asked_for, .. }) => {
            match bind("SPIRE_SERVER_PORT", *agents).await {
                Ok(bound) => Some(bound),
                Err(error) if *agents_asked_for => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "no listener for spire agents, set SPIRE_SERVER_PORT to have one");
                    None
                }
            }
        }
        _ => None,
    };
    // Last, so that its default takes nobody's address.
    let admin = match &config.admin {
        None => None,
        Some(admin) => match bind("ADMIN_LISTEN", admin.listen).await {
            Ok(bound) => Some(bound),
            Err(error) if admin.asked_for => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "no listener for operators, set ADMIN_LISTEN to have one, or to off");
                None
            }
        },
    };
    Ok(Sockets { main, web, agents, admin })
}

/// Metrics and health are no reason to end what they tell of.
async fn serve_admin(socket: TcpListener, routes: axum::Router, stop: CancellationToken) {
    let served = listen::serve(socket, None, routes, admin_limits(), stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "listener for operators ended");
    }
}

fn serve_agents(
    listeners: &mut Listeners,
    identities: &Identities,
    socket: Option<(TcpListener, SocketAddr)>,
) -> Result<(), StartError> {
    if let (Some(authority), Some((socket, _))) = (&identities.authority, socket) {
        listeners.serve(
            socket,
            Some(authority.agent_tls()?),
            authority.agent_router(),
            TrustedProxies::default(),
        );
    }
    Ok(())
}

impl Running {
    /// Waits until a listener ends by itself, which it does only when it is broken.
    ///
    /// # Errors
    /// [`ListenError`], or `None` if its task panicked.
    pub async fn ended(&mut self) -> Result<(), Option<ListenError>> {
        self.listeners.ended().await
    }

    /// Is not ready any more, takes no more connections, lets answers under way end within `SHUTDOWN_TIMEOUT`, lets the
    /// publisher finish the document in hand, and closes the database. The operators' listener shows that until the last
    /// answer is given.
    pub async fn stop(mut self) {
        self.state.draining.cancel();
        self.listeners.stop().await;
        self.stop_admin.cancel();
        self.stop_tasks.cancel();
        self.stop_publisher.send_replace(true);
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(10), self.tasks.wait()).await.is_err() {
            tracing::warn!("background work did not end in time, the next start continues it");
        }
        self.state.heartbeats.flush().await;
        self.state.store.close().await;
        tracing::info!("stopped");
    }
}
