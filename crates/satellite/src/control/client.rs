//! The asking side of the status socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::export::ExportRequest;

use super::{Message, NewToken, SocketPath, StatusDocument};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A status of a hundred thousand images fits.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing answers there.
    #[error(
        "no satellite runs with the status socket {path} ({source}); start one, or name its --config-dir"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something answers, and this account may not ask.
    #[error(
        "status socket {path} cannot be opened: {source}; ask as the account that the satellite runs under"
    )]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The answer broke off or could not be understood.
    #[error("the satellite at {path} gave no usable answer: {why}")]
    Answer {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        why: String,
    },
    /// The satellite says no.
    #[error("the satellite refused: {0}")]
    Refused(String),
}

/// Asks how the satellite is.
///
/// # Errors
/// [`AskError`].
pub async fn status(path: &Path) -> Result<StatusDocument, AskError> {
    ask(path, Method::GET, "/v1/status", None::<()>).await
}

/// Wakes the replication.
///
/// # Errors
/// [`AskError`].
pub async fn sync(path: &Path) -> Result<Message, AskError> {
    ask(path, Method::POST, "/v1/sync", None::<()>).await
}

/// Hands over a new one-time token.
///
/// # Errors
/// [`AskError`].
pub async fn token(path: &Path, token: String) -> Result<Message, AskError> {
    ask(path, Method::POST, "/v1/token", Some(NewToken { token })).await
}

/// An archive on its way.
#[derive(Debug)]
pub struct Download {
    /// Its length.
    pub size: Option<u64>,
    /// Its bytes; an error where they end too early.
    pub body: Incoming,
    _connection: tokio::task::JoinHandle<Result<(), hyper::Error>>,
}

/// Asks for an archive of images.
///
/// # Errors
/// [`AskError`]; `Refused` says what is not there.
pub async fn export(path: &Path, request: &ExportRequest) -> Result<Download, AskError> {
    let failed = |why: String| AskError::Answer { path: path.to_owned(), why };
    let stream = connect(path).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.to_string()))?;
    let connection = tokio::spawn(connection);
    let body = serde_json::to_vec(request).map_err(|error| failed(error.to_string()))?;
    let request = Request::post("/v1/export")
        .header(header::HOST, "satellite")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| failed(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    let (parts, body) = answer.into_parts();
    if !parts.status.is_success() {
        let bytes = Limited::new(body, LARGEST_ANSWER).collect().await;
        let bytes = bytes.map_err(|error| failed(error.to_string()))?.to_bytes();
        let message = serde_json::from_slice::<Message>(&bytes).map(|message| message.message);
        return Err(AskError::Refused(message.unwrap_or_else(|_| parts.status.to_string())));
    }
    Ok(Download { size: body.size_hint().exact(), body, _connection: connection })
}

async fn ask<T: DeserializeOwned>(
    path: &Path,
    method: Method,
    route: &str,
    body: Option<impl Serialize>,
) -> Result<T, AskError> {
    let failed = |why: String| AskError::Answer { path: path.to_owned(), why };
    let stream = connect(path).await?;
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let driver = tokio::spawn(connection);
        let body = match body {
            Some(body) => serde_json::to_vec(&body).map_err(|error| error.to_string())?,
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(route)
            .header(header::HOST, "satellite")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), LARGEST_ANSWER)
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        driver.abort();
        Ok::<_, String>((status, bytes))
    };
    let (status, bytes) = tokio::time::timeout(TIMEOUT, exchange)
        .await
        .map_err(|_| failed(format!("nothing came for {} seconds", TIMEOUT.as_secs())))?
        .map_err(failed)?;
    if !status.is_success() {
        let message = serde_json::from_slice::<Message>(&bytes).map(|message| message.message);
        return Err(AskError::Refused(message.unwrap_or_else(|_| status.to_string())));
    }
    serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))
}

async fn connect(path: &Path) -> Result<UnixStream, AskError> {
    let error = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => AskError::Denied { path: path.to_owned(), source },
        _ => AskError::NotRunning { path: path.to_owned(), source },
    };
    let socket = SocketPath::new(path).map_err(error)?;
    UnixStream::connect(&socket.address).await.map_err(error)
}
