//! A Harbor in process, strict where the real one is. What it answers is taken from recordings of Harbor 2.15.2, and the test
//! `recordings` holds it to them; how it fails is taken from recorded outages and from what networks do.

pub(crate) mod artifacts;
pub(crate) mod projects;
pub(crate) mod registry;
pub(crate) mod robots;
pub(crate) mod system;
pub(crate) mod webhooks;
pub(crate) mod world;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use self::world::{Answer, Asked, World};

/// nginx before a core that is down, as recorded.
pub(crate) const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n";

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This answer, and nothing is done.
    Answer { status: u16, page: bool, body: String, retry_after: Option<u64> },
    /// Everything is done, but this answer is given.
    Done(Box<Fault>),
    /// The connection ends without an answer; the request is done or not.
    Cut { done: bool },
    /// It is done, and the connection ends in the middle of the answer.
    Half,
    /// It is done, and the answer comes late.
    Slow(Duration),
}

impl Fault {
    /// An error in Harbor's words.
    pub(crate) fn told(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string();
        Self::Answer { status, page: false, body, retry_after: None }
    }

    /// A page in HTML.
    pub(crate) fn page(status: u16, body: &str) -> Self {
        Self::Answer { status, page: true, body: body.to_owned(), retry_after: None }
    }
}

#[derive(Debug, Default)]
struct Faults {
    fault: Option<Fault>,
    skip: usize,
    times: usize,
}

impl Faults {
    fn next(&mut self) -> Option<Fault> {
        let fault = self.fault.clone()?;
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.times == 0 {
            return None;
        }
        self.times -= 1;
        Some(fault)
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

#[derive(Default)]
pub(crate) struct Shared {
    world: World,
    faults: Faults,
    seen: Vec<Seen>,
    tokens: registry::Tokens,
    behind: Option<registry::Behind>,
    deliver: Option<webhooks::Deliver>,
}

/// A running stand-in; it ends when this is dropped.
pub(crate) struct StandIn {
    url: String,
    shared: Arc<Mutex<Shared>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl StandIn {
    pub(crate) async fn start() -> Self {
        Self::listen(None).await
    }

    /// With HTTPS.
    pub(crate) async fn start_tls(config: rustls::ServerConfig) -> Self {
        Self::listen(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Mutex::new(Shared::default()));
        let accepting = tokio::spawn(accept(listener, tls, shared.clone()));
        Self { url: format!("{scheme}://{address}"), shared, accepting }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn world(&self) -> impl std::ops::DerefMut<Target = World> + '_ {
        struct Held<'a>(MutexGuard<'a, Shared>);
        impl std::ops::Deref for Held<'_> {
            type Target = World;
            fn deref(&self) -> &World {
                &self.0.world
            }
        }
        impl std::ops::DerefMut for Held<'_> {
            fn deref_mut(&mut self) -> &mut World {
                &mut self.0.world
            }
        }
        Held(self.shared.lock().unwrap())
    }

    /// From now on, after `skip` good ones, `times` requests meet this.
    pub(crate) fn fail(&self, fault: Fault, skip: usize, times: usize) {
        self.shared.lock().unwrap().faults = Faults { fault: Some(fault), skip, times };
    }

    /// Puts a registry behind it.
    #[allow(dead_code, reason = "only tests of whole programs push and pull")]
    pub(crate) fn put_before(&self, behind: registry::Behind) {
        self.shared.lock().unwrap().behind = Some(behind);
    }

    /// Has what is pushed told to the targets of policies.
    #[allow(dead_code, reason = "only tests of whole programs have a target")]
    pub(crate) fn deliver_with(&self, deliver: webhooks::Deliver) {
        self.shared.lock().unwrap().deliver = Some(deliver);
    }

    /// The requests since the last time.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.lock().unwrap().seen)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Mutex<Shared>>) {
    // Connections end with the stand-in, as those of a process that is killed.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let (tls, shared) = (tls.clone(), shared.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection(stream, shared).await,
                        Some(tls) => {
                            // A client that does not trust us is no error of ours.
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, shared).await;
                            }
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    shared: Arc<Mutex<Shared>>,
) {
    let service = service_fn(move |request| serve(shared.clone(), request));
    // An injected cut is an error here, too.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

#[derive(Debug)]
struct CutOff;

impl std::fmt::Display for CutOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut off")
    }
}

