//! Fresh credentials of the central registry.
//!
//! They are asked for when Ground Control says so in its answer to a heartbeat, and when the registry keeps refusing those
//! that are held while Ground Control itself answers. One refusal proves nothing: a registry whose database is away
//! answers 401 to the right password. What is held stays until what came works.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use registry_client::Fault;

use crate::config::Effective;
use crate::desired::{Upstream, UpstreamError};
use crate::ground_control::{Account, GroundControl, GroundControlError};
use crate::identity::EdgeIdentity;
use crate::sealed::{SealError, Vault};

/// So many turns of the replication in a row have to be refused before fresh credentials are asked for.
const PATIENCE: u32 = 3;

/// Turns of the replication in a row in which the registry said 401.
#[derive(Debug, Default)]
pub(crate) struct Refusals(AtomicU32);

impl Refusals {
    /// Another one; whether it is the one that makes it enough.
    pub(crate) fn another(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1) == PATIENCE
    }

    /// The registry lets us in.
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Whether the registry keeps refusing.
    pub(crate) fn are_enough(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= PATIENCE
    }
}

/// The user name that the registry accepted last. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accepted(Arc<Mutex<Option<String>>>);

impl Accepted {
    pub(crate) fn username(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes it; whether it is another one.
    pub(crate) fn set(&self, username: String) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.replace(username.clone()) != Some(username)
    }
}

/// Why the credentials are still the old ones.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefreshError {
    #[error("{0}")]
    GroundControl(#[from] GroundControlError),
    #[error("the registry does not take the fresh credentials, the old ones stay")]
    NotTaken,
    #[error("the fresh credentials could not be tried, the old ones stay: {0}")]
    NotTried(registry_client::Error),
    #[error("the registry of the fresh credentials cannot be used, the old ones stay: {0}")]
    Upstream(#[from] UpstreamError),
    #[error("fresh credentials cannot be kept on disk: {0}")]
    NotKept(#[from] SealError),
}

impl RefreshError {
    /// A deployed Ground Control does not know the question.
    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::GroundControl(error) if matches!(error.status(), Some(404 | 405)))
    }

    /// When Ground Control wants to be asked again: it has none to give yet.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::GroundControl(error) if error.status() == Some(503) => error.retry_after(),
            _ => None,
        }
    }
}

/// Asks for fresh credentials, tries them, and keeps them. Tells the user name where the registry accepted it.
pub(crate) async fn refresh(
    ground_control: &GroundControl,
    account: Account<'_>,
    vault: &Vault,
    config: &Effective,
    identity: &EdgeIdentity,
) -> Result<Option<String>, RefreshError> {
    let fresh = ground_control.credentials(account).await?;
    let upstream = Upstream::new(&fresh, config, identity)?;
    let client = upstream.client(&upstream.endpoint(upstream.default_registry())?)?;
    let mut accepted = None;
    match client.check_credentials().await {
        Ok(true) => accepted = Some(fresh.auth.username.clone()).filter(|username| !username.is_empty()),
        Ok(false) => return Err(RefreshError::NotTaken),
        Err(error) if error.is_retryable() || error.fault() == Fault::Network => {
            return Err(RefreshError::NotTried(error));
        }
        // A registry that does not answer this question may take them all the same.
        Err(error) => tracing::debug!(%error, "fresh credentials taken untried"),
    }
    vault.update(move |state| state.registration = Some(fresh)).await?;
    tracing::info!("fresh credentials of the registry in use");
    Ok(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_refusals_in_a_row_are_enough() {
        let refusals = Refusals::default();
        assert!(!refusals.another() && !refusals.another() && !refusals.are_enough());
        refusals.clear();
        assert!(!refusals.another() && !refusals.another());
        assert!(refusals.another() && refusals.are_enough());
        assert!(!refusals.another(), "told once");
        assert!(refusals.are_enough());
    }
}
