//! Pushing blobs: sessions, chunks, streams, single requests and mounts (OCI Distribution, "Push").

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use blob_store::{StoreError, Upload, UploadId};
use http::header::{CONTENT_RANGE, LOCATION, RANGE};
use http::{HeaderValue, StatusCode};
use http_body::Body as _;
use oci::{Algorithm, Digest, Reference, RepositoryName};

use crate::body;
use crate::error::{ErrorCode, RegistryError};
use crate::events::EventKind;
use crate::path;
use crate::range;
use crate::respond::{self, DOCKER_UPLOAD_UUID, OCI_CHUNK_MIN_LENGTH};
use crate::router::Asked;

/// Repositories of a blob that are looked at for an anonymous mount.
const MOUNT_SOURCES: usize = 1000;

/// How long a request waits for another one to let go of its session.
const BUSY_WAIT: Duration = Duration::from_secs(2);

/// Between two looks at a session that is held.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// POST: mounts, takes a whole blob, or begins a session.
pub(crate) async fn begin(
    asked: &Asked<'_>,
    name: &RepositoryName,
    body: &mut Body,
) -> Result<Response, RegistryError> {
    if let Some(wanted) = asked.query.mount.as_deref()
        && let Some(mounted) = mount(asked, name, &path::digest(wanted)?).await?
    {
        return Ok(mounted);
    }
    if let Some(digest) = asked.query.digest.as_deref() {
        let digest = path::digest(digest)?;
        let upload = asked.store().create_upload(name, Some(digest.algorithm())).await?;
        // Nobody was told of this session, so nobody could continue it.
        return match receive(asked, &upload, body).await {
            Ok(()) => publish(asked, name, &upload, &digest).await,
            Err(error) => {
                upload.cancel().await?;
                Err(error)
            }
        };
    }
    let algorithm = match asked.query.digest_algorithm.as_deref() {
        Some(text) => Some(
            text.parse::<Algorithm>()
                .map_err(|error| RegistryError::new(ErrorCode::DigestInvalid, error.to_string()))?,
        ),
        None => None,
    };
    let upload = asked.store().create_upload(name, algorithm).await?;
    let mut response = session(name, &upload, StatusCode::ACCEPTED);
    if let Some(length) = asked.registry.options.chunk_min_length {
        response.headers_mut().insert(OCI_CHUNK_MIN_LENGTH.clone(), HeaderValue::from(length));
    }
    Ok(response)
}

/// PATCH: appends a chunk, or a stream of unknown length.
pub(crate) async fn append(
    asked: &Asked<'_>,
    name: &RepositoryName,
    session_id: &str,
    body: &mut Body,
) -> Result<Response, RegistryError> {
    let upload = find(asked, name, session_id).await?;
    match receive(asked, &upload, body).await {
        Ok(()) => Ok(session(name, &upload, StatusCode::ACCEPTED)),
        Err(error) => Err(not_taken(error, name, &upload).await),
    }
}

/// PUT: takes what is still missing, if anything, and closes the session.
pub(crate) async fn finish(
    asked: &Asked<'_>,
    name: &RepositoryName,
    session_id: &str,
    body: &mut Body,
) -> Result<Response, RegistryError> {
    let Some(digest) = asked.query.digest.as_deref() else {
        return Err(RegistryError::new(
            ErrorCode::DigestInvalid,
            "an upload is closed with the digest of the whole blob: add `?digest=sha256:…`",
        ));
    };
    let digest = path::digest(digest)?;
    let upload = find(asked, name, session_id).await?;
    if !body.is_end_stream()
        && let Err(error) = receive(asked, &upload, body).await
    {
        return Err(not_taken(error, name, &upload).await);
    }
    publish(asked, name, &upload, &digest).await
}

/// GET: where to go on.
pub(crate) async fn status(
    asked: &Asked<'_>,
    name: &RepositoryName,
    session_id: &str,
) -> Result<Response, RegistryError> {
    let upload = find(asked, name, session_id).await?;
    Ok(session(name, &upload, StatusCode::NO_CONTENT))
}

