//! Named configurations.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::config::Config;
use crate::{Page, Paged, StoreResult};

/// Named configurations.
#[async_trait]
pub trait Configs {
    /// Creates the configuration `default` with our defaults if it is not there; tells whether it did.
    async fn ensure_default_config(&self, now: Timestamp) -> StoreResult<bool>;

    /// Creates a configuration. What the document leaves out is not said, and stays so.
    ///
    /// `Invalid` with what is wrong in it, `Conflict` where the name is taken.
    async fn create_config(&self, name: &str, document: Value, now: Timestamp) -> StoreResult<Config>;

    /// Applies a merge patch (RFC 7396).
    async fn patch_config(&self, name: &str, patch: Value, now: Timestamp) -> StoreResult<Config>;

    /// Deletes a configuration. `Invalid` while a satellite has it, and for `default`.
    async fn delete_config(&self, name: &str, now: Timestamp) -> StoreResult<()>;

    /// The configuration called `name`.
    async fn config(&self, name: &str) -> StoreResult<Config>;

    /// Configurations by name.
    async fn configs(&self, page: Page) -> StoreResult<Paged<Config>>;
}
