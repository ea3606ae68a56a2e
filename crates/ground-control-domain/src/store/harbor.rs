//! Robots at Harbor, where it is the central registry.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::harbor::comparison::KnownRobot;
use crate::harbor::{
    Account, GroupAccounts, GroupTurn, HandOut, MadeRobot, Site, SiteCounts, SiteRobot, SiteStatus, Wish,
};
use crate::satellite::Robot;
use crate::secret::Hashed;
use crate::ztr::{ClaimRefusal, Claimant};
use crate::{SatelliteId, StoreResult};

/// Satellites as Harbor is to know them: whose turn it is, and who waits for that.
#[async_trait]
pub trait Sites {
    /// Records every satellite that is let in and was never seen to; tells how many there were.
    async fn adopt_sites(&self, now: Timestamp) -> StoreResult<u64>;

    /// Claims at most `most` sites that are due, until `until`: no other keeper gets them before.
    async fn due_sites(&self, most: u32, now: Timestamp, until: Timestamp) -> StoreResult<Vec<SatelliteId>>;

    /// A keeper that is still at work goes on holding a site that it claimed until `held`. Nothing where it is not its any more.
    async fn hold_site(&self, satellite: &SatelliteId, held: Timestamp, until: Timestamp) -> StoreResult<()>;

    /// A site as the records stand now, in one moment.
    async fn site(&self, satellite: &SatelliteId) -> StoreResult<Option<Site>>;

    /// There is nothing more to do for the site until `rest`, unless something was asked for since it was read.
    async fn site_settled(&self, site: &Site, rest: Option<Timestamp>) -> StoreResult<()>;

    /// It failed and is tried again at `at`. `given_up`: nobody has to wait for it.
    async fn site_failed(
        &self,
        site: &Site,
        reason: &str,
        given_up: bool,
        now: Timestamp,
        at: Timestamp,
    ) -> StoreResult<()>;

    /// Something that the satellite's robots follow from may have changed, by the intent `change`; the same intent asks once.
    async fn ask_site(&self, satellite: &str, change: &str, now: Timestamp) -> StoreResult<()>;

    /// Whether the document of a satellite has to wait: its groups name a project that a robot of its does not have yet, and is
    /// being given. Nobody waits for what has failed, and for a satellite that has no robot.
    async fn site_waits(&self, satellite: &str) -> StoreResult<bool>;

    /// Whether the document of a group may be published. A project that its list gained since is asked for all of its
    /// satellites first; one that it lost is taken from them, and nobody waits for that.
    async fn group_turn(&self, group: &str, now: Timestamp) -> StoreResult<GroupTurn>;
}

/// Robots at Harbor. Only the keeper changes what is recorded of one robot; handing out and shutting out change roles.
#[async_trait]
pub trait SiteRobots {
    /// Records the intent to make a robot.
    async fn begin_robot(
        &self,
        satellite: &SatelliteId,
        number: u32,
        attempt: &str,
        now: Timestamp,
    ) -> StoreResult<()>;

    /// A request to make it is about to be sent, or certainly made nothing.
    async fn robot_tried(&self, robot: &str, tried: bool) -> StoreResult<()>;

    /// Its name is taken: another one is tried.
    async fn rename_robot(&self, robot: &str, number: u32, attempt: &str) -> StoreResult<()>;

    /// It is made: prepared, or condemned where its satellite was shut out meanwhile.
    async fn robot_made(&self, robot: &str, made: MadeRobot) -> StoreResult<()>;

    /// It has these projects now.
    async fn robot_permitted(&self, robot: &str, projects: &BTreeSet<String>) -> StoreResult<()>;

    /// It ends then.
    async fn robot_extended(&self, robot: &str, expires_at: Option<Timestamp>) -> StoreResult<()>;

    /// Harbor does not know it any more.
    async fn robot_gone(&self, robot: &str) -> StoreResult<()>;

    /// It is to be deleted.
    async fn condemn_robot(&self, robot: &str) -> StoreResult<()>;

    /// It is not at Harbor. The record goes, unless a revoked satellite is to be known by it.
    async fn robot_removed(&self, robot: &str) -> StoreResult<()>;

    /// Claims a one-time token for a robot that is ready, atomically ([`crate::ztr::decide`]); where none is the token stays as
    /// it was.
    async fn claim_robot(
        &self,
        token: &Hashed,
        claimant: &Claimant,
        now: Timestamp,
    ) -> StoreResult<Result<HandOut, ClaimRefusal>>;

    /// Hands a robot to a satellite that has shown its identity; the one seen in use last stays good until this one is.
    async fn grant_robot(&self, satellite: &SatelliteId, wish: Wish, now: Timestamp) -> StoreResult<HandOut>;

    /// Hands a robot to a satellite that has presented the secret of another one, which stays good until this one is used.
    async fn rotate_robot(
        &self,
        satellite: &SatelliteId,
        presented: &Hashed,
        now: Timestamp,
    ) -> StoreResult<HandOut>;

    /// The robot of this name whose secret it is, if it was handed out and is not to go; of a revoked satellite any that was.
    async fn robot_account(&self, username: &str, presented: &Hashed) -> StoreResult<Option<Robot>>;

    /// The robots of a satellite: for what its report says of them.
    async fn robots_of(&self, satellite: &SatelliteId) -> StoreResult<Vec<SiteRobot>>;

    /// A robot was seen in use: those that were handed out before it are to go. Cheap to repeat.
    async fn robot_in_use(&self, satellite: &SatelliteId, robot: &str, now: Timestamp) -> StoreResult<()>;

    /// Robots that are recorded to be at Harbor, by our identifier, at most `most` after this one.
    async fn known_robots(&self, after: &str, most: u32) -> StoreResult<Vec<KnownRobot>>;
}

/// What is shown of robots at Harbor, and what is remembered of our own account there.
#[async_trait]
pub trait SiteAccounts {
    /// What is shown of a satellite's robots; `None` where there never was one.
    async fn site_status(&self, satellite: &str) -> StoreResult<Option<SiteStatus>>;

    /// How far the robots of a group's satellites are.
    async fn group_accounts(&self, group: &str, most: u32) -> StoreResult<GroupAccounts>;

    /// How many sites stand how.
    async fn site_counts(&self) -> StoreResult<SiteCounts>;

    /// What kind of account this login at Harbor is, where that was learnt.
    async fn harbor_account(&self, username: &str) -> StoreResult<Option<Account>>;

    /// Remembers it; `None` where Harbor is not the central registry.
    async fn set_harbor_account(&self, login: Option<(&str, Account)>) -> StoreResult<()>;
}
