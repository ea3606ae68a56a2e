//! Another OCI registry as a destination (bring your own registry).
//!
//! Nothing of it lies on the local disk: bytes go through memory, and are hashed on the way; the last piece of
//! a blob is sent only when the digest is right, so a registry that does not check gets no wrong blob either.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use oci::{Descriptor, Digest, Hasher, Kind, Manifest, PlatformFilter, Reference, RepositoryName, Tag};
use registry_client::{Client, ErrorKind, Mounted, fallback_tag};
use serde_json::{Value, json};

use crate::blob::{BlobFeed, BlobStream};
use crate::error::{DestinationError, SourceError};
use crate::seam::{Destination, Found, Held, Hold, ManifestBytes, ReceiveError};

/// Of so many blobs it is remembered which repository has them, to mount them from there.
const MAX_KNOWN: usize = 16_384;
/// How often a blob is pushed from its beginning.
const MAX_PUSHES: u32 = 3;

/// Another registry.
pub struct RemoteDestination {
    client: Client,
    name: String,
    known: Mutex<Known>,
    /// Held while the list of referrers under a tag is read and written.
    referrers: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    repositories: HashMap<Digest, RepositoryName>,
    order: VecDeque<Digest>,
}

impl RemoteDestination {
    /// The registry that the client speaks to as a destination.
    pub fn new(client: Client) -> Self {
        let name = client.endpoint().to_string();
        Self { client, name, known: Mutex::default(), referrers: tokio::sync::Mutex::default() }
    }

    fn known(&self, digest: &Digest) -> Option<RepositoryName> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).repositories.get(digest).cloned()
    }

    fn learn(&self, digest: Digest, repository: &RepositoryName) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.repositories.insert(digest, repository.clone()).is_none() {
            known.order.push_back(digest);
            if known.order.len() > MAX_KNOWN
                && let Some(oldest) = known.order.pop_front()
            {
                known.repositories.remove(&oldest);
            }
        }
    }

    /// Adds a referrer to the list that clients keep under a tag where the registry keeps none
    /// (OCI Distribution 1.1, "Pushing Manifests with Subject").
    async fn record_referrer(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        document: &Manifest,
        manifest: &ManifestBytes,
    ) -> Result<(), DestinationError> {
        let Some(tag) = fallback_tag(subject) else { return Ok(()) };
        let reference = Reference::Tag(tag);
        let _one_at_a_time = self.referrers.lock().await;
        let mut entries = match self.client.manifest(repository, &reference).await {
            Ok(index) => Manifest::parse(Some(&index.media_type), &index.bytes)
                .map(|m| m.manifests)
                .unwrap_or_default(),
            Err(error) if error.is_not_found() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        if entries.iter().any(|entry| entry.digest == manifest.digest) {
            return Ok(());
        }
        let mut entry =
            Descriptor::new(document.media_type.clone(), manifest.digest, manifest.bytes.len() as u64);
        entry.artifact_type = document.effective_artifact_type().map(str::to_owned);
        entry.annotations = document.annotations.clone();
        entries.push(entry);
        let index: Value =
            json!({"schemaVersion": 2, "mediaType": oci::media_type::OCI_INDEX, "manifests": entries});
        let bytes = Bytes::from(index.to_string());
        self.client.put_manifest(repository, &reference, oci::media_type::OCI_INDEX, bytes).await?;
        Ok(())
    }
}

#[async_trait]
impl Destination for RemoteDestination {
    fn name(&self) -> &str {
        &self.name
    }

    fn shares_blobs(&self) -> bool {
        false
    }

    fn hold(&self, _digests: &[Digest]) -> Hold {
        Box::new(())
    }

