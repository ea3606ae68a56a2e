//! Webhook policies of the projects that groups name.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreResult;
use crate::webhook::{ClaimedPolicy, PolicyOutcome, PolicySummary};

/// Webhook policies of the projects that groups name.
#[async_trait]
pub trait Webhooks {
    /// Claims at most `limit` projects whose policies are to be looked at, until `until`: those that groups name, and those
    /// that none names any more and that have a policy of ours.
    async fn claim_policies(
        &self,
        limit: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Vec<ClaimedPolicy>>;

    /// Remembers how a look ended; the next one is at `next`.
    async fn policy_looked(
        &self,
        claimed: &ClaimedPolicy,
        outcome: &PolicyOutcome,
        now: Timestamp,
        next: Timestamp,
    ) -> StoreResult<()>;

    /// How all of them stand.
    async fn policies(&self) -> StoreResult<PolicySummary>;
}
