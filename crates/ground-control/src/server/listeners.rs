//! The sockets, and the tasks that serve them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use registry_server::listen::{self, Limits, ListenError, TlsServer, TrustedProxies};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::error::StartError;

/// Connections that wait to be accepted; the system may allow fewer (`net.core.somaxconn`). A fleet that comes back at once
/// fills the usual 128 in no time, and whoever finds the queue full tries again after a second, then two, then four.
const BACKLOG: u32 = 4096;

/// Connections of one listener: every satellite holds one for as long as it is online.
const CONNECTIONS: usize = 16_384;

/// Binds the address that `variable` named.
pub(super) async fn bind(
    variable: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let fail = |source| StartError::Listen { variable, address, source };
    let listener = match listening(address) {
        // A machine without IPv6 still has all the interfaces of IPv4.
        Err(_) if address.ip().is_unspecified() && address.is_ipv6() => {
            listening((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    }
    .map_err(fail)?;
    let bound = listener.local_addr().map_err(fail)?;
    Ok((listener, bound))
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart does not wait for the connections of the last run.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What the operators' listener takes: a few scrapers and people.
pub(super) fn admin_limits() -> Limits {
    Limits { connections: 64, drain: Duration::from_secs(1), ..Limits::default() }
}

/// Everything that is listened on; ends together.
#[derive(Debug)]
pub(super) struct Listeners {
    tasks: JoinSet<Result<(), ListenError>>,
    stop: CancellationToken,
    drain: Duration,
}

impl Listeners {
    /// None yet. `drain`: how long answers under way may take at the end.
    pub(super) fn new(drain: Duration) -> Self {
        Self { tasks: JoinSet::new(), stop: CancellationToken::new(), drain }
    }

    /// Serves one more, behind these proxies.
    pub(super) fn serve(
        &mut self,
        socket: TcpListener,
        tls: Option<TlsServer>,
        router: Router,
        proxies: TrustedProxies,
    ) {
        let limits = Limits { connections: CONNECTIONS, drain: self.drain, ..Limits::default() };
        let shutdown = self.stop.clone().cancelled_owned();
        self.tasks.spawn(listen::serve_behind(proxies, socket, tls, router, limits, shutdown));
    }

    /// Waits until one ends by itself, which it does only when it is broken; `None` where its task panicked.
    pub(super) async fn ended(&mut self) -> Result<(), Option<ListenError>> {
        match self.tasks.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(Some(error)),
            Some(Err(_)) => Err(None),
        }
    }

    /// Takes no more connections, and lets answers under way end.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_fleet_that_comes_at_once_finds_room_in_the_queue() {
        const FLEET: usize = 512;
        let (_listener, address) = bind("LISTEN", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        // Nobody accepts: the queue alone has to take them.
        let mut tasks = JoinSet::new();
        for _ in 0..FLEET {
            tasks.spawn(TcpStream::connect(address));
        }
        let all = tokio::time::timeout(Duration::from_secs(20), tasks.join_all()).await.unwrap();
        assert!(all.iter().all(Result::is_ok));
    }
}
