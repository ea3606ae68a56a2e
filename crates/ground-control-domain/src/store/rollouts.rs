//! How far what is desired is at the satellites.

use async_trait::async_trait;

use crate::rollout::{Census, Progress, Rollout, SatelliteArtifact};
use crate::{Page, Paged, StoreResult};

/// How far what is desired is at the satellites.
#[async_trait]
pub trait Rollouts {
    /// How the published list of the group called `group` is at its members; a page of those of `progress`, or of all, by name.
    async fn rollout(&self, group: &str, progress: Option<Progress>, page: Page) -> StoreResult<Rollout>;

    /// What the satellite called `satellite` shall have, by group, and then what it holds and nobody wants.
    async fn satellite_artifacts(&self, satellite: &str, page: Page)
    -> StoreResult<Paged<SatelliteArtifact>>;

    /// Looks again at some members of a group whose list was published; `false` where there is nobody left to look at.
    async fn look_at_members(&self) -> StoreResult<bool>;

    /// How satellites are, all together.
    async fn census(&self) -> StoreResult<Census>;
}
