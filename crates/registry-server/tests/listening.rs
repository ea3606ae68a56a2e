//! The accept loop: time limits, TLS, the cap on connections, and a graceful end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed step fails the test")]

#[path = "common/registry.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Registry, read_head, read_to_end};
use registry_server::listen::{Limits, TlsServer};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROBE: &[u8] = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";

fn short() -> Limits {
    Limits {
        header_read: Duration::from_millis(200),
        idle: Duration::from_millis(900),
        body_stall: Duration::from_millis(200),
        write_stall: Duration::from_millis(300),
        drain: Duration::from_secs(10),
        ..Limits::default()
    }
}

#[tokio::test]
async fn silence_is_ended() {
    let registry = Registry::with_limits(short(), None).await;
    // Nothing at all; half a head; a whole request and then half a head; a body that stops.
    for bytes in [
        &b""[..],
        b"GET /v2/ HTTP/1.1\r\nHos",
        b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nGET /v",
        b"PUT /v2/a/manifests/b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab",
    ] {
        let mut stream = registry.connect().await;
        stream.write_all(bytes).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(5), read_to_end(&mut stream)).await;
        assert!(ended.is_ok(), "still open after {:?}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test]
async fn a_stalled_upload_keeps_what_came() {
    let registry = Registry::with_limits(short(), None).await;
    let location = registry.begin("stalled").await;
    let mut stream = registry.connect().await;
    let head = format!("PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfour");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("range: 0-3\r\n"), "{answer}");
    let status = registry
        .raw(format!("GET {location} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await;
    assert!(
        status.starts_with("HTTP/1.1 204 ") && status.to_ascii_lowercase().contains("range: 0-3\r\n"),
        "{status}"
    );
}

#[tokio::test]
async fn idle_connections_outlive_the_limit_of_heads() {
    let limits = Limits {
        idle: Duration::from_secs(60),
        header_read: Duration::from_millis(100),
        ..Limits::default()
    };
    let registry = Registry::with_limits(limits, None).await;
    let mut stream = registry.connect().await;
    for _ in 0..2 {
        stream.write_all(PROBE).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
        let mut body = [0; 2];
        stream.read_exact(&mut body).await.unwrap();
        // Three times the limit of a head: a connection that is merely idle has to be there still.
        let closed = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut body)).await;
        assert!(closed.is_err(), "closed while idle");
    }
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_cut_off() {
    let registry = Registry::with_limits(short(), None).await;
    let content = vec![7; 64 << 20];
    let digest = oci::Digest::sha256(&content);
    registry.store.put_blob(&"a".parse().unwrap(), &digest, content.into()).await.unwrap();
    let mut stream = registry.connect().await;
    stream
        .write_all(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    // Reads nothing more; the drain below ends only when the connection was given up.
    let ended = tokio::time::timeout(Duration::from_secs(5), registry.stop()).await;
    assert!(ended.is_ok(), "the connection was kept");
}

#[tokio::test]
async fn connections_beyond_the_cap_wait() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let registry = Registry::with_limits(limits, None).await;
    let mut first = registry.connect().await;
    first.write_all(PROBE).await.unwrap();
    assert!(read_head(&mut first).await.starts_with("HTTP/1.1 200 "));
    let mut second = registry.connect().await;
    second.write_all(PROBE).await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(200), second.read(&mut byte)).await;
    assert!(early.is_err(), "served beyond the cap");
    drop(first);
    assert!(read_head(&mut second).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_answer_in_progress_ends_before_the_listener_does() {
    let registry = Registry::with_limits(Limits::default(), None).await;
    let content = vec![7; 16 << 20];
    let digest = oci::Digest::sha256(&content);
    registry.store.put_blob(&"a".parse().unwrap(), &digest, content.into()).await.unwrap();
    let address = registry.address;
    let mut busy = registry.connect().await;
    busy.write_all(format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    assert!(read_head(&mut busy).await.starts_with("HTTP/1.1 200 "));
    let mut idle = registry.connect().await;
    idle.write_all(PROBE).await.unwrap();
    assert!(read_head(&mut idle).await.starts_with("HTTP/1.1 200 "));

    let served = registry.stop();
    // The idle one ends at once, new ones find nobody, the busy one gets every byte.
    read_to_end(&mut idle).await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    let mut rest = Vec::new();
    busy.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), 16 << 20);
    served.await.unwrap().unwrap();
}

fn certificate() -> (Arc<ServerConfig>, String) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(config), made.cert.pem())
}

fn client(pem: &str, http2: bool) -> reqwest::Client {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .resolve("localhost", "127.0.0.1:1".parse().unwrap())
        .tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes()).unwrap()]);
    if http2 { builder.build().unwrap() } else { builder.http1_only().build().unwrap() }
}

#[tokio::test]
async fn tls_speaks_both_versions_and_takes_new_certificates() {
    let (config, pem) = certificate();
    let tls = TlsServer::new(config);
    let registry = Registry::with_limits(Limits::default(), Some(tls.clone())).await;
    let url = format!("https://localhost:{}/v2/", registry.address.port());
    for (http2, version) in [(true, reqwest::Version::HTTP_2), (false, reqwest::Version::HTTP_11)] {
        let answer = client(&pem, http2).get(&url).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    }
    let (config, newer) = certificate();
    tls.replace(config);
    assert!(client(&pem, false).get(&url).send().await.is_err());
    assert_eq!(client(&newer, false).get(&url).send().await.unwrap().status(), 200);
}

/// Handlers of any router learn who is at the other end.
#[tokio::test]
async fn peers_are_known_to_handlers() {
    use axum::extract::{ConnectInfo, Request};
    use registry_server::listen::{self, PeerCertificates};

    async fn told(request: Request) -> String {
        let peer = request.extensions().get::<ConnectInfo<std::net::SocketAddr>>().map(|info| info.0.ip());
        let shown = request.extensions().get::<PeerCertificates>().map_or(0, |chain| chain.0.len());
        format!("{peer:?} {shown}")
    }

    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(["edge".to_owned()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots))
        .allow_unauthenticated()
        .build()
        .unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let router = axum::Router::new().route("/", axum::routing::get(told));
    let tls = Some(TlsServer::new(Arc::new(config)));
    tokio::spawn(listen::serve(listener, tls, router, Limits::default(), std::future::pending()));

    let builder = || {
        reqwest::Client::builder()
            .no_proxy()
            .resolve("localhost", "127.0.0.1:1".parse().unwrap())
            .tls_certs_only([reqwest::Certificate::from_pem(own.cert.pem().as_bytes()).unwrap()])
    };
    let nobody = builder().build().unwrap().get(&url).send().await.unwrap().text().await.unwrap();
    assert_eq!(nobody, "Some(127.0.0.1) 0");
    let identity = format!("{}{}", made.signing_key.serialize_pem(), made.cert.pem());
    let identity = reqwest::Identity::from_pem(identity.as_bytes()).unwrap();
    let somebody =
        builder().identity(identity).build().unwrap().get(&url).send().await.unwrap().text().await.unwrap();
    assert_eq!(somebody, "Some(127.0.0.1) 1");
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_so() {
    let (config, _) = certificate();
    let registry = Registry::with_limits(Limits::default(), Some(TlsServer::new(config))).await;
    let answer = registry.raw(PROBE).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
}
