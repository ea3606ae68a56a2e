//! Answers that come later ([`Later`]), as clients see them: in order, whole, on a connection that goes on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::StatusCode;
use registry_server::listen::{self, Later, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

/// Whoever holds it says what the request is answered with; it is closed where nobody waits any more.
type Asked = oneshot::Sender<(StatusCode, &'static str)>;

const LIMIT: Duration = Duration::from_secs(20);

async fn wait(State(asked): State<mpsc::UnboundedSender<Asked>>, body: Bytes) -> Response {
    let (tell, told) = oneshot::channel();
    asked.send(tell).unwrap();
    Later::response(async move {
        let (status, text) = told.await.unwrap_or((StatusCode::GONE, ""));
        (status, format!("{text} {}", String::from_utf8_lossy(&body))).into_response()
    })
}

struct Served {
    address: SocketAddr,
    asked: mpsc::UnboundedReceiver<Asked>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), listen::ListenError>>,
}

async fn serve() -> Served {
    let (ask, asked) = mpsc::unbounded_channel();
    let router = Router::new().route("/wait", post(wait)).route("/now", get(async || "now")).with_state(ask);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        if stopped.await.is_err() {
            pending().await
        }
    };
    let ended = tokio::spawn(listen::serve(listener, None, router, Limits::default(), shutdown));
    Served { address, asked, stop, ended }
}

struct Client {
    stream: TcpStream,
    read: String,
}

impl Client {
    async fn connect(served: &Served) -> Self {
        Self { stream: TcpStream::connect(served.address).await.unwrap(), read: String::new() }
    }

    async fn send(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads until what came ends so, and takes it.
    async fn until(&mut self, end: &str) -> String {
        let more = async {
            while !self.read.ends_with(end) {
                let mut chunk = [0; 1024];
                let length = self.stream.read(&mut chunk).await.unwrap();
                assert!(length > 0, "the connection ended after {:?}", self.read);
                self.read.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
            }
        };
        if tokio::time::timeout(LIMIT, more).await.is_err() {
            panic!("{:?} does not end with {end:?}", self.read);
        }
        std::mem::take(&mut self.read)
    }
}

async fn next(served: &mut Served) -> Asked {
    tokio::time::timeout(LIMIT, served.asked.recv()).await.unwrap().unwrap()
}

const CHUNKED: &str =
    "POST /wait HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n";
const COUNTED: &str = "POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\ntwo";
const NOW: &str = "GET /now HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn an_answer_comes_later_and_the_connection_goes_on() {
    let mut served = serve().await;
    let mut client = Client::connect(&served).await;
    for _ in 0..3 {
        client.send(CHUNKED).await;
        next(&mut served).await.send((StatusCode::OK, "for")).unwrap();
        let answer = client.until("for one").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 7\r\n"), "{answer}");
        client.send(COUNTED).await;
        next(&mut served).await.send((StatusCode::FORBIDDEN, "not for")).unwrap();
        let answer = client.until("not for two").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        client.send(NOW).await;
        assert!(client.until("now").await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn requests_behind_one_that_waits_are_answered_after_it() {
    let mut served = serve().await;
    let mut client = Client::connect(&served).await;
    // All at once; then the second one in pieces while the first one waits.
    client.send(&format!("{COUNTED}{NOW}{CHUNKED}")).await;
    next(&mut served).await.send((StatusCode::OK, "for")).unwrap();
    let answers = client.until("now").await;
    assert!(answers.contains("for twoHTTP/1.1 200 "), "{answers}");
    let tell = next(&mut served).await;
    let (first, rest) = NOW.split_at(1);
    let (second, rest) = rest.split_at(7);
    for piece in [first, second, rest] {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    tell.send((StatusCode::OK, "for")).unwrap();
    let answers = client.until("now").await;
    assert!(answers.contains("for oneHTTP/1.1 200 "), "{answers}");
}

#[tokio::test]
async fn who_leaves_ends_the_wait() {
    let mut served = serve().await;
    for request in [COUNTED, CHUNKED] {
        let mut client = Client::connect(&served).await;
        client.send(request).await;
        let mut tell = next(&mut served).await;
        assert!(!tell.is_closed());
        drop(client);
        tokio::time::timeout(LIMIT, tell.closed()).await.unwrap();
    }
}

/// They cannot be taken up again on the same connection, and wait all the same.
#[tokio::test]
async fn what_closes_its_connection_waits_too() {
    let mut served = serve().await;
    for request in [
        "POST /wait HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
        "POST /wait HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut client = Client::connect(&served).await;
        client.send(request).await;
        next(&mut served).await.send((StatusCode::OK, "for")).unwrap();
        client.until("for ").await;
        assert_eq!(client.stream.read(&mut [0]).await.unwrap(), 0, "the connection ends");
    }
}

#[tokio::test]
async fn a_request_that_waits_is_answered_before_the_listener_ends() {
    let mut served = serve().await;
    let mut client = Client::connect(&served).await;
    client.send(COUNTED).await;
    let tell = next(&mut served).await;
    served.stop.send(()).unwrap();
    tell.send((StatusCode::OK, "for")).unwrap();
    client.until("for two").await;
    assert_eq!(client.stream.read(&mut [0]).await.unwrap(), 0, "the connection ends");
    tokio::time::timeout(LIMIT, served.ended).await.unwrap().unwrap().unwrap();
}
