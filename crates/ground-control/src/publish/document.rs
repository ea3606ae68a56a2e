//! One intent: from the records to the registry.

use std::sync::Arc;

use fleet_protocol::state_image::{StateImage, StateImageError};
use jiff::{SignedDuration, Timestamp};
use oci::RepositoryName;
use tracing::Instrument as _;

use super::backend::{Gate, RegistryBackend, RegistryError};
use super::publisher::Options;
use crate::domain::StoreError;
use crate::domain::desired::Written;
use crate::domain::document::{self, Claimed, DocumentKind};
use crate::store::{DocumentSource, SharedStore};

/// How long a document waits for others that have to be there before it.
const POSTPONED: SignedDuration = SignedDuration::from_millis(100);

/// What became of an intent.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The document was written.
    Published,
    /// It is in the registry as it should be.
    Unchanged,
    /// It was removed.
    Removed,
    /// It has to wait for others.
    Postponed,
    /// It is tried again later, for this reason.
    Failed(String),
}

/// Why a document could not be published.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the document cannot be encoded")]
    Encode(#[from] StateImageError),
    #[error("the document cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error("{0:?} is no name of a repository")]
    Repository(String),
    #[error("encoding was given up")]
    Cancelled,
}

/// An intent and what it takes to carry it out.
pub(super) struct Work {
    pub(super) store: SharedStore,
    pub(super) registry: Arc<dyn RegistryBackend>,
    pub(super) gate: Option<Arc<dyn Gate>>,
    pub(super) options: Arc<Options>,
    pub(super) registry_url: Arc<str>,
    pub(super) claimed: Claimed,
}

impl Work {
    /// The same, as a trace of its own.
    pub(super) async fn traced(self) -> Outcome {
        let trace = otlp::TraceId::generate();
        let span = tracing::info_span!("publish", trace_id = %trace, document = %self.claimed.document);
        self.run().instrument(span).await
    }

    /// Carries the intent out; a failure is written down and tried again later.
    async fn run(self) -> Outcome {
        let failure = match self.publish().await {
            Ok(outcome) => return outcome,
            Err(failure) => failure,
        };
        let reason = chain(&failure);
        let document = &self.claimed.document;
        let pause = backoff(&self.options, self.claimed.attempts, rand::random());
        tracing::warn!(%document, attempts = self.claimed.attempts + 1, error = %reason, "publishing failed");
        let again = Timestamp::now().checked_add(pause).unwrap_or(Timestamp::MAX);
        if let Err(error) = self.store.document_failed(&self.claimed, &reason, again).await {
            // The claim runs out by itself; then it is tried again.
            tracing::warn!(%document, error = &error as &dyn std::error::Error, "recording a failure failed");
        }
        Outcome::Failed(reason)
    }

    async fn publish(&self) -> Result<Outcome, Failure> {
        let key = &self.claimed.document;
        let repository: RepositoryName =
            key.repository().parse().map_err(|_| Failure::Repository(key.repository()))?;
        let source = self.store.document_source(key).await?;
        if let DocumentSource::Satellite(satellite) = &source
            && !satellite.unpublished.is_empty()
        {
            return self.postpone(POSTPONED).await;
        }
        if let Some(gate) = &self.gate
            && source != DocumentSource::Gone
            && let Some(pause) = gate.postponed(&self.claimed).await?
        {
            return self.postpone(pause).await;
        }
        if let DocumentSource::Group(group) = &source
            && group.unseen
            && self.may_be_seen_soon()
        {
            return self.postpone(POSTPONED).await;
        }
        let Some(document) = document::build(key, &source, &self.registry_url)? else {
            return self.remove(&repository).await;
        };
        // Compression of a large group's list is no work for a thread that serves.
        let image = tokio::task::spawn_blocking(move || StateImage::encode(&document))
            .await
            .map_err(|_| Failure::Cancelled)??;
        let published = self.store.published(key).await?;
        let unchanged = published.is_some_and(|p| p.digest == image.digest) && !self.claimed.verify;
        let mut found = None;
        if !unchanged {
            found = self.registry.current(&repository).await?.map(|current| current.digest);
            self.registry.publish(&repository, &image).await?;
        }
        let now = Timestamp::now();
        let grace = SignedDuration::try_from(self.options.grace).unwrap_or(SignedDuration::MAX);
        let remove_at = now.checked_add(grace).unwrap_or(Timestamp::MAX);
        let (digest, written) = (image.digest, Written { digest: image.digest, found, remove_at });
        let published = self.store.document_published(&self.claimed, &source, written, now).await?;
        if unchanged {
            return Ok(Outcome::Unchanged);
        }
        tracing::info!(document = %key, %digest, generation = published.generation, "published");
        Ok(Outcome::Published)
    }

    /// Whether the first look at what a group lists may still end in time for its document.
    fn may_be_seen_soon(&self) -> bool {
        let waited = Timestamp::now().duration_since(self.claimed.enqueued_at);
        waited.unsigned_abs() < self.options.first_look
    }

    async fn remove(&self, repository: &RepositoryName) -> Result<Outcome, Failure> {
        // A satellite's document must not name one that is gone: theirs are written first.
        if self.claimed.document.kind != DocumentKind::Satellite
            && self.store.satellites_waiting(self.claimed.enqueued_at).await?
        {
            return self.postpone(POSTPONED).await;
        }
        self.registry.clear(repository).await?;
        self.store.document_removed(&self.claimed).await?;
        tracing::info!(document = %self.claimed.document, "removed");
        Ok(Outcome::Removed)
    }

    async fn postpone(&self, pause: SignedDuration) -> Result<Outcome, Failure> {
        let again = Timestamp::now().checked_add(pause).unwrap_or(Timestamp::MAX);
        self.store.document_postponed(&self.claimed, again).await?;
        Ok(Outcome::Postponed)
    }
}

/// The pause after failure number `attempts` (from 0): doubling, bounded, within 20 % of chance (`random`).
fn backoff(options: &Options, attempts: u32, random: u16) -> SignedDuration {
    let doubled = options.retry.saturating_mul(2u32.saturating_pow(attempts.min(16)));
    let jitter = 0.8 + 0.4 * f64::from(random) / f64::from(u16::MAX);
    SignedDuration::try_from(doubled.min(options.retry_max).mul_f64(jitter)).unwrap_or(SignedDuration::MAX)
}

/// An error and all that caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_and_are_bounded(attempts: u32, random: u16) {
            let options = Options::new("https://registry.example.com");
            let pause = backoff(&options, attempts, random).unsigned_abs();
            prop_assert!(pause >= options.retry.mul_f64(0.79));
            prop_assert!(pause <= options.retry_max.mul_f64(1.21));
            if attempts == 0 {
                prop_assert!(pause <= options.retry.mul_f64(1.21));
            }
        }
    }

    #[test]
    fn causes_are_told() {
        let inner = std::io::Error::other("disk full");
        let error = RegistryError {
            operation: "write a blob",
            repository: "satellite/group-state/g/state".into(),
            source: Box::new(inner),
        };
        assert_eq!(chain(&error), "write a blob in satellite/group-state/g/state: disk full");
    }
}
