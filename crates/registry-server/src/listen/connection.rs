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
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::body::{Marked, Patient};
use super::stream::{Activity, Limited};
use super::{Limits, PeerCertificates, TlsServer, TrustedProxies, proxies};

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
struct Peer {
    address: SocketAddr,
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
        (None, false) => {
            http1(&context, stream, Peer { address, certificates: None }).await;
        }
        (Some(tls), true) => handshake(&context, tls.clone(), stream, address).await,
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

async fn handshake(context: &Context, tls: TlsServer, stream: TcpStream, address: SocketAddr) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls.current());
    let stream = match tokio::time::timeout(context.limits.header_read, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "tls handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "tls handshake took too long");
            return;
        }
    };
    let session = stream.get_ref().1;
    let certificates = session
        .peer_certificates()
        .map(|chain| PeerCertificates(chain.iter().map(|c| c.clone().into_owned()).collect()));
    let speaks_http2 = session.alpn_protocol() == Some(b"h2");
    let peer = Peer { address, certificates };
    if speaks_http2 {
        http2(context, stream, peer).await;
    } else {
        http1(context, stream, peer).await;
    }
}

async fn http1<S>(context: &Context, stream: S, peer: Peer)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let activity = Arc::new(Activity::default());
    let stream = Limited::new(stream, Some((Arc::clone(&activity), limits.header_read)), limits.write_stall);
    let address = peer.address;
    let service = service_fn(move |request| {
        activity.requested();
        let answer = call(context, &peer, request);
        let activity = Arc::clone(&activity);
        async move {
            let response = answer.await;
            Ok::<_, std::convert::Infallible>(response.map(|body| Marked::new(body, activity)))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(256 * 1024)
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

async fn http2<S>(context: &Context, stream: S, peer: Peer)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let stream = Limited::new(stream, None, limits.write_stall);
    let address = peer.address;
    let service = service_fn(move |request| {
        let answer = call(context, &peer, request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
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
fn call(
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
