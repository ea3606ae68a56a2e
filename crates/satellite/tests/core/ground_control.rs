//! A stand-in for Ground Control: ours, and a deployed one as its answers were recorded.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use serde_json::{Value, json};
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
    pub(crate) asked: Vec<Value>,
    pub(crate) heartbeats: Vec<Value>,
    /// The robot's secret; the one before it is taken, too.
    pub(crate) secret: String,
    /// Answer to heartbeats; `None` is 200 with an empty body.
    pub(crate) heartbeat_answer: Option<(StatusCode, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct StandIn {
    pub(crate) url: Url,
    pub(crate) book: Arc<Mutex<Book>>,
}

impl StandIn {
    pub(crate) async fn start(kind: Kind, registry_url: &str, state_url: &str) -> Self {
        let book = Arc::new(Mutex::new(Book {
            token: "0123456789abcdef0123456789abcdef".to_owned(),
            state_url: state_url.to_owned(),
            registry_url: registry_url.to_owned(),
            bound_nonce: None,
            lose_answers: 0,
            asked: Vec::new(),
            heartbeats: Vec::new(),
            secret: ROBOT_SECRET.to_owned(),
            heartbeat_answer: None,
        }));
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
        let router = router.with_state(book.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, book }
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

async fn heartbeat(State(book): Shared, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let mut book = book.lock().unwrap();
    if !is_robot(&book, &headers) {
        return refusal(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    book.heartbeats.push(body);
    match &book.heartbeat_answer {
        Some((status, text)) => (*status, text.clone()).into_response(),
        None => StatusCode::OK.into_response(),
    }
}

fn is_robot(book: &Book, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    [ROBOT_SECRET, &book.secret].iter().any(|secret| {
        let expected = base64::engine::general_purpose::STANDARD.encode(format!("robot$edge-01:{secret}"));
        given == format!("Basic {expected}")
    })
}

async fn credentials(State(book): Shared, headers: HeaderMap) -> Response {
    let mut book = book.lock().unwrap();
    if !is_robot(&book, &headers) {
        return refusal(StatusCode::UNAUTHORIZED, "unauthorized");
    }
    "fresh-secret".clone_into(&mut book.secret);
    answer(&book)
}
