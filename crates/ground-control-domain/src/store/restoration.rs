//! A database that was put back from a backup.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreResult;
use crate::backup::{Restored, Standing};

/// What is done once to a database that comes out of a backup, before a server works on it.
#[async_trait]
pub trait Restoration {
    /// How far the database has got.
    async fn standing(&self) -> StoreResult<Standing>;

    /// Makes it one that satellites follow whatever they have seen meanwhile, in one transaction: raises the epoch above its
    /// own and `seen`, numbers what is published anew, ends sessions and one-time tokens that may have been ended or used
    /// since, gives back what killed servers held, asks for every document again, and records that in the audit. `taken_at`:
    /// when the backup was made.
    ///
    /// The new numbers come from the clock, so that two restores of one backup that do not know of each other (same epoch)
    /// are still in order.
    async fn restored(&self, seen: u64, taken_at: Timestamp, now: Timestamp) -> StoreResult<Restored>;
}
