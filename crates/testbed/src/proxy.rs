//! An HTTP proxy in front of a registry that writes down what it was asked for, and slows, cuts and fails on demand.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::{Error, Result, registry};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Bytes that go out at once where the speed is limited: small, so that a kill meets every place of a blob.
const PIECE: usize = 8 * 1024;

/// How long a connection lives on before it is cut.
const FLUSH: Duration = Duration::from_millis(20);

/// One request and what became of it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// The `Range` that was asked for.
    pub range: Option<String>,
    /// Status of the answer; 0 while there is none.
    pub status: u16,
    /// Bytes of the body that were handed to the connection so far.
    pub sent: u64,
    /// Bytes that the answer promised (`Content-Length`).
    pub promised: Option<u64>,
}

impl Exchange {
    /// Where the asked range begins; 0 without one.
    pub fn offset(&self) -> u64 {
        let range = self.range.as_deref().and_then(|range| range.strip_prefix("bytes="));
        range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0)
    }

    /// The digest at the end of the path, where the request reads a blob.
    pub fn blob(&self) -> Option<&str> {
        let (_, digest) = self.path.rsplit_once("/blobs/")?;
        (self.method == "GET" && digest.contains(':')).then_some(digest)
    }
}

struct Record {
    exchange: Exchange,
    sent: Arc<AtomicU64>,
}

/// What is done to requests whose path holds a text.
struct Fault {
    path: String,
    kind: FaultKind,
    times: u32,
}

#[derive(Clone, Copy)]
enum FaultKind {
    Status(u16),
    CutAfter(u64),
}

#[derive(Default)]
struct Rules {
    records: BTreeMap<u64, Record>,
    /// Number of the next record: records that are forgotten leave no number to others.
    next: u64,
    faults: Vec<Fault>,
    bytes_per_second: Option<u64>,
    /// When the bytes that were let through so far have had their time.
    free_at: Option<Instant>,
    unreachable: bool,
}

struct State {
    upstream: String,
    client: reqwest::Client,
    rules: Mutex<Rules>,
}

impl State {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy. It ends with its handle.
pub struct Proxy {
    state: Arc<State>,
    address: String,
    task: AbortHandle,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({} → {})", self.address, self.state.upstream)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts a proxy in front of `upstream`, an `http://` URL.
    pub async fn start(upstream: &str) -> Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.map_err(Error::io("cannot listen for the proxy"))?;
        let address = listener.local_addr().map_err(Error::io("the proxy has no address"))?.to_string();
        let state = Arc::new(State {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client: registry::http_client(),
            rules: Mutex::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&state))).abort_handle();
        Ok(Self { state, address, task })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// All requests so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        let rules = self.state.rules();
        let current = |record: &Record| Exchange {
            sent: record.sent.load(Ordering::Relaxed),
            ..record.exchange.clone()
        };
        rules.records.values().map(current).collect()
    }

    /// Requests that read a blob and were not refused.
    pub fn blob_reads(&self) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|e| e.blob().is_some() && matches!(e.status, 200 | 206)).collect()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.state.rules().records.clear();
    }

    /// Limits the bodies that go to clients, all together; `None` takes the limit away.
    pub fn limit(&self, bytes_per_second: Option<u64>) {
        let mut rules = self.state.rules();
        rules.bytes_per_second = bytes_per_second;
        rules.free_at = None;
    }

    /// Answers the next `times` requests whose path holds `path` with a status.
    pub fn fail(&self, path: &str, status: u16, times: u32) {
        let kind = FaultKind::Status(status);
        self.state.rules().faults.push(Fault { path: path.to_owned(), kind, times });
    }

    /// Cuts the next `times` answers to paths that hold `path` after this many bytes.
    pub fn cut(&self, path: &str, after: u64, times: u32) {
        let kind = FaultKind::CutAfter(after);
        self.state.rules().faults.push(Fault { path: path.to_owned(), kind, times });
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        let mut rules = self.state.rules();
        rules.faults.clear();
        rules.unreachable = false;
    }

    /// Breaks every connection, as a network that is gone.
    pub fn unreachable(&self) {
        self.state.rules().unreachable = true;
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // Connections end with the proxy: the set aborts them when this future is dropped.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if state.rules().unreachable {
            continue;
        }
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let http = hyper::server::conn::http1::Builder::new();
            // A client that is killed breaks its connection: that is what the proxy is for.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
    let path = request.uri().path().to_owned();
    let sent = Arc::new(AtomicU64::new(0));
    let (index, fault) = {
        let mut rules = state.rules();
        if rules.unreachable {
            return Err(std::io::Error::other("the network is gone"));
        }
        let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
        let exchange = Exchange {
            method: request.method().to_string(),
            path: path.clone(),
            range: range.map(str::to_owned),
            status: 0,
            sent: 0,
            promised: None,
        };
        let index = rules.next;
        rules.next += 1;
        rules.records.insert(index, Record { exchange, sent: Arc::clone(&sent) });
        let fault = rules.faults.iter_mut().find(|fault| fault.times > 0 && path.contains(&fault.path));
        let kind = fault.map(|fault| {
            fault.times -= 1;
            fault.kind
        });
        (index, kind)
    };
    let response = match fault {
        Some(FaultKind::Status(status)) => Ok(plain(status, "the testbed says no")),
        _ => forward(&state, request).await,
    };
    let response = response.unwrap_or_else(|error| plain(502, &error.to_string()));
    let promised = response.headers().get(header::CONTENT_LENGTH);
    let promised = promised.and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(record) = state.rules().records.get_mut(&index) {
        record.exchange.status = response.status().as_u16();
        record.exchange.promised = promised;
    }
    let cut = match fault {
        Some(FaultKind::CutAfter(after)) => Some(after),
        _ => None,
    };
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, meter(state, body, sent, cut)))
}

