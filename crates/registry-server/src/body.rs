//! Reading request bodies: never more of one in memory than is allowed.

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;

use crate::error::{ErrorCode, RegistryError};

/// The next bytes of a body, `None` at its end. A peer that goes away, stalls or breaks the framing is an error.
pub(crate) async fn next(body: &mut Body) -> Result<Option<Bytes>, RegistryError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => {
                return Err(RegistryError::new(
                    ErrorCode::BlobUploadInvalid,
                    format!("the body of the request broke off: {error}; ask the upload where to go on"),
                ));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data()
                    && !data.is_empty()
                {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A whole body of at most `limit` bytes.
pub(crate) async fn collect(
    body: &mut Body,
    headers: &HeaderMap,
    limit: usize,
) -> Result<Bytes, RegistryError> {
    let too_large = || {
        RegistryError::new(
            ErrorCode::SizeInvalid,
            format!("a manifest may have {limit} bytes at most: move what is large into a blob"),
        )
    };
    let declared = content_length(headers);
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let Some(first) = next(body).await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(too_large());
    }
    // The common manifest comes in one piece and is kept without a copy.
    let Some(second) = next(body).await? else { return Ok(first) };
    let mut whole = BytesMut::with_capacity(first.len() + second.len());
    whole.extend_from_slice(&first);
    let mut piece = Some(second);
    while let Some(bytes) = piece {
        if whole.len() + bytes.len() > limit {
            return Err(too_large());
        }
        whole.extend_from_slice(&bytes);
        piece = next(body).await?;
    }
    Ok(whole.freeze())
}

/// Reads and forgets up to `limit` bytes.
pub(crate) async fn drain(body: &mut Body, limit: usize) {
    let mut seen = 0;
    while seen < limit {
        match next(body).await {
            Ok(Some(bytes)) => seen += bytes.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

/// The declared length, where there is one.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
