//! Reading one state document from its registry.

use std::time::Duration;

use fleet_protocol::state_image::{self, StateImageError};
use oci::{Descriptor, Digest, ImageReference, Manifest, Reference};
use registry_client::{Client, Fault};
use serde_json::Value;

use super::UpstreamError;
use crate::identity::NoIdentity;

/// The largest layer that is taken for a document; unpacked it is bounded by the decoder.
const MAX_LAYER: u64 = 8 * 1024 * 1024;

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The registry did not hand it out.
    #[error("{url} cannot be read: {error}")]
    Registry {
        /// Where the document is.
        url: String,
        /// What the registry said.
        error: registry_client::Error,
    },
    /// It is not there.
    #[error("{url} does not exist (any more)")]
    Absent {
        /// Where it should be.
        url: String,
    },
    /// It is no document, or not one that can be worked with.
    #[error("{url} is not usable: {reason}")]
    Content {
        /// Where the document is.
        url: String,
        /// Its digest, where it got that far.
        digest: Option<Digest>,
        /// What is wrong.
        reason: String,
    },
    /// There is no SVID to ask the registry with.
    #[error("{url} was not read: {error}")]
    Identity {
        /// Where the document is.
        url: String,
        /// Why.
        error: NoIdentity,
    },
    /// Ground Control has not published it, and nothing of it was ever read.
    #[error("{url} is not published yet")]
    NotPublished {
        /// Where it will be.
        url: String,
    },
    /// The registry was not reached just before, so it was not asked.
    #[error("{url} was not read: the registry cannot be reached")]
    NotAsked {
        /// Where the document is.
        url: String,
    },
}

impl DocumentError {
    pub(super) fn content(url: &str, digest: Option<Digest>, reason: impl Into<String>) -> Self {
        Self::Content { url: url.to_owned(), digest, reason: reason.into() }
    }

    /// The registry cannot be used.
    pub(super) fn upstream(url: &str, error: UpstreamError) -> Self {
        match error {
            UpstreamError::Identity(error) => Self::Identity { url: url.to_owned(), error },
            error => Self::content(url, None, error.to_string()),
        }
    }

    pub(super) fn not_asked(url: &str) -> Self {
        Self::NotAsked { url: url.to_owned() }
    }

    /// Whether the registry is away, so that asking it for anything else is in vain for now.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Registry { error, .. } => error.is_retryable() || error.fault() == Fault::Network,
            Self::Identity { .. } => true,
            _ => false,
        }
    }

    /// Whether the registry refuses our credentials. One such answer is no proof.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Registry { error, .. } if error.is_unauthorized())
    }

    /// When the registry wants to be asked again, if it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registry { error, .. } => error.retry_after(),
            _ => None,
        }
    }

    /// The digest of the document that is at fault.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Content { digest, .. } => *digest,
            _ => None,
        }
    }
}

/// Which version of a document is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// The one that its tag points at.
    Latest,
    /// This one.
    Digest(Digest),
    /// The one that is known already.
    Kept,
}

/// What a read found.
#[derive(Debug)]
pub(super) enum Read {
    /// The document that is known already; nobody was asked.
    Kept,
    /// The registry said that it is the document that is known already.
    Unchanged,
    /// Another one.
    New { digest: Digest, value: Value },
}

/// Reads the document, the one with the `wanted` digest or else the one that its tag points at, unless it is the `known` one.
pub(super) async fn read(
    client: &Client,
    url: &str,
    reference: &ImageReference,
    known: Option<Digest>,
    wanted: Option<Digest>,
) -> Result<Read, DocumentError> {
    let registry = |error| DocumentError::Registry { url: url.to_owned(), error };
    let repository = &reference.repository;
    let exact = match wanted {
        Some(digest) => Reference::Digest(digest),
        None => {
            let name = reference
                .reference()
                .ok_or_else(|| DocumentError::content(url, None, "it has neither tag nor digest"))?;
            let head = client.head_manifest(repository, &name).await.map_err(registry)?;
            let head = head.ok_or_else(|| DocumentError::Absent { url: url.to_owned() })?;
            if head.digest.is_some() && head.digest == known {
                return Ok(Read::Unchanged);
            }
            // By the digest that was just told: between the two requests the tag may move.
            head.digest.map_or(name, Reference::Digest)
        }
    };
    let fetched = client.manifest(repository, &exact).await.map_err(|error| match wanted {
        Some(digest) if error.is_not_found() => DocumentError::Absent { url: format!("{url} as {digest}") },
        _ => registry(error),
    })?;
    let digest = fetched.digest;
    if Some(digest) == known {
        return Ok(Read::Unchanged);
    }
    let content = |reason: String| DocumentError::content(url, Some(digest), reason);
    let media_type = Some(fetched.media_type.as_str()).filter(|media_type| !media_type.is_empty());
    let manifest = Manifest::parse(media_type, &fetched.bytes).map_err(|error| content(error.to_string()))?;
    for layer in state_image::candidate_layers(&manifest) {
        if layer.size > MAX_LAYER {
            return Err(content(format!("its layer {} has more than {MAX_LAYER} bytes", layer.digest)));
        }
        let bytes = layer_bytes(client, reference, layer).await.map_err(registry)?;
        if Digest::of(layer.digest.algorithm(), &bytes) != layer.digest {
            return Err(content(format!("the bytes of its layer are not those of {}", layer.digest)));
        }
        match state_image::decode_layer(&bytes) {
            Ok(value) => return Ok(Read::New { digest, value }),
            Err(StateImageError::Missing) => {}
            Err(error) => return Err(content(error.to_string())),
        }
    }
    Err(content(StateImageError::Missing.to_string()))
}

async fn layer_bytes(
    client: &Client,
    reference: &ImageReference,
    layer: &Descriptor,
) -> Result<Vec<u8>, registry_client::Error> {
    let mut body = client.blob(&reference.repository, &layer.digest, 0).await?;
    body.expect_total(layer.size)?;
    let mut bytes = Vec::with_capacity(usize::try_from(layer.size).unwrap_or_default());
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
