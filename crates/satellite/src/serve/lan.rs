//! The listener for other machines of the site: TLS always, nobody anonymous.
//!
//! It stands beside the local registry and is less than it: where it cannot be (a port that is taken, an address that comes
//! later, a certificate that is broken) the satellite goes on without it, says so, and tries again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use blob_store::Store;
use jiff::Timestamp;
use registry_server::listen::{self, Limits, TlsServer};
use registry_server::{Namespaces, Options};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::CONNECTIONS;
use super::access::Lan;
use super::accounts::{Accounts, fingerprint, is_open_to_others};
use super::certificate::{self, InUse};
use super::pulls::PullLog;
use crate::config::{LanSettings, LocalNamespaces};
use crate::status::{LanStatus, StatusBoard};

/// After what time it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often the accounts' file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a listener is made of.
#[derive(Debug)]
pub struct Parts {
    /// What the site says.
    pub settings: LanSettings,
    /// Where the local authority is.
    pub config_dir: PathBuf,
    /// Who may log in.
    pub accounts: Accounts,
    /// The registry, if this satellite has one; see [`registry`].
    pub registry: Option<Router>,
    /// Further routes. They see to their own credentials; who showed a certificate is in the request's extensions
    /// ([`listen::PeerCertificates`]).
    pub extra: Router,
    /// Where it is told how it is.
    pub board: StatusBoard,
    /// How long answers in progress may take at the end.
    pub drain: Duration,
}

/// The registry as it is offered to other machines.
pub fn registry(store: Store, namespaces: Namespaces, accounts: Accounts, local: LocalNamespaces) -> Router {
    let options = Options { namespaces, observer: PullLog::observer(), ..Options::default() };
    registry_server::router(store, Arc::new(Lan::new(accounts, local)), options)
}

/// The listener, or the wish for one.
#[derive(Debug)]
pub struct LanListener {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl LanListener {
    /// Begins. Where it listens, once it does, is in the status.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(parts, stop.clone()));
        Self { stop, task }
    }

    /// Takes no more connections, lets answers in progress end within the time given at start, then cuts them off.
    pub async fn shutdown(self) {
        self.stop.cancel();
        drop(self.task.await);
    }
}

async fn run(parts: Parts, stop: CancellationToken) {
    let accounts = follow_accounts(&parts);
    let listener = async {
        let router = parts.extra.clone().merge(parts.registry.clone().unwrap_or_default());
        let mut said = None;
        while let Err(problem) = once(&parts, router.clone(), &stop).await {
            if said.as_ref() != Some(&problem) {
                tracing::error!(address = %parts.settings.listen, error = problem, "lan listener does not serve");
            }
            update(&parts.board, |lan| {
                *lan = LanStatus {
                    problem: Some(problem.clone()),
                    accounts_problem: lan.accounts_problem.clone(),
                    accounts: lan.accounts,
                    ..LanStatus::default()
                };
            });
            said = Some(problem);
            if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                return;
            }
        }
    };
    tokio::select! {
        () = accounts => {}
        () = listener => {}
    }
}

/// Serves until the end is asked for, or something is in the way.
async fn once(parts: &Parts, router: Router, stop: &CancellationToken) -> Result<(), String> {
    let wanted = parts.settings.listen;
    let (settings, config_dir) = (parts.settings.clone(), parts.config_dir.clone());
    let made = tokio::task::spawn_blocking(move || certificate::load(&settings, &config_dir, wanted.ip()));
    let (config, in_use) = made.await.map_err(|error| error.to_string())??;
    let listener =
        TcpListener::bind(wanted).await.map_err(|error| format!("cannot listen on {wanted}: {error}"))?;
    let address = listener.local_addr().unwrap_or(wanted);
    let tls = TlsServer::new(config);
    let limits = Limits { connections: CONNECTIONS, drain: parts.drain, ..Limits::default() };
    let tell = |in_use: &InUse, problem| show(parts, address, in_use, problem);
    tell(&in_use, None);
    tracing::info!(%address, until = %in_use.not_after, "lan listener serves");
    let serving = listen::serve(listener, Some(tls.clone()), router, limits, stop.clone().cancelled_owned());
    tokio::select! {
        ended = serving => ended.map_err(|error| error.to_string()),
        () = certificate::keep(&parts.settings, &parts.config_dir, wanted.ip(), &tls, in_use, tell) => Ok(()),
    }
}

fn show(parts: &Parts, address: SocketAddr, in_use: &InUse, problem: Option<String>) {
    let names = in_use.names.as_ref().map(|names| {
        names.names.iter().cloned().chain(names.addresses.iter().map(ToString::to_string)).collect()
    });
    update(&parts.board, |lan| {
        lan.address = Some(address.to_string());
        lan.certificate = if in_use.names.is_some() { "local_ca" } else { "files" }.to_owned();
        lan.names = names.unwrap_or_default();
        lan.expires_at = Some(in_use.not_after);
        lan.authority_expires_at = Some(in_use.authority_not_after);
        lan.problem = problem;
    });
}

fn update(board: &StatusBoard, change: impl FnOnce(&mut LanStatus)) {
    board.update(|status| change(status.lan.get_or_insert_default()));
}

/// Keeps the accounts as the file says, for as long as it is polled.
async fn follow_accounts(parts: &Parts) {
    let Some(file) = parts.settings.accounts_file.clone() else {
        tracing::info!("no accounts for the lan, only certificates of `satellite ca issue` get in");
        return std::future::pending().await;
    };
    let mut seen = None;
    let mut said = None;
    loop {
        let (path, accounts, before) = (file.clone(), parts.accounts.clone(), seen);
        let looked = tokio::task::spawn_blocking(move || {
            let now = Some(fingerprint(&path));
            (now != before || now == Some(None))
                .then(|| (now, accounts.read(&path), is_open_to_others(&path)))
        });
        if let Ok(Some((now, outcome, open))) = looked.await {
            seen = now;
            let problem = outcome.err().map(|error| error.to_string());
            let count = parts.accounts.len();
            match &problem {
                Some(problem) if said.as_ref() != Some(problem) => {
                    tracing::error!(
                        accounts = count,
                        error = problem,
                        "accounts for the lan not read, those known before stay"
                    );
                }
                Some(_) => {}
                None => tracing::info!(accounts = count, "accounts for the lan read"),
            }
            if open && problem.is_none() {
                tracing::warn!(path = %file.display(), "everybody of this machine may read the accounts' hashes, set the file's mode to 0600");
            }
            said.clone_from(&problem);
            update(&parts.board, |lan| {
                lan.accounts = count as u64;
                lan.accounts_problem = problem;
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl LanStatus {
    /// What needs a person.
    #[must_use]
    pub fn problems(&self, now: Timestamp) -> Vec<String> {
        let soon = |end: Option<Timestamp>, days: i64| {
            end.is_some_and(|end| end.duration_since(now) < jiff::SignedDuration::from_hours(24 * days))
        };
        let mut found = Vec::new();
        if let Some(problem) = &self.problem {
            found.push(format!("lan listener: {problem}"));
        }
        if let Some(problem) = &self.accounts_problem {
            found.push(format!("accounts for the lan: {problem}"));
        }
        if self.certificate == "files" && soon(self.expires_at, 7) {
            found.push(
                "lan listener: the site's certificate ends within 7 days, renew it (LAN_TLS_CERT_FILE)"
                    .to_owned(),
            );
        }
        if soon(self.authority_expires_at, 180) {
            found.push(
                "lan listener: the local authority ends within 180 days; run `satellite ca rotate`, and give the nodes what `satellite ca export` prints then"
                    .to_owned(),
            );
        }
        found
    }
}
