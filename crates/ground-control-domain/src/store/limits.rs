//! Limits that all replicas share.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::StoreResult;
use crate::limit::Rate;

/// Limits that all replicas share, and the proof that they share a key.
#[async_trait]
pub trait Limits {
    /// Takes one ([`Rate::take`]); the inner error is how long to wait.
    async fn take(&self, subject: &str, rate: Rate, now: Timestamp) -> StoreResult<Result<(), Duration>>;

    /// How long it takes until there is one to take; none is taken. `None`: there is one.
    async fn exhausted(&self, subject: &str, rate: Rate, now: Timestamp) -> StoreResult<Option<Duration>>;

    /// The check value of the server key: this one is kept where there was none, and the kept one answered.
    async fn key_check(&self, value: &str) -> StoreResult<String>;
}
