//! Pulls into a registry, by the fetch engine.

use std::sync::Arc;

use oci::RepositoryName;
use transfer::{CopyRequest, Destination, Engine, EngineOptions, Observer};

use super::{Pull, PullError, Pulling};
use crate::plan::Fetch;

/// The fetch engine of one registry. Copies under way stop when it is dropped.
pub(super) struct Copying(Engine);

impl Copying {
    pub(super) fn new(to: Arc<dyn Destination>, observer: Arc<dyn Observer>) -> Self {
        Self(Engine::new(to, EngineOptions { observer, ..EngineOptions::default() }))
    }

    /// Copies to `repository` from the pull's source.
    pub(super) fn pull(&self, repository: RepositoryName, pull: Pull) -> Pulling {
        let engine = self.0.clone();
        Box::pin(async move {
            let source = pull.source.ok_or_else(|| PullError::new("no registry is named for it", false))?;
            let mut request = CopyRequest::new(source, repository, pull.artifact.digest);
            request.tags = pull.tags;
            request.platforms = pull.platforms;
            request.progress = pull.progress;
            request.referrers = pull.part != Fetch::Nothing;
            Ok(match pull.part {
                Fetch::Referrers => engine.copy_referrers(&request).await?,
                Fetch::Graph | Fetch::Nothing => engine.copy(&request).await?,
            })
        })
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}
