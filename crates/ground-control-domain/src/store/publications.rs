//! What is published, in order: what answers to satellites are made of.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreResult;
use crate::desired::{Position, Publication};

/// What is published, in order. Numbers are seen in their order: whoever has read all up to a [`Position`] has missed
/// nothing before it.
#[async_trait]
pub trait Publications {
    /// How far publications and shuttings out have counted. One cheap query.
    async fn position(&self) -> StoreResult<Position>;

    /// Documents whose last publication or removal has a number after `after` and up to `until`, by number, at most `limit`.
    async fn publications(&self, after: u64, until: u64, limit: u32) -> StoreResult<Vec<Publication>>;

    /// Names of the satellites that were revoked or deleted last at a number after `after` and up to `until`.
    async fn shut_out(&self, after: u64, until: u64) -> StoreResult<Vec<String>>;

    /// Asks for the documents that a program which knows no numbers has published; tells how many.
    async fn ask_for_unnumbered(&self, now: Timestamp) -> StoreResult<u64>;
}
