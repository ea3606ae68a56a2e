//! Groups and their artifacts.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::group::{Artifact, Group};
use crate::label::Selector;
use crate::revision::{Revision, RevisionDetail};
use crate::{Page, Paged, StoreResult};

/// Groups and their artifacts.
#[async_trait]
pub trait Groups {
    /// Replaces the list of the group called `name`, which is created if it is not there. Where that changes something
    /// it is a revision of `author`; the same list again is none.
    ///
    /// `Invalid` for a bad name or repository, or for too long a list.
    async fn sync_group(
        &self,
        name: &str,
        artifacts: Vec<Artifact>,
        author: &str,
        now: Timestamp,
    ) -> StoreResult<Group>;

    /// The group called `name`, with its list.
    async fn group(&self, name: &str) -> StoreResult<Group>;

    /// Groups by name, with their lists.
    async fn groups(&self, page: Page) -> StoreResult<Paged<Group>>;

    /// The last revisions of a group, newest first, at most [`crate::revision::HISTORY`]. A group that nobody has changed
    /// since revisions are kept has none.
    async fn revisions(&self, name: &str, page: Page) -> StoreResult<Paged<Revision>>;

    /// One of them, with its list.
    async fn revision(&self, name: &str, number: u64) -> StoreResult<RevisionDetail>;

    /// Gives the group the list of an earlier revision and answers the revision that this made; the latest one, where the
    /// group has that list already.
    async fn restore_revision(
        &self,
        name: &str,
        number: u64,
        author: &str,
        now: Timestamp,
    ) -> StoreResult<RevisionDetail>;

    /// Gives a group a selector, or none: satellites whose labels meet it are in the group, beside those that are in it by
    /// name. Who comes and who goes is decided in the same transaction, here and with every change of a label.
    ///
    /// `Invalid` for a selector that [`crate::group::check_selector`] refuses.
    async fn set_selector(
        &self,
        name: &str,
        selector: Option<Selector>,
        now: Timestamp,
    ) -> StoreResult<Group>;

    /// Deletes a group with its revisions; its satellites lose it.
    async fn delete_group(&self, name: &str, now: Timestamp) -> StoreResult<()>;
}
