//! What only one replica does at a time.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreResult;

/// Leases: whoever holds one takes it again before it ends, and loses it by staying away.
#[async_trait]
pub trait Leases {
    /// Takes the lease called `name`, or takes it again, until `until`. `Err` of the inner result is when the lease of another
    /// holder ends.
    async fn take_lease(
        &self,
        name: &'static str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Result<(), Timestamp>>;

    /// Gives the lease back, if it is this holder's.
    async fn end_lease(&self, name: &'static str, holder: &str) -> StoreResult<()>;
}
