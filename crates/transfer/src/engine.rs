//! The engine: what all copies to one destination share.

use std::sync::Arc;

use registry_client::RetryPolicy;
use tokio::sync::{Semaphore, watch};

use crate::copy::{self, CopyRequest};
use crate::error::CopyError;
use crate::event::{Observer, Silent};
use crate::flight::Flights;
use crate::outcome::Outcome;
use crate::seam::{Admission, AdmitAll, Destination};

/// How an engine works.
#[derive(Clone)]
pub struct EngineOptions {
    /// Blobs on their way at the same time, over all copies.
    pub parallel_blobs: usize,
    /// Manifests looked after at the same time within one copy, at each level of the graph.
    pub parallel_manifests: usize,
    /// Indexes in indexes and referrers of referrers at most.
    pub max_depth: usize,
    /// Manifests of one graph at most, referrers included.
    pub max_manifests: usize,
    /// When a transfer that was cut is continued. The failures that count are those in a row that brought
    /// less than 64 KiB.
    pub retry: RetryPolicy,
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
    /// Decides whether the tags move.
    pub admission: Arc<dyn Admission>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            parallel_blobs: 4,
            parallel_manifests: 4,
            max_depth: 16,
            max_manifests: 4096,
            retry: RetryPolicy { attempts: 5, ..RetryPolicy::default() },
            observer: Arc::new(Silent),
            admission: Arc::new(AdmitAll),
        }
    }
}

/// Copies graphs to one destination. Clones share the flights, so that a blob comes once for all of them.
/// When the last clone is dropped, what is on its way stops, and stays to be continued.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) options: EngineOptions,
    pub(crate) flights: Arc<Flights>,
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) stop: watch::Sender<bool>,
}

impl Engine {
    /// An engine for this destination.
    pub fn new(destination: Arc<dyn Destination>, options: EngineOptions) -> Self {
        let permits = Arc::new(Semaphore::new(options.parallel_blobs.max(1)));
        let (stop, _) = watch::channel(false);
        let inner = Inner { destination, options, flights: Arc::default(), permits, stop };
        Self { inner: Arc::new(inner) }
    }

    /// Where it copies to.
    pub fn destination(&self) -> &Arc<dyn Destination> {
        &self.inner.destination
    }

    /// Copies a graph and moves the tags when it is whole. What is there already is not asked for; a graph
    /// that is known whole costs the source no request but for its referrers, where those are asked for.
    ///
    /// # Errors
    /// The first thing that failed; the other parts were tried, too. The tags have not moved.
    pub async fn copy(&self, request: &CopyRequest) -> Result<Outcome, CopyError> {
        copy::run(&self.inner, request, true).await
    }

    /// Looks again at what refers to a graph that is there, and copies what is new. No tag moves.
    pub async fn copy_referrers(&self, request: &CopyRequest) -> Result<Outcome, CopyError> {
        let request = CopyRequest { referrers: true, ..request.clone() };
        copy::run(&self.inner, &request, false).await
    }

    /// Stops what is on its way and all that comes later, with [`Cause::Stopped`](crate::Cause::Stopped).
    /// What has arrived of blobs is kept and continued by the next engine.
    pub fn shutdown(&self) {
        self.inner.stop.send_replace(true);
    }
}
