//! Groups and their artifacts.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::group::{Artifact, Group};
use crate::{Page, Paged, StoreResult};

/// Groups and their artifacts.
#[async_trait]
pub trait Groups {
    /// Replaces the list of the group called `name`, which is created if it is not there.
    ///
    /// `Invalid` for a bad name or repository, or for too long a list.
    async fn sync_group(&self, name: &str, artifacts: Vec<Artifact>, now: Timestamp) -> StoreResult<Group>;

    /// The group called `name`, with its list.
    async fn group(&self, name: &str) -> StoreResult<Group>;

    /// Groups by name, with their lists.
    async fn groups(&self, page: Page) -> StoreResult<Paged<Group>>;

    /// Deletes a group; its satellites lose it.
    async fn delete_group(&self, name: &str, now: Timestamp) -> StoreResult<()>;
}
