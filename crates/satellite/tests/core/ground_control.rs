//! A stand-in for Ground Control: ours, and a deployed one as its answers were recorded.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{FromRef, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::sync::Notify;
use url::Url;

pub(crate) const ROBOT_SECRET: &str = "robot-secret";

/// What kind of Ground Control it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours: the token travels in a body, with a nonce.
    Ours,
    /// Deployed: the token travels in the path, and `POST` is unknown.
    Deployed,
}

#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) token: String,
    pub(crate) state_url: String,
    pub(crate) registry_url: String,
    pub(crate) bound_nonce: Option<String>,
    /// Claim the token, and then lose the answer.
    pub(crate) lose_answers: usize,
    /// The registry's account is not there yet: so many questions for credentials are 503 with `Retry-After`.
    pub(crate) not_yet: usize,
    pub(crate) asked: Vec<Value>,
    pub(crate) heartbeats: Vec<Value>,
    /// The robot's secret; the one before it is taken, too.
    pub(crate) secret: String,
    /// Answer to heartbeats; `None` is 200 with an empty body, or what `desired` says.
    pub(crate) heartbeat_answer: Option<(StatusCode, String)>,
    /// What the answer to a heartbeat tells.
    pub(crate) desired: Option<Value>,
    /// `Prefer: wait=N` is honoured.
    pub(crate) knows_waiting: bool,
    /// The lists of images and of nodes are remembered, and their digests told.
    pub(crate) knows_inventory: bool,
    /// What heartbeats asked for with `Prefer`.
    pub(crate) preferences: Vec<Option<String>>,
    /// Requests that wait at this moment.
    pub(crate) waiting: usize,
    /// So many waits are cut in the middle.
    pub(crate) cut: usize,
}

/// A request that waits; counted until it is answered or given up.
struct Waiting(Arc<Mutex<Book>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().unwrap().waiting -= 1;
    }
}

#[derive(Debug, Clone)]
pub(crate) struct StandIn {
    pub(crate) url: Url,
    pub(crate) book: Arc<Mutex<Book>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Clone)]
struct Desk {
    book: Arc<Mutex<Book>>,
    changed: Arc<Notify>,
}

impl FromRef<Desk> for Arc<Mutex<Book>> {
    fn from_ref(desk: &Desk) -> Self {
        desk.book.clone()
    }
}

impl StandIn {
    pub(crate) async fn start(kind: Kind, registry_url: &str, state_url: &str) -> Self {
        let book = Arc::new(Mutex::new(Book {
            token: "0123456789abcdef0123456789abcdef".to_owned(),
            state_url: state_url.to_owned(),
            registry_url: registry_url.to_owned(),
            bound_nonce: None,
            lose_answers: 0,
            not_yet: 0,
            asked: Vec::new(),
            heartbeats: Vec::new(),
            secret: ROBOT_SECRET.to_owned(),
            heartbeat_answer: None,
            desired: None,
            knows_waiting: false,
            knows_inventory: false,
            preferences: Vec::new(),
            waiting: 0,
            cut: 0,
        }));
        let changed = Arc::new(Notify::new());
        let mut router = Router::new()
            .route("/satellites/ztr/{token}", get(by_path))
            .route("/satellites/sync", post(heartbeat));
        if kind == Kind::Ours {
            router = router
                .route("/satellites/ztr", post(by_body))
                .route("/satellites/credentials", post(credentials));
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = router.with_state(Desk { book: book.clone(), changed: changed.clone() });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, book, changed }
    }

    /// Changes what it does; requests that wait are answered where that changes their answer.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.book.lock().unwrap());
        self.changed.notify_waiters();
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.book.lock().unwrap())
    }

    pub(crate) fn token(&self) -> String {
        self.book.lock().unwrap().token.clone()
    }

    pub(crate) fn heartbeats(&self) -> Vec<Value> {
        self.book.lock().unwrap().heartbeats.clone()
    }

    pub(crate) fn asked(&self) -> Vec<Value> {
        self.book.lock().unwrap().asked.clone()
    }
}

fn not_yet() -> Response {
    let body = Json(json!({"message": "the registry's account is not there yet", "code": 503}));
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], body).into_response()
}

type Shared = State<Arc<Mutex<Book>>>;

fn answer(book: &Book) -> Response {
    Json(json!({
        "auth": {"url": book.registry_url, "username": "robot$edge-01", "password": book.secret},
        "state": book.state_url,
    }))
    .into_response()
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message, "code": status.as_u16()}))).into_response()
}

