//! The configuration in force while the program runs: readers subscribe, the replication of the config document writes.

use std::sync::Arc;

use fleet_protocol::config::ConfigDocument;
use oci::Digest;
use tokio::sync::watch;

use super::{Change, Effective, Refusal, RemoteConfig, Shared, Site};
use crate::sealed::{SealError, Vault};

/// A handle to the configuration in force. Clones share it.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    site: Arc<Site>,
    vault: Vault,
    sender: watch::Sender<Shared>,
}

/// Why a remote config did not come into force.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The document itself is at fault; the last good one stays.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is good, but could not be kept on disk, so it was not taken either.
    #[error("remote config is good but could not be kept: {0}")]
    NotKept(#[from] SealError),
}

impl LiveConfig {
    /// What the site decided.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// The configuration in force now.
    #[must_use]
    pub fn current(&self) -> Shared {
        self.sender.borrow().clone()
    }

    /// Wakes its holder when the configuration changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Shared> {
        self.sender.subscribe()
    }

    /// Validates `document`, keeps it durably (sealed, with the `digest` of the state artifact it came from, so that a
    /// restart without a network works with it), then puts it in force.
    ///
    /// # Errors
    /// [`AdoptError`]; nothing changed then.
    pub async fn adopt(&self, digest: Digest, document: &ConfigDocument) -> Result<Change, AdoptError> {
        let current = self.current();
        let change = RemoteConfig::apply(&self.site, &current, document)?;
        let kept = document.clone();
        self.vault
            .update(move |state| state.remote_config = Some(crate::sealed::KeptConfig { digest, document: kept }))
            .await?;
        self.sender.send_replace(Arc::new(change.effective.clone()));
        Ok(change)
    }
}
