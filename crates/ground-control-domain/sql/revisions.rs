//! The history of groups.

use ground_control_domain::group::{Artifact, Group};
use ground_control_domain::revision::{HISTORY, Revision, RevisionDetail, difference};
use ground_control_domain::{Entity, Page, Paged, StoreError, StoreResult};
use jiff::Timestamp;

use super::{During, count, json, millis, read_json, time};
use crate::dialect::Connection;

/// Whose change it is.
pub(super) struct Origin<'a> {
    pub(super) author: &'a str,
    pub(super) restored_from: Option<u64>,
}

struct Row {
    number: i64,
    author: String,
    created_at: i64,
    restored_from: Option<i64>,
    added: i64,
    removed: i64,
    changed: i64,
    reordered: bool,
}

impl Row {
    fn revision(self, operation: &'static str) -> StoreResult<Revision> {
        Ok(Revision {
            number: count(self.number),
            author: self.author,
            created_at: time(operation, self.created_at)?,
            restored_from: self.restored_from.map(count),
            added: count(self.added),
            removed: count(self.removed),
            changed: count(self.changed),
            reordered: self.reordered,
        })
    }
}

/// Writes down that the list became `after`, and forgets what is too old.
///
/// A program that knew no revisions may have changed the list since the latest one: what it left behind becomes a
/// revision of nobody's first, so that it can be restored, too.
pub(super) async fn record(
    connection: &mut Connection,
    group_id: &str,
    before: Option<&Group>,
    after: &[Artifact],
    by: &Origin<'_>,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let latest = sqlx::query!(
        "SELECT number, created_at FROM group_revisions WHERE group_id = $1 ORDER BY number DESC LIMIT 1",
        group_id
    )
    .fetch_optional(&mut *connection)
    .await
    .during(operation)?;
    let mut number = latest.as_ref().map_or(0, |latest| latest.number);
    let known = latest.map(|latest| latest.created_at);
    if let Some(group) = before.filter(|group| known != Some(millis(group.updated_at))) {
        let list = match number {
            0 => Vec::new(),
            _ => load(connection, group_id, count(number), operation).await?.artifacts,
        };
        number += 1;
        let nobody = Origin { author: "", restored_from: None };
        insert(
            connection,
            (group_id, number),
            (&list, &group.artifacts),
            &nobody,
            group.updated_at,
            operation,
        )
        .await?;
    }
    number += 1;
    let list = before.map_or(&[][..], |group| &group.artifacts);
    insert(connection, (group_id, number), (list, after), by, now, operation).await?;
    let oldest = number - HISTORY;
    sqlx::query!("DELETE FROM group_revisions WHERE group_id = $1 AND number <= $2", group_id, oldest)
        .execute(connection)
        .await
        .during(operation)
        .map(drop)
}

async fn insert(
    connection: &mut Connection,
    (group_id, number): (&str, i64),
    (before, after): (&[Artifact], &[Artifact]),
    by: &Origin<'_>,
    at: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let difference = difference(before, after);
    let length = |list: usize| i64::try_from(list).unwrap_or(i64::MAX);
    let (added, removed) = (length(difference.added.len()), length(difference.removed.len()));
    let changed = length(difference.changed.len());
    let restored_from = by.restored_from.and_then(|number| i64::try_from(number).ok());
    let (artifacts, text) = (json(operation, &after)?, json(operation, &difference)?);
    let at = millis(at);
    sqlx::query!(
        "INSERT INTO group_revisions (group_id, number, author, created_at, restored_from, added, removed, changed,
                                      reordered, artifacts, difference)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        group_id,
        number,
        by.author,
        at,
        restored_from,
        added,
        removed,
        changed,
        difference.reordered,
        artifacts,
        text
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// A page of a group's history, newest first.
pub(super) async fn list(
    connection: &mut Connection,
    group_id: &str,
    page: Page,
    operation: &'static str,
) -> StoreResult<Paged<Revision>> {
    let (limit, offset) = (page.limit(), page.offset());
    let total = sqlx::query_scalar!(
        r#"SELECT COUNT(*) AS "n!: i64" FROM group_revisions WHERE group_id = $1"#,
        group_id
    )
    .fetch_one(&mut *connection)
    .await
    .during(operation)?;
    let items = sqlx::query_as!(
        Row,
        "SELECT number, author, created_at, restored_from, added, removed, changed, reordered
         FROM group_revisions WHERE group_id = $1 ORDER BY number DESC LIMIT $2 OFFSET $3",
        group_id,
        limit,
        offset
    )
    .fetch_all(connection)
    .await
    .during(operation)?
    .into_iter()
    .map(|row| row.revision(operation))
    .collect::<StoreResult<_>>()?;
    Ok(Paged { items, total: count(total) })
}

/// One revision with its list.
pub(super) async fn load(
    connection: &mut Connection,
    group_id: &str,
    number: u64,
    operation: &'static str,
) -> StoreResult<RevisionDetail> {
    let missing = || StoreError::not_found(Entity::Revision, number.to_string());
    let number = i64::try_from(number).map_err(|_| missing())?;
    let row = sqlx::query!(
        "SELECT author, created_at, restored_from, added, removed, changed, reordered, artifacts, difference
         FROM group_revisions WHERE group_id = $1 AND number = $2",
        group_id,
        number
    )
    .fetch_optional(connection)
    .await
    .during(operation)?
    .ok_or_else(missing)?;
    Ok(RevisionDetail {
        artifacts: read_json(operation, &row.artifacts)?,
        difference: read_json(operation, &row.difference)?,
        revision: Row {
            number,
            author: row.author,
            created_at: row.created_at,
            restored_from: row.restored_from,
            added: row.added,
            removed: row.removed,
            changed: row.changed,
            reordered: row.reordered,
        }
        .revision(operation)?,
    })
}

/// The latest revision with its list.
pub(super) async fn latest(
    connection: &mut Connection,
    group_id: &str,
    operation: &'static str,
) -> StoreResult<RevisionDetail> {
    let number = sqlx::query_scalar!(
        r#"SELECT COALESCE(MAX(number), 0) AS "n!: i64" FROM group_revisions WHERE group_id = $1"#,
        group_id
    )
    .fetch_one(&mut *connection)
    .await
    .during(operation)?;
    load(connection, group_id, count(number), operation).await
}
