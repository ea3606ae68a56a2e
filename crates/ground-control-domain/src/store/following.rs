//! What groups follow in the registry, and what was found there.

use async_trait::async_trait;
use jiff::Timestamp;
use oci::RepositoryName;

use crate::StoreResult;
use crate::resolution::{Finding, Resolutions, Selector};

/// A repository to be looked at, claimed for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The repository.
    pub repository: RepositoryName,
    /// Who asked last: ending the look says this, so that what was asked for meanwhile is not swallowed.
    pub change: String,
    /// Looks that failed since the last good one.
    pub attempts: u32,
    /// What groups select there, sorted, each once; none where no group names it any more.
    pub selectors: Vec<Selector>,
}

/// How a look at a repository ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What was found for each selector.
    pub findings: Vec<(Selector, Finding)>,
    /// Why it is to be repeated soon, where the registry did not answer all of it.
    pub failure: Option<String>,
    /// When the repository is looked at again.
    pub next: Timestamp,
}

/// What groups follow in the registry, and what was found there. Only the sweep uses most of this.
#[async_trait]
pub trait Following {
    /// Makes sure that every repository that a group names is looked at (a new one at once), and forgets those that none
    /// names any more, with what was found there.
    async fn follow(&self, now: Timestamp) -> StoreResult<()>;

    /// Claims at most `limit` repositories that are due at `now`, until `until`: nobody else gets them before. Those that
    /// somebody asked for come first.
    async fn claim_followed(
        &self,
        limit: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Vec<Followed>>;

    /// Keeps a claim until `until`: its look is not at its end.
    async fn hold_followed(&self, followed: &Followed, until: Timestamp) -> StoreResult<()>;

    /// Remembers what a look found, and asks for the documents of the groups for which that is something else than
    /// before; tells their names. Nobody changed these groups, so that it is no revision.
    async fn looked(&self, followed: &Followed, look: Look, now: Timestamp) -> StoreResult<Vec<String>>;

    /// Asks for a look at a repository now; `false` where no group names it.
    async fn look_again(&self, repository: &str) -> StoreResult<bool>;

    /// Asks for a look at every repository now.
    async fn look_at_all_again(&self, now: Timestamp) -> StoreResult<u64>;

    /// What is known of what a group lists.
    async fn resolutions(&self, group: &str) -> StoreResult<Resolutions>;

    /// How many tags and rules of all groups are unresolved at this moment.
    async fn unresolved(&self) -> StoreResult<u64>;
}
