//! The PROXY protocol in front of the listener, with the bytes that a proxy sends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use registry_server::listen::{self, Limits, TlsServer, TrustedProxies};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// `192.0.2.1:4711`, as HAProxy tells it, with one extension (ALPN).
fn header() -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x11".to_vec();
    bytes.extend([192, 0, 2, 1, 127, 0, 0, 1]);
    bytes.extend(4711_u16.to_be_bytes());
    bytes.extend(443_u16.to_be_bytes());
    bytes.extend([0x01, 0, 2, b'h', b'2']);
    bytes
}

/// Serves the peer's address.
async fn start(proxies: &str, tls: Option<TlsServer>, limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }));
    let proxies: TrustedProxies = proxies.parse().unwrap();
    tokio::spawn(listen::serve_behind(proxies, listener, tls, router, limits, std::future::pending()));
    address
}

/// All that is answered to these bytes, each in a packet of its own.
async fn ask(address: SocketAddr, parts: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for part in parts {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_trusted_proxy_tells_where_a_connection_comes_from() {
    let address = start("127.0.0.0/8", None, Limits::default()).await;
    let header = header();
    let answer = ask(address, &[&header, REQUEST]).await;
    assert!(answer.ends_with("\r\n192.0.2.1:4711"), "{answer}");
    let bytes: Vec<&[u8]> = header.chunks(1).collect();
    let answer = ask(address, &[bytes.as_slice(), &[REQUEST]].concat()).await;
    assert!(answer.ends_with("\r\n192.0.2.1:4711"), "byte by byte: {answer}");
    // A proxy's own health check, and a proxy that speaks HTTP for itself.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    for front in [local.as_slice(), b""] {
        let answer = ask(address, &[front, REQUEST]).await;
        assert!(answer.contains("\r\n127.0.0.1:"), "{answer}");
    }
    for bad in [b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".as_slice(), b"\r\n\r\n\0\r\nQUIT\n\x11\x11\x00\x00"] {
        assert_eq!(ask(address, &[bad, REQUEST]).await, "", "{bad:?}");
    }
}

#[tokio::test]
async fn nobody_else_does() {
    for proxies in ["", "192.0.2.0/24"] {
        let address = start(proxies, None, Limits::default()).await;
        let answer = ask(address, &[&header(), REQUEST]).await;
        assert!(!answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(ask(address, &[REQUEST]).await.contains("\r\n127.0.0.1:"));
    }
}

#[tokio::test]
async fn a_header_that_does_not_end_is_not_waited_for() {
    let limits = Limits { header_read: Duration::from_millis(200), ..Limits::default() };
    let address = start("127.0.0.1", None, limits).await;
    for front in [&header()[..1], &header()[..20], &header()] {
        assert_eq!(ask(address, &[front]).await, "");
    }
}

#[tokio::test]
async fn the_header_stands_in_front_of_tls() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let address = start("127.0.0.1", Some(TlsServer::new(Arc::new(config))), Limits::default()).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client =
        Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    for (front, source) in [(header(), "\r\n192.0.2.1:4711"), (Vec::new(), "\r\n127.0.0.1:")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&front).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&client));
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(source), "{answer}");
    }
}
