//! What the local registry is asked for, in the log: one line for each manifest that is pulled, missed or written. It is how a
//! person sees whether a container runtime takes its images from here.

use std::sync::Arc;

use registry_server::{Event, EventKind, Observer};

/// Writes pulls to the log, at `debug`: on a busy site they are many; and what people write, at `info`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PullLog;

impl PullLog {
    /// One for the settings of a registry's router.
    pub(super) fn observer() -> Option<Arc<dyn Observer>> {
        Some(Arc::new(Self))
    }
}

impl Observer for PullLog {
    fn observe(&self, event: &Event<'_>) {
        let (repository, reference) = (event.repository, event.reference);
        match event.kind {
            EventKind::ManifestPulled => tracing::debug!(%repository, %reference, "manifest pulled"),
            EventKind::ManifestMissed => {
                tracing::debug!(%repository, %reference, "manifest asked for that is not here");
            }
            EventKind::BlobPulled => {
                tracing::debug!(%repository, digest = %reference, bytes = event.bytes, "blob pulled");
            }
            // Whoever writes at the site leaves no other trace.
            EventKind::ManifestPushed => {
                tracing::info!(%repository, %reference, by = event.caller, "manifest pushed");
            }
            EventKind::ManifestDeleted | EventKind::TagDeleted => {
                tracing::info!(%repository, %reference, by = event.caller, "manifest or tag deleted");
            }
            EventKind::BlobMissed
            | EventKind::BlobPushed
            | EventKind::BlobMounted
            | EventKind::BlobDeleted => {}
        }
    }
}
