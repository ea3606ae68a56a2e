//! A registry on a real listener, for the length of one test.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test binaries, each of which uses its part"
)]

use std::net::SocketAddr;
use std::sync::Arc;

use blob_store::Store;
use registry_server::listen::{self, Limits, TlsServer};
use registry_server::{AccessPolicy, FullAccess, Options, router};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub struct Registry {
    pub address: SocketAddr,
    pub store: Store,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), listen::ListenError>>,
    _dir: Arc<TempDir>,
}

impl Registry {
    pub async fn start(policy: impl AccessPolicy, options: Options) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let store = Store::open(dir.path(), blob_store::Options::default()).unwrap();
        Self::over(store, dir, policy, options, None, Limits::default()).await
    }

    pub async fn writable() -> Self {
        Self::start(FullAccess, Options::default()).await
    }

    pub async fn with_limits(limits: Limits, tls: Option<TlsServer>) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let store = Store::open(dir.path(), blob_store::Options::default()).unwrap();
        Self::over(store, dir, FullAccess, Options::default(), tls, limits).await
    }

    /// A second listener over the same store.
    pub async fn beside(&self, policy: impl AccessPolicy, options: Options) -> Self {
        Self::over(self.store.clone(), Arc::clone(&self._dir), policy, options, None, Limits::default()).await
    }

    async fn over(
        store: Store,
        dir: Arc<TempDir>,
        policy: impl AccessPolicy,
        options: Options,
        tls: Option<TlsServer>,
        limits: Limits,
    ) -> Self {
        // reqwest builds no client without a provider; a second call finds it installed.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let router = router(store.clone(), Arc::new(policy), options);
        let served = tokio::spawn(async move {
            listen::serve(listener, tls, router, limits, async {
                let _ = stopped.await;
            })
            .await
        });
        Registry { address, store, stop: Some(stop), served, _dir: dir }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes on a connection of their own and returns all that comes back until its end.
    pub async fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// Begins an upload and returns its location.
    pub async fn begin(&self, repository: &str) -> String {
        let request = format!(
            "POST /v2/{repository}/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let head = self.raw(request.as_bytes()).await;
        head.lines()
            .find_map(|line| {
                line.to_ascii_lowercase().starts_with("location: ").then(|| line[10..].to_owned())
            })
            .unwrap_or_else(|| panic!("{head}"))
    }

    /// Asks the listener to end; the handle completes when it has.
    pub fn stop(mut self) -> JoinHandle<Result<(), listen::ListenError>> {
        let _ = self.stop.take().unwrap().send(());
        self.served
    }
}

/// Everything until the peer closes; a reset counts as an end.
pub async fn read_to_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&all).into_owned(),
            Ok(n) => all.extend_from_slice(&buffer[..n]),
        }
    }
}

/// The head of one answer.
pub async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}