async fn by_body(State(book): Shared, Json(body): Json<Value>) -> Response {
    let mut book = book.lock().unwrap();
    book.asked.push(body.clone());
    if body["token"] != book.token.as_str() {
        return refusal(StatusCode::BAD_REQUEST, "unknown token");
    }
    if book.not_yet > 0 {
        book.not_yet -= 1;
        return not_yet();
    }
    let nonce = body["nonce"].as_str().unwrap_or_default().to_owned();
    match &book.bound_nonce {
        Some(bound) if *bound != nonce => return refusal(StatusCode::UNAUTHORIZED, "the token was used"),
        _ => book.bound_nonce = Some(nonce),
    }
    if book.lose_answers > 0 {
        book.lose_answers -= 1;
        return StatusCode::BAD_GATEWAY.into_response();
    }
    answer(&book)
}

async fn by_path(State(book): Shared, Path(token): Path<String>) -> Response {
    let mut book = book.lock().unwrap();
    book.asked.push(json!({"path": token}));
    if token != book.token {
        return refusal(StatusCode::BAD_REQUEST, "Invalid token");
    }
    if book.bound_nonce.replace("used".to_owned()).is_some() {
        return refusal(StatusCode::UNAUTHORIZED, "token was used");
    }
    answer(&book)
}

async fn heartbeat(State(desk): State<Desk>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let prefer = headers.get("prefer").map(|value| value.to_str().unwrap().to_owned());
    let wait = prefer.as_deref().map(|prefer| prefer.strip_prefix("wait=").unwrap().parse().unwrap());
    let known = body["generation"].as_u64().unwrap_or_default();
    let (book, cut) = {
        let mut book = desk.book.lock().unwrap();
        if !is_robot(&book, &headers) {
            return refusal(StatusCode::UNAUTHORIZED, "unauthorized");
        }
        book.heartbeats.push(body);
        book.preferences.push(prefer);
        let cut = wait.is_some() && book.knows_waiting && book.cut > 0;
        book.cut -= usize::from(cut);
        (desk.book.clone(), cut)
    };
    if cut {
        // The answer begins, and never ends.
        let broken = futures_util::stream::iter([Err::<&[u8], _>(std::io::Error::other("cut"))]);
        return axum::body::Body::from_stream(broken).into_response();
    }
    let Some(seconds) = wait.filter(|_| book.lock().unwrap().knows_waiting) else {
        return said(&book.lock().unwrap());
    };
    book.lock().unwrap().waiting += 1;
    let waiting = Waiting(book.clone());
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    loop {
        let changed = desk.changed.notified();
        {
            let book = book.lock().unwrap();
            let generation = book.desired.as_ref().and_then(|desired| desired["generation"].as_u64());
            if book.heartbeat_answer.is_some() || generation.unwrap_or_default() > known {
                break;
            }
        }
        if tokio::time::timeout_at(until, changed).await.is_err() {
            break;
        }
    }
    drop(waiting);
    let mut answer = said(&book.lock().unwrap());
    answer.headers_mut().insert("preference-applied", format!("wait={seconds}").parse().unwrap());
    answer
}

/// The answer to a heartbeat.
fn said(book: &Book) -> Response {
    if let Some((status, text)) = &book.heartbeat_answer {
        return (*status, text.clone()).into_response();
    }
    let mut answer = json!({});
    if let Some(desired) = &book.desired {
        answer["desired"] = desired.clone();
    }
    if book.knows_inventory {
        let listed = book.heartbeats.iter().rev().find(|heartbeat| {
            let heartbeat: fleet_protocol::Heartbeat = serde_json::from_value((*heartbeat).clone()).unwrap();
            heartbeat.lists_images()
        });
        answer["inventory_digest"] = listed.unwrap()["inventory_digest"].clone();
        let named = |heartbeat: &&Value| heartbeat["nodes"].as_array().is_some_and(|nodes| !nodes.is_empty());
        if let Some(heartbeat) = book.heartbeats.iter().rev().find(named) {
            answer["nodes_digest"] = heartbeat["nodes_digest"].clone();
        }
    }
    match answer.as_object().is_some_and(serde_json::Map::is_empty) {
        true => StatusCode::OK.into_response(),
        false => Json(answer).into_response(),
    }
}

fn is_robot(book: &Book, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // The second is the account that a rotation makes beside the first.
    ["robot$edge-01", "robot$edge-01b"].iter().any(|name| {
        [ROBOT_SECRET, &book.secret].iter().any(|secret| {
            let expected = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{secret}"));
            given == format!("Basic {expected}")
        })
    })
}

async fn credentials(State(book): Shared, headers: HeaderMap) -> Response {
    let mut book = book.lock().unwrap();
    if !is_robot(&book, &headers) {
        return refusal(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    if book.not_yet > 0 {
        book.not_yet -= 1;
        return not_yet();
    }
    "fresh-secret".clone_into(&mut book.secret);
    answer(&book)
}
