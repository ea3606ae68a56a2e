//! The contract of the database.
//!
//! Every method that changes something is one transaction, the intents to publish that follow from it included:
//! either the change, its outbox rows and its row of the audit are there, or none of them. What changes nothing, because it
//! is so already, is no change and has no row. Times are given by the caller, so that a decision
//! in a transaction and the one the caller made before it see the same moment.

mod audit;
mod configs;
mod external_logins;
mod following;
mod groups;
mod harbor;
mod idempotency;
mod identities;
mod leases;
mod limits;
mod outbox;
mod publications;
mod replication;
mod reports;
mod restoration;
mod rollouts;
mod satellites;
mod tokens;
mod users;
mod webhooks;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::StoreResult;
use crate::audit::Actor;
use crate::change::Change;
use crate::idempotency::Claim;
use crate::version::Condition;

pub use audit::AuditTrail;
pub use configs::Configs;
pub use external_logins::ExternalLogins;
pub use following::{Followed, Following, Look};
pub use groups::Groups;
pub use harbor::{SiteAccounts, SiteRobots, Sites};
pub use idempotency::Idempotency;
pub use identities::Identities;
pub use leases::Leases;
pub use limits::Limits;
pub use outbox::{DocumentSource, GroupSource, Outbox, SatelliteSource};
pub use publications::Publications;
pub use replication::Replication;
pub use reports::Reports;
pub use restoration::Restoration;
pub use rollouts::Rollouts;
pub use satellites::{RotateSecret, Satellites};
pub use tokens::Tokens;
pub use users::Users;
pub use webhooks::Webhooks;

/// What a person's change depends on beside itself. A store on terms is for one request, which makes one change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// That what it addresses is as its author has seen it; compared in the transaction of the change. A change that
    /// addresses nothing that has a version does not meet it.
    pub condition: Option<Condition>,
    /// The idempotency key of the request, which its change marks.
    pub claim: Option<Claim>,
}

/// Everything Ground Control keeps. One implementation per database; used as `Arc<dyn Store>`.
#[async_trait]
pub trait Store:
    Users
    + Tokens
    + Limits
    + ExternalLogins
    + Satellites
    + Reports
    + Rollouts
    + Identities
    + SiteAccounts
    + SiteRobots
    + Sites
    + Groups
    + Following
    + Replication
    + Webhooks
    + Configs
    + Outbox
    + Publications
    + Leases
    + Restoration
    + Idempotency
    + AuditTrail
    + std::fmt::Debug
    + Send
    + Sync
{
    /// The same store, whose changes are recorded in the audit as those of `actor`; those of the store as it was opened are
    /// Ground Control's own. Cheap: made for each request.
    fn acting_for(&self, actor: Actor) -> Arc<dyn Store>;

    /// The same store, whose changes are made on these terms.
    fn on_terms(&self, terms: Terms) -> Arc<dyn Store>;

    /// Whether the database answers, for readiness.
    async fn ping(&self) -> StoreResult<()>;

    /// What is committed from now on, by any replica. A reader that is too slow is told so by the channel (`Lagged`) and takes
    /// that for [`Change::Lost`].
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// Closes every connection; later calls fail.
    async fn close(&self);

    /// Which database this is (`sqlite`, `postgresql`), for logs and status.
    fn kind(&self) -> &'static str;
}
