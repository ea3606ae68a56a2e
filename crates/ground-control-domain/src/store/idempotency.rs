//! Keys of requests that make something once.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreResult;
use crate::idempotency::{Attempt, Claim, Outcome};

/// Keys of requests that make something once.
///
/// Where a store is on terms with a claim ([`super::Terms`]), each of its changes marks the claim's key in its transaction, and
/// is refused (`Conflict`) where somebody else has taken the key over.
#[async_trait]
pub trait Idempotency {
    /// Claims a key, or tells what is known of it. A claim whose time is over, and which made nothing, is taken over.
    async fn claim_key(&self, attempt: &Attempt, now: Timestamp) -> StoreResult<Outcome>;

    /// Keeps the answer, until `until`: `None` where it is too large to be kept. `false` where the claim is somebody else's by
    /// now.
    async fn keep_answer(
        &self,
        claim: &Claim,
        status: u16,
        answer: Option<&str>,
        until: Timestamp,
    ) -> StoreResult<bool>;

    /// Forgets a key with which nothing was made: the same request may be sent again.
    async fn release_key(&self, claim: &Claim) -> StoreResult<()>;

    /// Removes what has ended: answers first, keys later.
    async fn purge_keys(&self, now: Timestamp) -> StoreResult<()>;
}
