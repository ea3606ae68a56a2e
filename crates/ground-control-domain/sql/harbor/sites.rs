//! Sites and their turns: who is due, who works on it, how it ended, and who waits for it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ground_control_domain::harbor::{GroupTurn, Site, SiteRobot};
use ground_control_domain::satellite::SatelliteState;
use ground_control_domain::store::Sites;
use ground_control_domain::{SatelliteId, StoreError, StoreResult};
use jiff::Timestamp;

use super::super::{During, SqlStore, count, json, millis, read, read_json, satellites};
use super::{projects_of_group, projects_of_satellite, robots};
use crate::dialect::Connection;

/// The longest reason that is kept of a failure.
const MAX_REASON: usize = 2000;

#[async_trait]
impl Sites for SqlStore {
    async fn adopt_sites(&self, now: Timestamp) -> StoreResult<u64> {
        const OPERATION: &str = "record sites at Harbor";
        let now = millis(now);
        let mut connection = self.database.read(OPERATION).await?;
        let missing = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM satellites s WHERE s.state IN ('pending', 'online', 'stale')
                   AND NOT EXISTS (SELECT 1 FROM harbor_sites h WHERE h.satellite_id = s.id)) AS "missing!: bool""#
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        drop(connection);
        if !missing {
            return Ok(0);
        }
        let mut tx = self.database.rows(OPERATION).await?;
        let adopted = sqlx::query!(
            "INSERT INTO harbor_sites (satellite_id, due_at)
             SELECT s.id, CAST($1 AS BIGINT) FROM satellites s WHERE s.state IN ('pending', 'online', 'stale')
                 AND NOT EXISTS (SELECT 1 FROM harbor_sites h WHERE h.satellite_id = s.id)
             ON CONFLICT (satellite_id) DO NOTHING",
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(adopted.rows_affected())
    }

    async fn due_sites(&self, most: u32, now: Timestamp, until: Timestamp) -> StoreResult<Vec<SatelliteId>> {
        const OPERATION: &str = "claim sites at Harbor";
        let (now, until, most) = (millis(now), millis(until), i64::from(most));
        let mut connection = self.database.read(OPERATION).await?;
        let due = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM harbor_sites WHERE due_at <= $1 AND claimed_until <= $1) AS "due!: bool""#,
            now
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        drop(connection);
        if !due {
            return Ok(Vec::new());
        }
        let mut tx = self.database.rows(OPERATION).await?;
        // Whoever comes second finds them claimed.
        let claimed = sqlx::query_scalar!(
            r#"UPDATE harbor_sites SET claimed_until = $1
               WHERE due_at <= $2 AND claimed_until <= $2 AND satellite_id IN (
                   SELECT satellite_id FROM harbor_sites WHERE due_at <= $2 AND claimed_until <= $2
                   ORDER BY due_at LIMIT $3)
               RETURNING satellite_id AS "satellite_id!""#,
            until,
            now,
            most
        )
        .fetch_all(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(claimed.into_iter().map(SatelliteId::from).collect())
    }

