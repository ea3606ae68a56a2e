//! `POST /v1/export`: an archive of images, as it is made.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Json, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::Message;
use super::server::Subject;
use crate::archive::Archive;
use crate::export::{ExportError, ExportRequest, Places, plan};
use crate::serve::namespaces;

/// Pieces between the thread that reads and the connection.
const PIECES: usize = 4;
const PIECE: usize = 256 * 1024;

pub(super) async fn export(
    State(subject): State<Arc<Subject>>,
    Json(request): Json<ExportRequest>,
) -> Response {
    let config = subject.opened.get().map(|opened| opened.config.current());
    if config.as_ref().is_some_and(|config| config.byo_registry.is_some()) {
        let message = "artifacts are in a registry of the site's own, and the local store holds none: export from there";
        return refusal(StatusCode::CONFLICT, message.to_owned());
    }
    let state = subject.opened.get().map(|opened| opened.vault.state());
    let registration = state.as_ref().and_then(|state| state.registration.as_ref());
    let central = match (registration, &config) {
        (Some(registration), Some(config)) => namespaces::of(registration, config),
        _ => namespaces::kept(&subject.site.config_dir),
    };
    let explicit = match &config {
        Some(config) => config.mirror_paths.clone(),
        None => subject.site.layer.mirror_paths.clone().unwrap_or_default(),
    };
    let (store, places) = (subject.store.clone(), Places { central, explicit });
    let planned = tokio::task::spawn_blocking(move || plan(&store, &places, &request)).await;
    match planned {
        Ok(Ok(archive)) => answer(&subject, archive),
        Ok(Err(error)) => refusal(status(&error), error.to_string()),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("it ended abnormally: {error}")),
    }
}

fn status(error: &ExportError) -> StatusCode {
    match error {
        ExportError::Form(_) | ExportError::Names(_) | ExportError::TooMany(_) => StatusCode::BAD_REQUEST,
        ExportError::Unknown(_) => StatusCode::NOT_FOUND,
        ExportError::Archive(_) => StatusCode::CONFLICT,
    }
}

fn refusal(status: StatusCode, message: String) -> Response {
    (status, Json(Message { message })).into_response()
}

fn answer(subject: &Subject, archive: Archive) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_LENGTH, archive.size().to_string()),
    ];
    let (sender, receiver) = mpsc::channel(PIECES);
    let store = subject.store.clone();
    tokio::task::spawn_blocking(move || {
        let output = io::BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
        if let Err(error) = archive.write(&store, output, |_| Ok(())) {
            tracing::debug!(%error, "export broke off");
            // Whoever reads finds the connection cut, and no end of the archive.
            drop(sender.blocking_send(Err(io::Error::other(error))));
        }
    });
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (StatusCode::OK, headers, Body::from_stream(pieces)).into_response()
}

/// Hands pieces over to the connection, and waits while it is slow.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