/// DELETE: ends the session and forgets its bytes.
pub(crate) async fn cancel(
    asked: &Asked<'_>,
    name: &RepositoryName,
    session_id: &str,
) -> Result<Response, RegistryError> {
    let upload = find(asked, name, session_id).await?;
    when_free(|| upload.cancel()).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// Makes a blob visible here that the caller could pull elsewhere. `None` where that cannot be, and a session begins.
async fn mount(
    asked: &Asked<'_>,
    name: &RepositoryName,
    digest: &Digest,
) -> Result<Option<Response>, RegistryError> {
    let store = asked.store();
    let has_source = match asked.query.from.as_deref() {
        Some(source) => match source.parse::<RepositoryName>() {
            Ok(source) => asked.may_pull(&source) && store.blob(&source, digest)?.is_some(),
            Err(_) => false,
        },
        None => store
            .repositories_of_blob(digest, MOUNT_SOURCES)?
            .iter()
            .any(|source| source == name || asked.may_pull(source)),
    };
    if !has_source {
        return Ok(None);
    }
    match store.link_blob(name, digest).await {
        Ok(()) => {}
        // Deleted between the look and the link.
        Err(StoreError::UnknownBlob { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    asked.observe(EventKind::BlobMounted, name, &Reference::Digest(*digest), Some(digest), 0);
    Ok(Some(respond::created(name, "blobs", digest)))
}

async fn find(asked: &Asked<'_>, name: &RepositoryName, session_id: &str) -> Result<Upload, RegistryError> {
    let id = session_id.parse::<UploadId>()?;
    Ok(asked.store().upload(name, id).await?)
}

/// Repeats a step while another request holds the session, for a while: a client whose connection broke comes back at
/// once, and finds its own earlier request still bringing what it got to the disk.
async fn when_free<T, F>(mut step: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        match step().await {
            Err(StoreError::UploadBusy) if Instant::now() < deadline => tokio::time::sleep(BUSY_PAUSE).await,
            outcome => return outcome,
        }
    }
}

/// Appends a request's body. However it ends, what came before stays in the session and counts.
async fn receive(asked: &Asked<'_>, upload: &Upload, body: &mut Body) -> Result<(), RegistryError> {
    let headers = &asked.head.headers;
    let chunk = match headers.get(CONTENT_RANGE) {
        None => None,
        Some(value) => Some(value.to_str().map_err(|_| ()).and_then(range::chunk).map_err(|()| {
            RegistryError::new(
                ErrorCode::BlobUploadInvalid,
                "the Content-Range of a chunk is `<first>-<last>`, both counted from 0 and inclusive",
            )
        })?),
    };
    let expected = chunk.as_ref().map(|range| range.end - range.start);
    if let (Some(expected), Some(declared)) = (expected, body::content_length(headers))
        && expected != declared
    {
        return Err(wrong_length(expected, declared));
    }
    let at = chunk.map(|range| range.start);
    let mut writer = when_free(|| upload.append(at)).await?;
    let mut received = 0;
    loop {
        let bytes = match body::next(body).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break,
            Err(error) => {
                writer.close().await?;
                return Err(error);
            }
        };
        received += bytes.len() as u64;
        if let Some(expected) = expected
            && received > expected
        {
            writer.close().await?;
            return Err(wrong_length(expected, received));
        }
        writer.write(bytes).await?;
    }
    writer.close().await?;
    match expected {
        Some(expected) if expected != received => Err(wrong_length(expected, received)),
        _ => Ok(()),
    }
}

async fn publish(
    asked: &Asked<'_>,
    name: &RepositoryName,
    upload: &Upload,
    digest: &Digest,
) -> Result<Response, RegistryError> {
    let size = when_free(|| upload.finish(digest)).await?;
    asked.observe(EventKind::BlobPushed, name, &Reference::Digest(*digest), Some(digest), size);
    Ok(respond::created(name, "blobs", digest))
}

fn wrong_length(expected: u64, actual: u64) -> RegistryError {
    RegistryError::new(
        ErrorCode::SizeInvalid,
        format!("the chunk's Content-Range says {expected} bytes and the request has {actual}"),
    )
    .with_status(StatusCode::BAD_REQUEST)
}

/// An answer that tells where the session stands.
fn session(name: &RepositoryName, upload: &Upload, status: StatusCode) -> Response {
    let mut response = respond::empty(status);
    let headers = response.headers_mut();
    headers.insert(LOCATION, location(name, upload));
    headers.insert(RANGE, received(upload));
    headers.insert(DOCKER_UPLOAD_UUID.clone(), respond::header_text(upload.id().to_string()));
    response
}

/// An error that tells the same, so that the client can go on without another question.
/// The answer to a request whose body was not taken: where the client can go on. On a full disk it cannot, and the session
/// goes: until it expires its bytes would hold the space that everybody waits for.
async fn not_taken(error: RegistryError, name: &RepositoryName, upload: &Upload) -> RegistryError {
    if error.status() != StatusCode::INSUFFICIENT_STORAGE {
        return located(error, name, upload);
    }
    if let Err(kept) = when_free(|| upload.cancel()).await {
        tracing::debug!(error = %kept, "upload that found no space not cancelled");
    }
    error
}

fn located(error: RegistryError, name: &RepositoryName, upload: &Upload) -> RegistryError {
    error
        .with_header(LOCATION, location(name, upload))
        .with_header(RANGE, received(upload))
        .with_header(DOCKER_UPLOAD_UUID.clone(), respond::header_text(upload.id().to_string()))
}

fn location(name: &RepositoryName, upload: &Upload) -> HeaderValue {
    respond::header_text(format!("/v2/{name}/blobs/uploads/{}", upload.id()))
}

/// `0-<last byte>`. An inclusive range cannot say "nothing", and `0-0` is what registries have always said for it.
fn received(upload: &Upload) -> HeaderValue {
    respond::header_text(format!("0-{}", upload.offset().saturating_sub(1)))
}
