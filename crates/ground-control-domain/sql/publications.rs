//! What is published, in the order in which it was.

use async_trait::async_trait;
use ground_control_domain::desired::{Position, Publication};
use ground_control_domain::document::{DocumentKey, DocumentKind};
use ground_control_domain::store::{DocumentSource, Publications};
use ground_control_domain::{StoreError, StoreResult};
use jiff::Timestamp;

use super::{During, SqlStore, count, drift, json, outbox, read, read_json};
use crate::dialect::Connection;

/// Takes the next number for a publication or a shutting out. Last in a transaction: from here on until it ends everybody
/// else who wants a number waits.
pub(super) async fn next_number(connection: &mut Connection, operation: &'static str) -> StoreResult<i64> {
    sqlx::query_scalar!(
        r#"UPDATE counters SET value = value + 1 WHERE name = 'changes' RETURNING value AS "value!: i64""#
    )
    .fetch_one(connection)
    .await
    .during(operation)
}

/// The satellite of this id is shut out: to be found by whoever reads in order.
pub(super) async fn shut_out(
    connection: &mut Connection,
    satellite_id: &str,
    operation: &'static str,
) -> StoreResult<()> {
    let number = next_number(&mut *connection, operation).await?;
    sqlx::query!("UPDATE satellites SET shut_out = $1 WHERE id = $2", number, satellite_id)
        .execute(connection)
        .await
        .during(operation)
        .map(drop)
}

/// Keeps what a document was published with, and has looked again at the satellites that it concerns.
pub(super) async fn keep(
    connection: &mut Connection,
    document: &DocumentKey,
    source: &DocumentSource,
    operation: &'static str,
) -> StoreResult<()> {
    if document.kind == DocumentKind::Satellite {
        let id = sqlx::query_scalar!(
            "SELECT id FROM satellites WHERE name = $1 AND state <> 'deleted'",
            document.name
        )
        .fetch_optional(&mut *connection)
        .await
        .during(operation)?;
        return drift::look_again(connection, id.into_iter().collect(), operation).await;
    }
    let DocumentSource::Group(listed) = source else { return Ok(()) };
    let group = sqlx::query_scalar!("SELECT id FROM artifact_groups WHERE name = $1", document.name)
        .fetch_optional(&mut *connection)
        .await
        .during(operation)?;
    // Deleted since: its document goes next.
    let Some(group) = group else { return Ok(()) };
    sqlx::query!("DELETE FROM published_artifacts WHERE group_id = $1", group)
        .execute(&mut *connection)
        .await
        .during(operation)?;
    for (ordinal, artifact) in listed.artifacts.iter().enumerate().filter(|(_, artifact)| !artifact.deleted) {
        let ordinal = i64::try_from(ordinal).unwrap_or(i64::MAX);
        let (repository, tags) = (artifact.repository.as_str(), json(operation, &artifact.tags)?);
        let digest = artifact.digest.map(|digest| digest.to_string()).unwrap_or_default();
        sqlx::query!(
            "INSERT INTO published_artifacts (group_id, ordinal, repository, tags, digest)
             VALUES ($1, $2, $3, $4, $5)",
            group,
            ordinal,
            repository,
            tags,
            digest
        )
        .execute(&mut *connection)
        .await
        .during(operation)?;
    }
    drift::enqueue_group(connection, &group, operation).await
}

#[async_trait]
impl Publications for SqlStore {
    async fn position(&self) -> StoreResult<Position> {
        const OPERATION: &str = "look how far publications are";
        let mut connection = self.database.read(OPERATION).await?;
        let row = sqlx::query!(
            r#"SELECT c.value AS "number!: i64", e.value AS "epoch?"
               FROM counters c LEFT JOIN settings e ON e.name = 'epoch' WHERE c.name = 'changes'"#
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        let epoch = match row.epoch {
            Some(text) => read(OPERATION, &text)?,
            None => 0,
        };
        Ok(Position { epoch, number: count(row.number) })
    }

    async fn publications(&self, after: u64, until: u64, limit: u32) -> StoreResult<Vec<Publication>> {
        const OPERATION: &str = "read what was published";
        let (after, until) = (bound(after)?, bound(until)?);
        let limit = i64::from(limit);
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query!(
            "SELECT number, document, digest, names FROM published
             WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3",
            after,
            until,
            limit
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| {
            Ok(Publication {
                number: count(row.number),
                document: read(OPERATION, &row.document)?,
                digest: match row.digest.as_str() {
                    "" => None,
                    digest => Some(read(OPERATION, digest)?),
                },
                named: match row.names.as_str() {
                    "" => None,
                    names => Some(read_json(OPERATION, names)?),
                },
            })
        })
        .collect()
    }

    async fn shut_out(&self, after: u64, until: u64) -> StoreResult<Vec<String>> {
        const OPERATION: &str = "read who was shut out";
        let (after, until) = (bound(after)?, bound(until)?);
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_scalar!(
            "SELECT name FROM satellites WHERE shut_out > 0 AND shut_out > $1 AND shut_out <= $2",
            after,
            until
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)
    }

    async fn ask_for_unnumbered(&self, now: Timestamp) -> StoreResult<u64> {
        const OPERATION: &str = "ask for documents without a number";
        self.name_unlisted(OPERATION).await?;
        let mut connection = self.database.read(OPERATION).await?;
        let any = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM published WHERE numbered <> generation AND digest <> '') AS "any!: bool""#
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        drop(connection);
        if !any {
            return Ok(0);
        }
        let mut tx = self.database.fleet(OPERATION).await?;
        let asked = outbox::enqueue_unnumbered(&mut tx, now, OPERATION).await?;
        tx.commit().await.during(OPERATION)?;
        Ok(asked)
    }
}

fn bound(number: u64) -> StoreResult<i64> {
    i64::try_from(number).map_err(|_| StoreError::invalid("no such number"))
}