fn plain(status: u16, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response
}

async fn forward(
    state: &State,
    request: Request<Incoming>,
) -> Result<Response<Body>, Box<dyn std::error::Error>> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = parts.headers;
    for name in [header::HOST, header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        headers.remove(name);
    }
    let mut forwarded =
        state.client.request(parts.method, format!("{}{path}", state.upstream)).headers(headers);
    let body = body.collect().await?.to_bytes();
    if !body.is_empty() {
        forwarded = forwarded.body(body);
    }
    let answer = forwarded.send().await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        *headers = answer.headers().clone();
        headers.remove(header::CONNECTION);
        headers.remove(header::TRANSFER_ENCODING);
    }
    let frames = answer.bytes_stream().map(|chunk| chunk.map(Frame::data).map_err(std::io::Error::other));
    Ok(response.body(StreamBody::new(frames).boxed_unsync())?)
}

/// Counts what goes out, holds it to the limit, and breaks off where a cut was asked for.
fn meter(state: Arc<State>, body: Body, sent: Arc<AtomicU64>, cut: Option<u64>) -> Body {
    let length = hyper::body::Body::size_hint(&body).exact();
    if length == Some(0) {
        return body;
    }
    let pieces = futures_util::stream::unfold((body, Bytes::new()), move |(mut body, mut rest)| {
        let (state, sent) = (Arc::clone(&state), Arc::clone(&sent));
        async move {
            while rest.is_empty() {
                match body.frame().await? {
                    Ok(frame) => rest = frame.into_data().unwrap_or_default(),
                    Err(error) => return Some((Err(error), (body, Bytes::new()))),
                }
            }
            let so_far = sent.load(Ordering::Relaxed);
            let room = cut.map_or(usize::MAX, |cut| usize::try_from(cut.saturating_sub(so_far)).unwrap_or(0));
            if room == 0 {
                // What was handed over before goes out first: a body that waits is one that the server flushes.
                tokio::time::sleep(FLUSH).await;
                return Some((Err(std::io::Error::other("cut")), (body, Bytes::new())));
            }
            let wait = {
                let mut rules = state.rules();
                rules.bytes_per_second.map(|speed| {
                    let length = rest.len().min(PIECE).min(room);
                    let now = Instant::now();
                    let start = rules.free_at.filter(|at| *at > now).unwrap_or(now);
                    let due = start + Duration::from_secs_f64(length as f64 / speed.max(1) as f64);
                    rules.free_at = Some(due);
                    (length, due)
                })
            };
            let piece = match wait {
                Some((length, due)) => {
                    tokio::time::sleep_until(due.into()).await;
                    rest.split_to(length)
                }
                None => rest.split_to(rest.len().min(room)),
            };
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Some((Ok(Frame::data(piece)), (body, rest)))
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}
