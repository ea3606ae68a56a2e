//! Satellites, their registration, their robots and their reports.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::satellite::{NewSatellite, Robot, Satellite, SatelliteFilter};
use crate::secret::Hashed;
use crate::ztr::{ClaimAttempt, ClaimGrant, ClaimRefusal};
use crate::{Page, Paged, SatelliteId, StoreResult};

/// A robot's new secret.
#[derive(Debug, Clone)]
pub struct RotateSecret {
    /// Whose robot.
    pub satellite: SatelliteId,
    /// The hash that the request was authenticated with: it stays good until the new one is used. A request that
    /// presented neither the present nor the previous secret by now is refused.
    pub presented: Hashed,
    /// The hash of the new secret.
    pub new_secret: Hashed,
}

/// Satellites, their registration, their robots and their reports.
#[async_trait]
pub trait Satellites {
    /// Creates a satellite with its groups, configuration and one-time token.
    ///
    /// `Invalid` for a bad name, `Conflict` where the name is in use, `NotFound` for a group or configuration.
    async fn create_satellite(&self, new: NewSatellite, now: Timestamp) -> StoreResult<Satellite>;

    /// The satellite called `name`, unless deleted.
    async fn satellite(&self, name: &str) -> StoreResult<Satellite>;

    /// Satellites by name.
    async fn satellites(&self, filter: SatelliteFilter, page: Page) -> StoreResult<Paged<Satellite>>;

    /// Applies a merge patch ([`crate::label::patched`]) to a satellite's labels; groups whose selectors choose by them gain
    /// or lose it in the same transaction. `Invalid` where the result would not be
    /// labels.
    async fn patch_labels(&self, satellite: &str, patch: &Value, now: Timestamp) -> StoreResult<Satellite>;

    /// Deletes a satellite: its credentials, keys, tokens and memberships end at once, what was registered for it is due to
    /// be withdrawn, its row stays for the audit.
    async fn delete_satellite(&self, name: &str, now: Timestamp) -> StoreResult<()>;

    /// Puts a satellite into a group; in it already is no error.
    async fn join_group(&self, satellite: &str, group: &str, now: Timestamp) -> StoreResult<()>;

    /// Takes a satellite out of a group; not in it is no error. `Conflict` where the group's selector chooses it.
    async fn leave_group(&self, satellite: &str, group: &str, now: Timestamp) -> StoreResult<()>;

    /// Gives a satellite a configuration.
    async fn assign_config(&self, satellite: &str, config: &str, now: Timestamp) -> StoreResult<()>;

    /// Claims a one-time token and sets the robot's secret, atomically ([`crate::ztr::decide`]).
    async fn claim_token(
        &self,
        attempt: ClaimAttempt,
        now: Timestamp,
    ) -> StoreResult<Result<ClaimGrant, ClaimRefusal>>;

    /// The robot of the satellite called `satellite`; `None` where there is none, as after a deletion.
    async fn robot(&self, satellite: &str) -> StoreResult<Option<Robot>>;

    /// Gives a robot a new secret; tells whether `presented` was still good.
    async fn rotate_secret(&self, rotate: RotateSecret, now: Timestamp) -> StoreResult<bool>;

    /// The present secret was used: the previous one ends. Cheap to repeat.
    async fn robot_secret_used(&self, satellite: &SatelliteId, secret: &Hashed) -> StoreResult<()>;

    /// Every repository that a satellite's robot may pull: those of the artifacts of its groups (what is marked
    /// deleted excepted), its own state, its groups' states and its configuration. Sorted; empty for a satellite that
    /// is not admitted.
    async fn pullable(&self, satellite: &SatelliteId) -> StoreResult<Vec<String>>;
}
