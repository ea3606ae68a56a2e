//! The accept loop in front of a router: connections, TLS, time limits and a graceful end.
//!
//! `axum::serve` has no TLS and no limits of time, so a handful of silent peers could hold a small machine's
//! sockets for ever. Here every state of a connection has a limit: the TLS handshake, the head of a request, an idle
//! keep-alive, a request body that stops coming, and a peer that stops reading.
//!
//! HTTP/2 is spoken where TLS negotiated it (ALPN `h2`), HTTP/1.1 everywhere else; nothing is guessed from the
//! first bytes, apart from telling a person who speaks TLS to a plain port, or the reverse, what is wrong.

mod body;
mod connection;
mod http1;
mod later;
mod proxies;
mod stream;
mod tls;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use later::Later;
pub use proxies::{NoNetwork, TrustedProxies};
pub use tls::{PeerCertificates, TlsServer};

/// How much one listener takes, and for how long it waits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at the same time; more wait in the kernel's queue.
    pub connections: usize,
    /// From the first byte of a request to the end of its head; also the length of a TLS handshake.
    pub header_read: Duration,
    /// A connection without a request in progress is closed after this.
    pub idle: Duration,
    /// A request body of which no byte comes for this long is given up (an upload session keeps what came).
    pub body_stall: Duration,
    /// A peer that takes no byte of an answer for this long is cut off.
    pub write_stall: Duration,
    /// At shutdown, how long answers in progress may take before they are cut off.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 4096,
            header_read: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            body_stall: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
            drain: Duration::from_secs(20),
        }
    }
}

/// Why a listener ended early.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The listening socket itself is broken.
    #[error(
        "cannot accept connections on {address}: {source}; restart the program, and look for what took the address"
    )]
    Accept {
        /// The listening address.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Serves `router` on `listener` until `shutdown` completes, then lets answers in progress end ([`Limits::drain`]).
///
/// With `tls`, every connection has to be TLS; certificates changed by [`TlsServer::replace`] are used from the next
/// handshake on. Handlers find the peer's address as `axum::extract::ConnectInfo<SocketAddr>` in the request's
/// extensions, and [`PeerCertificates`] where the peer showed any.
///
/// # Errors
/// Only when the listening socket is broken; failures of single connections are logged at debug level.
pub async fn serve<S>(
    listener: TcpListener,
    tls: Option<TlsServer>,
    router: Router,
    limits: Limits,
    shutdown: S,
) -> Result<(), ListenError>
where
    S: Future<Output = ()> + Send,
{
    serve_behind(TrustedProxies::default(), listener, tls, router, limits, shutdown).await
}

/// [`serve`] behind proxies: where a connection from one of them begins with a header of the PROXY protocol (version 2, in
/// front of TLS), the peer's address is the one that stands there, in its canonical form. The header has to come within
/// [`Limits::header_read`]; a connection without one is taken as it is, so that a proxy may pass requests on as a client of
/// its own, too. From anywhere else such a header is no HTTP and no TLS.
///
/// # Errors
/// As [`serve`].
pub async fn serve_behind<S>(
    proxies: TrustedProxies,
    listener: TcpListener,
    tls: Option<TlsServer>,
    router: Router,
    limits: Limits,
    shutdown: S,
) -> Result<(), ListenError>
where
    S: Future<Output = ()> + Send,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let drain = limits.drain;
    let context =
        Arc::new(connection::Context { limits, router, tls, proxies, stopping: CancellationToken::new() });
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    tokio::pin!(shutdown);

    let outcome = loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break Ok(()),
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, peer, slot)) => {
                let (context, cut) = (Arc::clone(&context), cut.clone());
                connections.spawn(async move {
                    let _slot = slot;
                    tokio::select! {
                        () = connection::run(context, stream, peer) => {}
                        () = cut.cancelled() => {}
                    }
                });
            }
            Err(error) if is_transient(&error) => {
                // Out of descriptors or the peer was gone before it was accepted: the next one may fare better.
                tracing::debug!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(source) => {
                let address = listener.local_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string());
                break Err(ListenError::Accept { address, source });
            }
        }
    };

    drop(listener);
    context.stopping.cancel();
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::info!(connections = connections.len(), "cut off connections that did not end in time");
        cut.cancel();
        connections.wait().await;
    }
    outcome
}

type Accepted = (tokio::net::TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<Accepted> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut,
    };
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = 105;
    const ENOMEM: i32 = 12;
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut
    ) || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS | ENOMEM))
}
