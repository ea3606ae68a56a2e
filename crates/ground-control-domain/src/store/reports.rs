//! What satellites report.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::heartbeat::{CachedImage, Heartbeat, HeartbeatOutcome, HeartbeatRecord, Report, Sender};
use crate::{Page, Paged, StoreResult};

/// What satellites report.
#[async_trait]
pub trait Reports {
    /// What is known of the satellites of these names, by name; nothing of those that are not there or deleted. One query.
    async fn senders(&self, names: &[String]) -> StoreResult<HashMap<String, Sender>>;

    /// Records authenticated reports, all in one transaction; the outcomes are in the order given.
    ///
    /// The first report ends the replay of the token that the satellite registered with.
    async fn record_heartbeats(&self, batch: &[HeartbeatRecord]) -> StoreResult<Vec<HeartbeatOutcome>>;

    /// The latest report of the satellite called `name`; `None` before the first.
    async fn latest_heartbeat(&self, name: &str) -> StoreResult<Option<Heartbeat>>;

    /// The same without its images and its nodes.
    async fn latest_report(&self, name: &str) -> StoreResult<Option<Report>>;

    /// The last reports of the satellite called `name`, newest first, at most [`crate::heartbeat::HISTORY`].
    async fn heartbeat_history(&self, name: &str) -> StoreResult<Vec<Heartbeat>>;

    /// The images that the satellite called `name` reported last, by reference.
    async fn cached_images(&self, name: &str, page: Page) -> StoreResult<Paged<CachedImage>>;
}