    async fn find(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        _platforms: &PlatformFilter,
    ) -> Result<Option<Found>, DestinationError> {
        let fetched = match self.client.manifest(repository, &Reference::Digest(*digest)).await {
            Ok(fetched) => fetched,
            Err(error) if error.is_not_found() => return Ok(None),
            // What a damaged registry sends is replaced.
            Err(error) if matches!(error.kind(), ErrorKind::DigestMismatch { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // A registry takes an image only with its blobs; the children of an index it does not look for.
        let whole = Manifest::parse(Some(&fetched.media_type), &fetched.bytes)
            .is_ok_and(|m| m.kind != Kind::Index || m.manifests.is_empty());
        let manifest =
            ManifestBytes { digest: fetched.digest, media_type: fetched.media_type, bytes: fetched.bytes };
        Ok(Some(Found { manifest, present: true, whole }))
    }

    async fn holds(&self, repository: &RepositoryName, blob: &Descriptor) -> Result<Held, DestinationError> {
        if self.client.has_blob(repository, &blob.digest).await?.is_some() {
            self.learn(blob.digest, repository);
            return Ok(Held::Here);
        }
        let known = self.known(&blob.digest).filter(|other| other != repository);
        let mounted = self.client.mount_blob(repository, &blob.digest, known.as_ref()).await?;
        Ok(if mounted == Mounted::Yes { Held::Linked } else { Held::No })
    }

    async fn receive(&self, repository: &RepositoryName, feed: &Arc<BlobFeed>) -> Result<(), ReceiveError> {
        let blob = feed.blob().clone();
        let mut failures = 0;
        loop {
            let trouble = Arc::new(Mutex::new(None));
            let state = Pushing {
                stream: feed.open(0),
                hasher: Some(Hasher::new(blob.digest.algorithm())),
                held: None,
                expected: blob.digest,
                trouble: trouble.clone(),
            };
            let content = stream::unfold(state, |mut state| async {
                let piece = state.next().await?;
                Some((piece, state))
            });
            let error = match self.client.push_blob(repository, &blob.digest, blob.size, content).await {
                Ok(()) => {
                    self.learn(blob.digest, repository);
                    return Ok(());
                }
                Err(error) => error,
            };
            failures += 1;
            let trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
            match trouble {
                Some(Trouble::Source(error)) => return Err(error.into()),
                Some(Trouble::Mismatch(actual)) => {
                    feed.mismatch();
                    if failures > 1 {
                        let text = format!("the content is {actual}, not {}", blob.digest);
                        let mut error = DestinationError::from(error);
                        (error.text, error.mismatch, error.retryable) = (text, true, false);
                        return Err(error.into());
                    }
                }
                None => {
                    let delay = feed.retry().delay(failures, error.retry_after());
                    match delay {
                        Some(delay) if error.is_retryable() && failures < MAX_PUSHES => {
                            tokio::time::sleep(delay).await;
                        }
                        _ => return Err(DestinationError::from(error).into()),
                    }
                }
            }
        }
    }

    async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &ManifestBytes,
    ) -> Result<(), DestinationError> {
        let document = Manifest::parse(Some(&manifest.media_type), &manifest.bytes).ok();
        let media_type = match &document {
            Some(document) => document.media_type.as_str(),
            None => manifest.media_type.as_str(),
        };
        let reference = Reference::Digest(manifest.digest);
        let pushed =
            self.client.put_manifest(repository, &reference, media_type, manifest.bytes.clone()).await?;
        if let Some(document) = &document
            && let Some(subject) = &document.subject
            && !pushed.subject_recorded
        {
            self.record_referrer(repository, &subject.digest, document, manifest).await?;
        }
        Ok(())
    }

    async fn set_tag(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        manifest: &ManifestBytes,
    ) -> Result<bool, DestinationError> {
        let reference = Reference::Tag(tag.clone());
        let present = self.client.head_manifest(repository, &reference).await?;
        if present.and_then(|head| head.digest) == Some(manifest.digest) {
            return Ok(false);
        }
        let document = Manifest::parse(Some(&manifest.media_type), &manifest.bytes);
        let media_type =
            document.map_or_else(|_| manifest.media_type.clone(), |document| document.media_type);
        self.client.put_manifest(repository, &reference, &media_type, manifest.bytes.clone()).await?;
        Ok(true)
    }
}

/// Why a push broke on our side.
enum Trouble {
    Source(SourceError),
    Mismatch(Digest),
}

/// A blob on its way through memory: one piece is held back until it is known not to be the last, or the
/// digest to be right.
struct Pushing {
    stream: BlobStream,
    hasher: Option<Hasher>,
    held: Option<Bytes>,
    expected: Digest,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl Pushing {
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.stream.chunk().await {
                Ok(Some(chunk)) => {
                    if let Some(hasher) = &mut self.hasher {
                        hasher.update(&chunk);
                    }
                    if let Some(earlier) = self.held.replace(chunk) {
                        return Some(Ok(earlier));
                    }
                }
                Ok(None) => {
                    let actual = self.hasher.take()?.finish();
                    if actual != self.expected {
                        return Some(Err(self.fail(Trouble::Mismatch(actual))));
                    }
                    return self.held.take().map(Ok);
                }
                Err(error) => {
                    self.hasher = None;
                    return Some(Err(self.fail(Trouble::Source(error))));
                }
            }
        }
    }

    fn fail(&mut self, trouble: Trouble) -> String {
        let text = match &trouble {
            Trouble::Source(error) => error.to_string(),
            Trouble::Mismatch(actual) => format!("the content is {actual}, not {}", self.expected),
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        text
    }
}