    async fn hold_site(&self, satellite: &SatelliteId, held: Timestamp, until: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "hold a site at Harbor";
        let (id, held, until) = (satellite.as_str(), millis(held), millis(until));
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE harbor_sites SET claimed_until = $1 WHERE satellite_id = $2 AND claimed_until = $3",
            until,
            id,
            held
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn site(&self, satellite: &SatelliteId) -> StoreResult<Option<Site>> {
        const OPERATION: &str = "read a site at Harbor";
        let id = satellite.as_str();
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let row = sqlx::query!(
            r#"SELECT s.name AS "name!", s.state AS "state!", h.asked AS "asked!", h.attempts AS "attempts!",
                      h.wants_fresh AS "wants_fresh!: bool",
                      (EXISTS (SELECT 1 FROM ztr_tokens t WHERE t.satellite_id = s.id)
                       AND NOT EXISTS (SELECT 1 FROM registrations r WHERE r.satellite_id = s.id AND r.active))
                          AS "token_only!: bool"
               FROM harbor_sites h JOIN satellites s ON s.id = h.satellite_id WHERE h.satellite_id = $1"#,
            id
        )
        .fetch_optional(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let Some(row) = row else { return Ok(None) };
        let wanted = projects_of_satellite(&mut snapshot, id, OPERATION).await?;
        Ok(Some(Site {
            satellite: satellite.clone(),
            name: row.name,
            admitted: read::<SatelliteState>(OPERATION, &row.state)?.admits(),
            token_only: row.token_only,
            wanted,
            wants_fresh: row.wants_fresh,
            asked: row.asked,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            robots: robots(&mut snapshot, id, OPERATION).await?,
        }))
    }

    async fn site_settled(&self, site: &Site, rest: Option<Timestamp>) -> StoreResult<()> {
        const OPERATION: &str = "settle a site at Harbor";
        let (id, rest) = (site.satellite.as_str(), rest.map(millis));
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE harbor_sites SET claimed_until = 0, settled = $1, attempts = 0, error = NULL, error_since = NULL,
                 failed_at = NULL, due_at = CASE WHEN asked = $1 THEN $2 ELSE due_at END
             WHERE satellite_id = $3",
            site.asked,
            rest,
            id
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn site_failed(
        &self,
        site: &Site,
        reason: &str,
        given_up: bool,
        now: Timestamp,
        at: Timestamp,
    ) -> StoreResult<()> {
        const OPERATION: &str = "record a failure at Harbor";
        let (id, now, at) = (site.satellite.as_str(), millis(now), millis(at));
        let reason: String = reason.chars().filter(|c| *c != '\0').take(MAX_REASON).collect();
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE harbor_sites SET claimed_until = 0, attempts = attempts + 1, error = $1,
                 error_since = COALESCE(error_since, $2),
                 failed_at = CASE WHEN $3 AND asked = $4 THEN $2 ELSE failed_at END,
                 due_at = CASE WHEN asked = $4 THEN $5 ELSE due_at END
             WHERE satellite_id = $6",
            reason,
            now,
            given_up,
            site.asked,
            at,
            id
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn ask_site(&self, satellite: &str, change: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "ask for a site at Harbor";
        let now = millis(now);
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "INSERT INTO harbor_sites (satellite_id, due_at, change_id)
             SELECT id, CAST($1 AS BIGINT), CAST($2 AS TEXT) FROM satellites WHERE name = $3 AND state <> 'deleted'
             ON CONFLICT (satellite_id) DO UPDATE SET asked = harbor_sites.asked + 1, due_at = excluded.due_at,
                 change_id = excluded.change_id, attempts = 0, failed_at = NULL
             WHERE harbor_sites.change_id <> excluded.change_id",
            now,
            change,
            satellite
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn site_waits(&self, satellite: &str) -> StoreResult<bool> {
        const OPERATION: &str = "look whether a satellite's robots are done";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let (id, state) = match satellites::id_of(&mut snapshot, satellite, OPERATION).await {
            Ok(found) => found,
            // A document that is to go waits for nobody.
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if !state.admits() {
            return Ok(false);
        }
        let row = sqlx::query!(
            r#"SELECT asked AS "asked!", settled AS "settled!", failed_at AS "failed_at?"
               FROM harbor_sites WHERE satellite_id = $1"#,
            id
        )
        .fetch_optional(&mut *snapshot)
        .await
        .during(OPERATION)?;
        if !row.is_some_and(|row| row.asked > row.settled && row.failed_at.is_none()) {
            return Ok(false);
        }
        let wanted = projects_of_satellite(&mut snapshot, &id, OPERATION).await?;
        let robots = robots(&mut snapshot, &id, OPERATION).await?;
        let lacks = |robot: &SiteRobot| robot.is_live() && !wanted.is_subset(&robot.projects);
        Ok(robots.iter().any(lacks))
    }

    async fn group_turn(&self, group: &str, now: Timestamp) -> StoreResult<GroupTurn> {
        self.turn_of(group, now).await
    }
}

impl SqlStore {
    /// [`Sites::group_turn`].
    async fn turn_of(&self, group: &str, now: Timestamp) -> StoreResult<GroupTurn> {
        const OPERATION: &str = "look whether a group's robots are done";
        let now = millis(now);
        let mut tx = self.database.rows(OPERATION).await?;
        let id = sqlx::query_scalar!("SELECT id FROM artifact_groups WHERE name = $1", group)
            .fetch_optional(&mut *tx)
            .await
            .during(OPERATION)?;
        let Some(id) = id else { return Ok(GroupTurn::Now) };
        let wanted = projects_of_group(&mut tx, &id, OPERATION).await?;
        let known = sqlx::query!(
            r#"SELECT projects AS "projects!", waiting AS "waiting!: bool" FROM harbor_groups WHERE group_id = $1"#,
            id
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        let (had, waiting) = match known {
            Some(row) => (read_json::<BTreeSet<String>>(OPERATION, &row.projects)?, row.waiting),
            None => (BTreeSet::new(), false),
        };
        let changed = had != wanted;
        if !changed && !waiting {
            return Ok(GroupTurn::Now);
        }
        let waits = waiting || wanted.difference(&had).next().is_some();
        if changed {
            ask_members(&mut tx, &id, now, OPERATION).await?;
        }
        let left = if waits { unsettled_members(&mut tx, &id, OPERATION).await? } else { 0 };
        let (projects, waiting) = (json(OPERATION, &wanted)?, left > 0);
        sqlx::query!(
            "INSERT INTO harbor_groups (group_id, projects, waiting, changed_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (group_id) DO UPDATE SET projects = excluded.projects, waiting = excluded.waiting,
                 changed_at = excluded.changed_at",
            id,
            projects,
            waiting,
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(if left == 0 { GroupTurn::Now } else { GroupTurn::Waits(left) })
    }
}

/// The robots of a group's satellites are to be looked at.
async fn ask_members(
    connection: &mut Connection,
    group_id: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "INSERT INTO harbor_sites (satellite_id, due_at)
         SELECT s.id, CAST($1 AS BIGINT) FROM satellites s JOIN group_members m ON m.satellite_id = s.id
         WHERE m.group_id = $2 AND s.state IN ('pending', 'online', 'stale')
         ON CONFLICT (satellite_id) DO UPDATE SET asked = harbor_sites.asked + 1, due_at = excluded.due_at,
             attempts = 0, failed_at = NULL",
        now,
        group_id
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// How many of a group's satellites somebody has to wait for.
async fn unsettled_members(
    connection: &mut Connection,
    group_id: &str,
    operation: &'static str,
) -> StoreResult<u64> {
    sqlx::query_scalar!(
        r#"SELECT COUNT(*) AS "n!: i64"
           FROM group_members m JOIN satellites s ON s.id = m.satellite_id
               LEFT JOIN harbor_sites h ON h.satellite_id = s.id
           WHERE m.group_id = $1 AND s.state IN ('pending', 'online', 'stale')
               AND (h.satellite_id IS NULL OR (h.asked > h.settled AND h.failed_at IS NULL))"#,
        group_id
    )
    .fetch_one(connection)
    .await
    .during(operation)
    .map(count)
}