impl std::error::Error for CutOff {}

type Body = UnsyncBoxBody<Bytes, CutOff>;

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

/// A body that ends with the connection.
fn broken_off(text: &str) -> Body {
    let half = Bytes::copy_from_slice(&text.as_bytes()[..text.len() / 2]);
    StreamBody::new(stream::iter([Ok(Frame::data(half)), Err(CutOff)])).boxed_unsync()
}

async fn serve(shared: Arc<Mutex<Shared>>, request: Request<Incoming>) -> Result<Response<Body>, CutOff> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| CutOff)?.to_bytes();
    let asked = Asked {
        method: head.method.clone(),
        target: head.uri.path_and_query().map(|p| p.as_str().to_owned()).unwrap_or_default(),
        headers: head.headers.clone(),
        body,
    };
    if registry::is_registrys(&asked.target) && shared.lock().unwrap().behind.is_some() {
        let (head, body) = registry::serve(&shared, asked).await.into_parts();
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        return Ok(Response::from_parts(head, body));
    }
    let held = registry::held(&shared.lock().unwrap().world);
    let (fault, answer, wait) = {
        let mut shared = shared.lock().unwrap();
        shared.seen.push(Seen { method: head.method, path: asked.target.clone(), headers: head.headers });
        let fault = shared.faults.next();
        let undone = matches!(fault, Some(Fault::Answer { .. } | Fault::Cut { done: false }));
        let answer = (!undone).then(|| shared.world.answer(&asked));
        let wait = match &fault {
            Some(Fault::Slow(time)) => *time,
            _ => shared.world.delay(&asked),
        };
        (fault, answer, wait)
    };
    let (behind, left) = {
        let shared = shared.lock().unwrap();
        (shared.behind.clone(), registry::held(&shared.world))
    };
    if let Some(behind) = behind {
        let gone = held.into_iter().filter(|artifact| !left.contains(artifact)).collect();
        registry::remove(&behind, gone).await;
    }
    tokio::time::sleep(wait).await;
    match fault {
        None | Some(Fault::Slow(_)) => Ok(response(&answer.unwrap(), whole)),
        Some(Fault::Cut { .. }) => Err(CutOff),
        Some(Fault::Half) => Ok(response(&answer.unwrap(), |text| broken_off(&text))),
        Some(Fault::Answer { status, page, body, retry_after }) => {
            Ok(injected(status, page, body, retry_after))
        }
        Some(Fault::Done(fault)) => match *fault {
            Fault::Answer { status, page, body, retry_after } => {
                Ok(injected(status, page, body, retry_after))
            }
            other => panic!("{other:?} is no answer"),
        },
    }
}

fn injected(status: u16, page: bool, body: String, retry_after: Option<u64>) -> Response<Body> {
    let content_type = if page { "text/html" } else { "application/json" };
    let mut builder = Response::builder().status(status).header("Content-Type", content_type);
    if let Some(seconds) = retry_after {
        builder = builder.header("Retry-After", seconds);
    }
    builder.body(whole(body)).unwrap()
}

fn response(answer: &Answer, body: fn(String) -> Body) -> Response<Body> {
    let mut builder = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        builder = builder.header(name, value);
    }
    builder.body(body(answer.text.clone())).unwrap()
}

/// A JSON value without what differs from run to run.
pub(crate) fn steady(value: &Value) -> Value {
    match value {
        Value::Array(all) => all.iter().map(steady).collect(),
        Value::Object(all) => {
            let mortal = all.contains_key("expires_at");
            let changing = |key: &str| {
                matches!(key, "update_time" | "current_time" | "secret") || key == "creation_time" && !mortal
            };
            all.iter().filter(|(key, _)| !changing(key)).map(|(key, v)| (key.clone(), steady(v))).collect()
        }
        other => other.clone(),
    }
}
