//! The audit's rows, and how far they have been sent on.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreResult;
use crate::audit::{AuditFilter, AuditFrom, Entry, Event, Refusal, SinkCursor};

/// The audit's rows, and how far they have been sent on. Rows of changes are written by the methods that make them.
#[async_trait]
pub trait AuditTrail {
    /// At most `limit` rows that `filter` chooses.
    ///
    /// Rows become visible in the order of their numbers: who asks for what is after the last number it has seen misses none.
    async fn audit_entries(
        &self,
        filter: &AuditFilter,
        from: AuditFrom,
        limit: u32,
    ) -> StoreResult<Vec<Entry>>;

    /// The number of the last row; 0 where there has been none.
    async fn audit_end(&self) -> StoreResult<u64>;

    /// Writes a row of what was done and changed no other row of the database.
    async fn record_event(&self, event: &Event) -> StoreResult<()>;

    /// Writes rows of refusals, all in one transaction.
    async fn record_refusals(&self, refusals: &[Refusal]) -> StoreResult<()>;

    /// Removes the oldest rows, at most `most` of them: those recorded before `before`, and those beyond the last `keep`. Tells how many it
    /// removed.
    async fn prune_audit(&self, keep: u64, before: Timestamp, most: u32) -> StoreResult<u64>;

    /// Takes or keeps the lease of a sink for `holder`, until `until`; `None` where another one holds it. A sink that nobody
    /// knew begins at the oldest row that is kept.
    async fn claim_sink(
        &self,
        sink: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Option<SinkCursor>>;

    /// Notes how far a sink has got and keeps its lease; `false` where `holder` has lost it, and then nothing is noted.
    async fn move_sink(
        &self,
        sink: &str,
        holder: &str,
        cursor: SinkCursor,
        until: Timestamp,
    ) -> StoreResult<bool>;
}
