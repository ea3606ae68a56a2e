//! How far what is desired is at the satellites, for people to read.

use async_trait::async_trait;
use ground_control_domain::rollout::{Census, Member, Progress, Rollout, SatelliteArtifact, Totals};
use ground_control_domain::satellite::SatelliteState;
use ground_control_domain::store::Rollouts;
use ground_control_domain::{Page, Paged, StoreResult};
use sqlx::{QueryBuilder, Row as _};

use super::listing::Part;
use super::{During, SqlStore, among, count, groups, read, read_json, satellites, time};
use crate::dialect::{self, Connection, Driver};

#[async_trait]
impl Rollouts for SqlStore {
    async fn rollout(&self, group: &str, progress: Option<Progress>, page: Page) -> StoreResult<Rollout> {
        const OPERATION: &str = "look how far a group is";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let id = groups::id_of(&mut snapshot, group, OPERATION).await?;
        let digests = sqlx::query_scalar!(
            "SELECT DISTINCT digest FROM published_artifacts WHERE group_id = $1 AND digest <> ''",
            id
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let settling = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM drift_work WHERE group_id = $1) AS "settling!: bool""#,
            id
        )
        .fetch_one(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let mut totals = totals(&mut snapshot, &id, OPERATION).await?;
        let total = match progress {
            None => totals.wanted(),
            Some(progress) => *totals.of(progress),
        };
        let items = match Part::of(page, i64::try_from(total).unwrap_or(i64::MAX)) {
            Some(part) => members(&mut snapshot, &id, progress, part, OPERATION).await?,
            None => Vec::new(),
        };
        Ok(Rollout {
            digests: digests.into_iter().collect(),
            totals,
            settling,
            members: Paged { items, total },
        })
    }

