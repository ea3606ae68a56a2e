//! One connection, from its first byte to its last.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::body::Patient;
use super::later::Later;
use super::stream::Limited;
use super::{Limits, PeerCertificates, TlsServer, TrustedProxies, http1, proxies};

/// The first byte of every TLS connection: a handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What all connections of a listener share.
pub(super) struct Context {
    pub(super) limits: Limits,
    pub(super) router: Router,
    pub(super) tls: Option<TlsServer>,
    pub(super) proxies: TrustedProxies,
    pub(super) stopping: CancellationToken,
}

/// What the handlers of one connection's requests are told of it.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    certificates: Option<PeerCertificates>,
}

/// Serves one accepted connection to its end. Failures are the peer's or the network's: logged, never returned.
pub(super) async fn run(context: Arc<Context>, mut stream: TcpStream, mut address: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "cannot turn off delayed sending");
    }
    let Some(mut first) = first_byte(&context, &stream).await else { return };
    if first == proxies::FIRST && context.proxies.trusts(address.ip()) {
        let proxy = address;
        address = match told(&context, &mut stream, proxy).await {
            Ok(address) => address,
            Err(error) => {
                tracing::debug!(%proxy, %error, "header of the PROXY protocol not taken");
                return;
            }
        };
        first = match first_byte(&context, &stream).await {
            Some(first) => first,
            None => return,
        };
    }
    match (&context.tls, first == TLS_HANDSHAKE) {
        // On the heap, each at its own size: a connection may stay for days, and would hold the room of all that it might have
        // become.
        (None, false) => {
            http1::serve(&context, Box::new(stream), Peer { address, certificates: None }).await;
        }
        (Some(tls), true) => {
            let shaken = Box::pin(handshake(&context, tls.clone(), stream, address)).await;
            match shaken {
                Some((stream, peer, true)) => Box::pin(http2(&context, stream, peer)).await,
                Some((stream, peer, false)) => http1::serve(&context, stream, peer).await,
                None => {}
            }
        }
        (None, true) => {
            refuse(stream, "this port speaks plain HTTP: use http:// for it").await;
        }
        (Some(_), false) => {
            refuse(stream, "this port speaks TLS: use https:// for it").await;
        }
    }
}

/// Looks at the first byte without taking it. `None` when the connection ended, or nothing came while it could idle.
async fn first_byte(context: &Context, stream: &TcpStream) -> Option<u8> {
    let mut byte = [0];
    tokio::select! {
        peeked = tokio::time::timeout(context.limits.header_read, stream.peek(&mut byte)) => match peeked {
            Ok(Ok(1)) => Some(byte[0]),
            _ => None,
        },
        () = context.stopping.cancelled() => None,
    }
}

/// Where a connection comes from, in the words of the proxy that passes it on.
async fn told(context: &Context, stream: &mut TcpStream, proxy: SocketAddr) -> io::Result<SocketAddr> {
    tokio::select! {
        read = tokio::time::timeout(context.limits.header_read, proxies::source(stream, proxy)) => {
            read.map_err(io::Error::from)?
        }
        () = context.stopping.cancelled() => Err(io::ErrorKind::Interrupted.into()),
    }
}

/// Answers somebody who speaks the wrong protocol, in the one that they may be able to show, and closes.
async fn refuse(mut stream: TcpStream, why: &str) {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{why}\n",
        why.len() + 1
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A connection after its handshake, and whether its peer wants HTTP/2; `None` where there was none in time.
async fn handshake(
    context: &Context,
    tls: TlsServer,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<(Box<TlsStream<TcpStream>>, Peer, bool)> {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls.current());
    let stream = match tokio::time::timeout(context.limits.header_read, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Box::new(stream),
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "tls handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!(%address, "tls handshake took too long");
            return None;
        }
    };
    let session = stream.get_ref().1;
    let certificates = session
        .peer_certificates()
        .map(|chain| PeerCertificates(chain.iter().map(|c| c.clone().into_owned()).collect()));
    let speaks_http2 = session.alpn_protocol() == Some(b"h2");
    Some((stream, Peer { address, certificates }, speaks_http2))
}

async fn http2<S>(context: &Context, stream: Box<S>, peer: Peer)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let stream = Limited::new(stream, None, limits.write_stall);
    let address = peer.address;
    let service = service_fn(move |request| {
        let answer = call(context, &peer, request);
        async move {
            let mut response = answer.await;
            if let Some(waiting) = Later::take(response.extensions_mut()) {
                response = Later::arrived(waiting).await;
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    // Streams borrow nothing from the connection's task, which hyper's executor asks for; they run inside it.
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.idle / 3)
        .keep_alive_timeout(limits.header_read)
        .max_concurrent_streams(128)
        .max_header_list_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = context.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "connection ended");
    }
}

/// Hands one request to the router, with its body under the stall limit and its peer in the extensions.
pub(super) fn call(
    context: &Context,
    peer: &Peer,
    request: Request<Incoming>,
) -> impl Future<Output = Response<axum::body::Body>> + Send + use<> {
    let (mut head, body) = request.into_parts();
    head.extensions.insert(ConnectInfo(peer.address));
    if let Some(certificates) = &peer.certificates {
        head.extensions.insert(certificates.clone());
    }
    let body = if body.is_end_stream() {
        axum::body::Body::empty()
    } else {
        axum::body::Body::new(Patient::new(body, context.limits.body_stall))
    };
    let mut router = context.router.clone();
    let answer = Service::<Request<axum::body::Body>>::call(&mut router, Request::from_parts(head, body));
    async move {
        match answer.await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Ten thousand satellites keep a connection each: what one is, beside buffers, is counted in kilobytes.
    #[tokio::test]
    async fn a_connection_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stream, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let context = Arc::new(Context {
            limits: Limits::default(),
            router: Router::new(),
            tls: None,
            proxies: TrustedProxies::default(),
            stopping: CancellationToken::new(),
        });
        let all = size_of_val(&run(Arc::clone(&context), stream.unwrap(), address));
        let peer = Peer { address, certificates: None };
        let spoken = size_of_val(&http1::serve(&context, Box::new(accepted.unwrap().0), peer));
        assert!(all <= 1536 && spoken <= 1024, "{all} bytes, and {spoken} for HTTP/1.1");
    }
}
