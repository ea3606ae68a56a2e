//! Secrets of replication adapters, and what comes with them.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreResult;
use crate::group::Artifact;
use crate::replication::{Replicated, ReplicationSecret};
use crate::secret::Hashed;

/// Secrets of replication adapters, and what comes with them.
#[async_trait]
pub trait Replication {
    /// Gives a group's adapter a secret; the one before is worth nothing from then on.
    async fn set_replication_secret(
        &self,
        group: &str,
        secret: &Hashed,
        by: &str,
        now: Timestamp,
    ) -> StoreResult<()>;

    /// Takes the secret away; `false` where there is none.
    async fn remove_replication_secret(&self, group: &str) -> StoreResult<bool>;

    /// What is known of a group's secret.
    async fn replication_secret(&self, group: &str) -> StoreResult<Option<ReplicationSecret>>;

    /// Whether any group has this secret.
    async fn knows_replication_secret(&self, secret: &Hashed) -> StoreResult<bool>;

    /// Merges what came with a secret into the list of its group, as a revision of [`crate::replication::AUTHOR`] where
    /// that changes something. `named`: the group that the adapter named; empty where it named none.
    ///
    /// `Invalid` for a list that [`crate::group::check`] refuses.
    async fn replicate(
        &self,
        secret: &Hashed,
        named: &str,
        artifacts: Vec<Artifact>,
        now: Timestamp,
    ) -> StoreResult<Replicated>;
}