    async fn satellite_artifacts(
        &self,
        satellite: &str,
        page: Page,
    ) -> StoreResult<Paged<SatelliteArtifact>> {
        const OPERATION: &str = "list a satellite's artifacts";
        let (limit, offset) = (page.limit(), page.offset());
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let (id, _) = satellites::id_of(&mut snapshot, satellite, OPERATION).await?;
        let total = sqlx::query_scalar!(
            r#"SELECT (SELECT COUNT(*) FROM group_members m
                           JOIN published_artifacts a ON a.group_id = m.group_id WHERE m.satellite_id = $1)
                    + (SELECT COUNT(*) FROM cached_images c WHERE c.satellite_id = $1 AND NOT EXISTS (
                           SELECT 1 FROM group_members m JOIN published_artifacts a ON a.group_id = m.group_id
                           WHERE m.satellite_id = $1 AND a.digest = c.digest)) AS "n!: i64""#,
            id
        )
        .fetch_one(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let rows = sqlx::query!(
            r#"SELECT w.group_name AS "group_name!: String", w.ordinal AS "ordinal!: i64",
                      w.repository AS "repository!: String", w.tags AS "tags!: String",
                      w.digest AS "digest!: String", w.there AS "there!: bool"
               FROM (
                   SELECT 0 AS undesired, g.name AS group_name, a.ordinal AS ordinal, a.repository AS repository,
                          a.tags AS tags, a.digest AS digest,
                          EXISTS (SELECT 1 FROM cached_images c
                                  WHERE c.satellite_id = $1 AND c.digest = a.digest AND a.digest <> '') AS there
                   FROM group_members m JOIN published_artifacts a ON a.group_id = m.group_id
                        JOIN artifact_groups g ON g.id = m.group_id
                   WHERE m.satellite_id = $1
                   UNION ALL
                   SELECT 1, '', 0, c.reference, '[]', c.digest, TRUE FROM cached_images c
                   WHERE c.satellite_id = $1 AND NOT EXISTS (
                       SELECT 1 FROM group_members m JOIN published_artifacts a ON a.group_id = m.group_id
                       WHERE m.satellite_id = $1 AND a.digest = c.digest)) w
               ORDER BY w.undesired, w.group_name, w.ordinal, w.repository LIMIT $2 OFFSET $3"#,
            id,
            limit,
            offset
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let filled = |text: String| (!text.is_empty()).then_some(text);
        let items = rows
            .into_iter()
            .map(|row| {
                Ok(SatelliteArtifact {
                    group: filled(row.group_name),
                    repository: row.repository,
                    tags: read_json(OPERATION, &row.tags)?,
                    digest: filled(row.digest),
                    there: row.there,
                })
            })
            .collect::<StoreResult<_>>()?;
        Ok(Paged { items, total: count(total) })
    }

    async fn look_at_members(&self) -> StoreResult<bool> {
        self.next_members().await
    }

    async fn census(&self) -> StoreResult<Census> {
        const OPERATION: &str = "count the satellites";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let rows = sqlx::query!(
            r#"SELECT state, COUNT(*) AS "n!: i64" FROM satellites WHERE state <> 'deleted' GROUP BY state"#
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let drifting =
            sqlx::query_scalar!(r#"SELECT COUNT(*) AS "n!: i64" FROM satellite_drift WHERE drift"#)
                .fetch_one(&mut *snapshot)
                .await
                .during(OPERATION)?;
        let mut states = Vec::with_capacity(rows.len());
        for row in rows {
            states.push((read::<SatelliteState>(OPERATION, &row.state)?, count(row.n)));
        }
        Ok(Census { states, drifting: count(drifting) })
    }
}

/// What is noted of all members, less those that are not heard of: two walks along indexes in the order of names.
async fn totals(connection: &mut Connection, id: &str, operation: &'static str) -> StoreResult<Totals> {
    let all = sqlx::query!(
        r#"SELECT COUNT(*) AS "members!: i64",
                  COUNT(*) FILTER (WHERE progress = 'current') AS "current!: i64",
                  COUNT(*) FILTER (WHERE progress = 'fetching') AS "fetching!: i64",
                  COUNT(*) FILTER (WHERE progress = 'failed') AS "failed!: i64"
           FROM group_members WHERE group_id = $1"#,
        id
    )
    .fetch_one(&mut *connection)
    .await
    .during(operation)?;
    // Satellites first, which SQLite takes for an order and PostgreSQL does not. Named one by one, the states are parts of an
    // index that has those that are online in another part.
    let silent = sqlx::query!(
        r#"SELECT COUNT(*) AS "members!: i64",
                  COUNT(*) FILTER (WHERE m.progress = 'fetching') AS "fetching!: i64",
                  COUNT(*) FILTER (WHERE m.progress = 'failed') AS "failed!: i64"
           FROM satellites s CROSS JOIN group_members m
           WHERE s.state <> 'deleted' AND s.state IN ('pending', 'awaiting_approval', 'stale', 'revoked')
               AND m.group_id = $1 AND m.satellite = s.name AND m.progress <> 'current'"#,
        id
    )
    .fetch_one(connection)
    .await
    .during(operation)?;
    // Of whom nothing is noted, because nobody has looked yet, waits.
    let waiting = all.members - all.current - all.fetching - all.failed;
    let silent_waiting = silent.members - silent.fetching - silent.failed;
    Ok(Totals {
        current: count(all.current),
        fetching: count(all.fetching - silent.fetching),
        failed: count(all.failed - silent.failed),
        waiting: count(waiting - silent_waiting),
        unreachable: count(silent.members),
    })
}

/// What is noted of a member; nothing, of one that nobody has looked at yet.
fn kept(text: &str) -> Progress {
    text.parse().unwrap_or(Progress::Waiting)
}

/// A part of the members by name, whose rows are read when it is known which they are.
async fn members(
    connection: &mut Connection,
    id: &str,
    progress: Option<Progress>,
    part: Part,
    operation: &'static str,
) -> StoreResult<Vec<Member>> {
    const ONLINE: &str = " EXISTS (SELECT 1 FROM satellites s WHERE s.name = m.satellite AND s.state <> 'deleted' AND s.state = 'online')";
    let mut query =
        QueryBuilder::<Driver>::new("SELECT m.satellite_id FROM group_members m WHERE m.group_id = ");
    query.push_bind(id.to_owned());
    match progress {
        None => {}
        Some(Progress::Current) => {
            query.push(" AND m.progress = 'current'");
        }
        Some(Progress::Fetching) => {
            query.push(" AND m.progress = 'fetching' AND").push(ONLINE);
        }
        Some(Progress::Failed) => {
            query.push(" AND m.progress = 'failed' AND").push(ONLINE);
        }
        Some(Progress::Waiting) => {
            query.push(" AND m.progress IN ('waiting', '') AND").push(ONLINE);
        }
        Some(Progress::Unreachable) => {
            query.push(" AND m.progress <> 'current' AND NOT").push(ONLINE);
        }
    }
    part.push(&mut query, "m.satellite");
    dialect::walk_indexes(connection, true).await.during(operation)?;
    let rows = query.build().fetch_all(&mut *connection).await.during(operation)?;
    dialect::walk_indexes(connection, false).await.during(operation)?;
    let ids: Vec<String> =
        rows.into_iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().during(operation)?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }

    let mut query = QueryBuilder::<Driver>::new(
        "SELECT s.name, s.state, m.progress, COALESCE(h.received_at, s.last_seen), h.report
         FROM group_members m JOIN satellites s ON s.id = m.satellite_id
              LEFT JOIN heartbeats h ON h.satellite_id = m.satellite_id
         WHERE m.group_id = ",
    );
    query.push_bind(id.to_owned()).push(" AND m.satellite_id IN (");
    among(&mut query, ids.into_iter());
    query.push(" ORDER BY s.name");
    let rows = query.build().persistent(false).fetch_all(connection).await.during(operation)?;
    rows.into_iter()
        .map(|row| {
            let text = |column: usize| row.try_get::<String, _>(column).during(operation);
            let state = read(operation, &text(1)?)?;
            let last_seen: Option<i64> = row.try_get(3).during(operation)?;
            let report: Option<String> = row.try_get(4).during(operation)?;
            Ok(Member {
                satellite: text(0)?,
                state,
                progress: Progress::of(kept(&text(2)?), state),
                last_seen: last_seen.map(|at| time(operation, at)).transpose()?,
                report: report.map(|report| read_json(operation, &report)).transpose()?,
            })
        })
        .collect()
}
