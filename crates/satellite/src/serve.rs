//! The local registry: anybody on this machine pulls, and pushes only into what is the site's own.
//!
//! It is the first thing that a start brings up and the last that a shutdown takes down, and it needs nothing but the
//! store: no network, no credentials, no sealed state.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use blob_store::Store;
use registry_server::listen::{self, Limits};
use registry_server::{Namespaces, Options, Places};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub mod access;
pub mod accounts;
pub mod addresses;
mod certificate;
pub mod docker;
pub mod kept_namespaces;
pub mod lan;
pub mod local_ca;
pub mod namespaces;
mod pulls;

use crate::config::LocalNamespaces;

/// Connections at the same time: the container runtimes of one machine or a small site.
const CONNECTIONS: usize = 512;

/// The local registry, serving.
#[derive(Debug)]
pub struct LocalRegistry {
    address: SocketAddr,
    namespaces: Namespaces,
    stop: CancellationToken,
    task: JoinHandle<Result<(), listen::ListenError>>,
}

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not this machine's.
    #[error("local registry cannot listen on {address}: {source}; {advice}")]
    Bind {
        /// The address that was wanted.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// It stopped by itself.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// Its task ended abnormally.
    #[error("local registry ended abnormally: {0}")]
    Ended(String),
}

impl LocalRegistry {
    /// Binds `address` and serves `store` on it, with the repositories of upstream hosts at these places, and these
    /// namespaces to push into.
    ///
    /// # Errors
    /// [`ServeError::Bind`].
    pub async fn start(
        store: Store,
        address: SocketAddr,
        places: Places,
        local: &LocalNamespaces,
        drain: Duration,
    ) -> Result<Self, ServeError> {
        let listener = TcpListener::bind(address).await.map_err(|source| bind_error(address, source))?;
        let address = listener.local_addr().unwrap_or(address);
        let namespaces = Namespaces::default();
        namespaces.map(places);
        let options = Options {
            namespaces: namespaces.clone(),
            observer: pulls::PullLog::observer(),
            ..Options::default()
        };
        let router = registry_server::router(store, Arc::new(access::Open::new(local)), options);
        let limits = Limits { connections: CONNECTIONS, drain, ..Limits::default() };
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(listen::serve(listener, None, router, limits, stopped));
        Ok(Self { address, namespaces, stop, task })
    }

    /// Where it listens (with the port that the system chose, if 0 was asked for).
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The upstream hosts that it stands in for (`?ns=`).
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Completes when it stopped by itself, which it should not.
    pub async fn failed(&mut self) -> ServeError {
        match (&mut self.task).await {
            Ok(Ok(())) => ServeError::Ended("nobody asked it to".to_owned()),
            Ok(Err(error)) => error.into(),
            Err(error) => ServeError::Ended(error.to_string()),
        }
    }

    /// Takes no more connections, lets pulls in progress end within the time given at start, then cuts them off.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Ok(Err(error)) = self.task.await {
            tracing::warn!(%error, "local registry did not end cleanly");
        }
    }
}

fn bind_error(address: SocketAddr, source: io::Error) -> ServeError {
    let advice = match source.kind() {
        io::ErrorKind::AddrInUse => {
            "another program (or another satellite) listens there: stop it, or choose a free port with --registry-listen"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need privileges: choose another with --registry-listen"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: correct --registry-listen",
        _ => "choose another address with --registry-listen",
    };
    ServeError::Bind { address, source, advice }
}
