//! How what satellites hold differs from what they shall have: decided by the database, many satellites at a time.
//!
//! Looked at again are satellites that report another list of images or other artifacts under way, satellites whose own
//! document is published anew, and, page by page, all members of a group whose list is published anew.

use ground_control_domain::StoreResult;
use ground_control_domain::heartbeat::HeartbeatRecord;
use sqlx::QueryBuilder;

use super::{During, SqlStore, among, pieces};
use crate::dialect::{self, Connection, Driver};

/// How many members of a group are looked at in one transaction.
const MEMBERS: i64 = 256;

/// Looks again at what these satellites hold and shall have.
pub(super) async fn look_again(
    connection: &mut Connection,
    mut ids: Vec<String>,
    operation: &'static str,
) -> StoreResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    ids.sort_unstable();
    ids.dedup();
    // Whoever looks changes rows in the order that the database finds them in: one at a time, then.
    dialect::lock_drift(connection).await.during(operation)?;
    for some in pieces(&ids) {
        let mut query = QueryBuilder::<Driver>::new(
            "INSERT INTO satellite_drift (satellite_id, satellite, missing, excess, drift)
             SELECT d.id, d.name, d.missing, d.excess, d.missing + d.excess > 0 FROM (
                 SELECT s.id AS id, s.name AS name,
                     (SELECT COUNT(DISTINCT a.digest)
                      FROM group_members m JOIN published_artifacts a ON a.group_id = m.group_id
                      WHERE m.satellite_id = s.id AND a.digest <> '' AND NOT EXISTS (
                          SELECT 1 FROM cached_images c WHERE c.satellite_id = s.id AND c.digest = a.digest)
                     ) AS missing,
                     (SELECT COUNT(DISTINCT c.digest) FROM cached_images c
                      WHERE c.satellite_id = s.id AND c.digest <> '' AND NOT EXISTS (
                          SELECT 1 FROM group_members m JOIN published_artifacts a ON a.group_id = m.group_id
                          WHERE m.satellite_id = s.id AND a.digest = c.digest)
                     ) AS excess
                 FROM satellites s WHERE s.id IN (",
        );
        among(&mut query, some.iter().cloned());
        query.push(
            ") d WHERE TRUE
             ON CONFLICT (satellite_id) DO UPDATE SET
                 missing = excluded.missing, excess = excluded.excess, drift = excluded.drift
             WHERE satellite_drift.missing <> excluded.missing OR satellite_drift.excess <> excluded.excess",
        );
        query.build().execute(&mut *connection).await.during(operation)?;
        let mut query = QueryBuilder::<Driver>::new(
            "UPDATE group_members SET progress = p.progress FROM (
                 SELECT m.group_id, m.satellite_id, CASE
                     WHEN NOT EXISTS (
                         SELECT 1 FROM published_artifacts a WHERE a.group_id = m.group_id AND a.digest <> ''
                             AND NOT EXISTS (SELECT 1 FROM cached_images c
                                             WHERE c.satellite_id = m.satellite_id AND c.digest = a.digest))
                         THEN 'current'
                     WHEN EXISTS (
                         SELECT 1 FROM pending_artifacts w
                             JOIN published_artifacts a ON a.group_id = m.group_id AND a.digest = w.digest
                         WHERE w.satellite_id = m.satellite_id AND w.state = 'failed')
                         THEN 'failed'
                     WHEN EXISTS (
                         SELECT 1 FROM pending_artifacts w
                             JOIN published_artifacts a ON a.group_id = m.group_id AND a.digest = w.digest
                         WHERE w.satellite_id = m.satellite_id AND w.state = 'fetching')
                         THEN 'fetching'
                     ELSE 'waiting' END AS progress
                 FROM group_members m WHERE m.satellite_id IN (",
        );
        among(&mut query, some.iter().cloned());
        query.push(
            ") p WHERE p.group_id = group_members.group_id AND p.satellite_id = group_members.satellite_id
                 AND group_members.progress <> p.progress",
        );
        query.build().execute(&mut *connection).await.during(operation)?;
    }
    Ok(())
}

/// The members of a group are to be looked at again, from the first one.
pub(super) async fn enqueue_group(
    connection: &mut Connection,
    group_id: &str,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "INSERT INTO drift_work (group_id, number, after) VALUES ($1, 0, '')
         ON CONFLICT (group_id) DO UPDATE SET number = drift_work.number + 1, after = excluded.after",
        group_id
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// Keeps what some reports say of artifacts that are not there yet.
pub(super) async fn replace_pending(
    connection: &mut Connection,
    records: &[&HeartbeatRecord],
    operation: &'static str,
) -> StoreResult<()> {
    let ids: Vec<&str> = records.iter().map(|record| record.satellite.as_str()).collect();
    for some in pieces(&ids) {
        let mut query = QueryBuilder::<Driver>::new("DELETE FROM pending_artifacts WHERE satellite_id IN (");
        among(&mut query, some.iter().map(|id| (*id).to_owned()));
        query.build().execute(&mut *connection).await.during(operation)?;
    }
    for record in records {
        let id = record.satellite.as_str();
        for (digest, state) in record.pending() {
            sqlx::query!(
                "INSERT INTO pending_artifacts (satellite_id, digest, state) VALUES ($1, $2, $3)",
                id,
                digest,
                state
            )
            .execute(&mut *connection)
            .await
            .during(operation)?;
        }
    }
    Ok(())
}

impl SqlStore {
    /// [`ground_control_domain::store::Rollouts::look_at_members`].
    pub(super) async fn next_members(&self) -> StoreResult<bool> {
        const OPERATION: &str = "look at the members of a group";
        let mut connection = self.database.read(OPERATION).await?;
        let work = sqlx::query!("SELECT group_id, number, after FROM drift_work ORDER BY group_id LIMIT 1")
            .fetch_optional(&mut *connection)
            .await
            .during(OPERATION)?;
        let Some(work) = work else { return Ok(false) };
        drop(connection);
        let mut tx = self.database.rows(OPERATION).await?;
        let ids = sqlx::query_scalar!(
            "SELECT satellite_id FROM group_members WHERE group_id = $1 AND satellite_id > $2
             ORDER BY satellite_id LIMIT $3",
            work.group_id,
            work.after,
            MEMBERS
        )
        .fetch_all(&mut *tx)
        .await
        .during(OPERATION)?;
        let last = ids.last().cloned();
        look_again(&mut tx, ids, OPERATION).await?;
        // Unless the list was published once more meanwhile: then from the first one again.
        match last {
            Some(last) => sqlx::query!(
                "UPDATE drift_work SET after = $1 WHERE group_id = $2 AND number = $3 AND after = $4",
                last,
                work.group_id,
                work.number,
                work.after
            )
            .execute(&mut *tx)
            .await
            .during(OPERATION)?,
            None => sqlx::query!(
                "DELETE FROM drift_work WHERE group_id = $1 AND number = $2 AND after = $3",
                work.group_id,
                work.number,
                work.after
            )
            .execute(&mut *tx)
            .await
            .during(OPERATION)?,
        };
        tx.commit().await.during(OPERATION)?;
        Ok(true)
    }
}
