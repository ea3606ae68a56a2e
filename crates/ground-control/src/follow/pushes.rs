//! Pushes into the built-in registry as words that something changed there.

use fleet_protocol::state;
use registry_server::{Event, EventKind, Observer};

use super::hints::Hints;

/// Hears what the built-in registry is told.
#[derive(Debug)]
pub struct PushObserver {
    hints: Hints,
}

impl PushObserver {
    /// Passes words on to `hints`.
    pub fn new(hints: Hints) -> Self {
        Self { hints }
    }
}

impl Observer for PushObserver {
    fn observe(&self, event: &Event<'_>) {
        let changes = matches!(
            event.kind,
            EventKind::ManifestPushed | EventKind::ManifestDeleted | EventKind::TagDeleted
        );
        let repository = event.repository.as_str();
        // No group lists state documents.
        let state = repository.split_once('/').is_some_and(|(project, _)| project == state::PROJECT);
        if changes && !state {
            self.hints.changed(repository);
        }
    }
}
