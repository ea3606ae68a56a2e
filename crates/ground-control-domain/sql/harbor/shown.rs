//! What people are shown of robots and sites, and what is remembered of our own account.

use async_trait::async_trait;
use ground_control_domain::StoreResult;
use ground_control_domain::harbor::{Account, GroupAccounts, SiteCounts, SiteFailure, SiteStatus};
use ground_control_domain::store::SiteAccounts;

use super::super::{During, SqlStore, count, groups, satellites, time};
use super::{ACCOUNT, account, projects_of_group, robots};

#[async_trait]
impl SiteAccounts for SqlStore {
    async fn site_status(&self, satellite: &str) -> StoreResult<Option<SiteStatus>> {
        const OPERATION: &str = "look up a site at Harbor";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let (id, state) = satellites::id_of(&mut snapshot, satellite, OPERATION).await?;
        let row = sqlx::query!(
            r#"SELECT asked AS "asked!", settled AS "settled!", attempts AS "attempts!", error AS "error?",
                      error_since AS "error_since?", due_at AS "due_at?"
               FROM harbor_sites WHERE satellite_id = $1"#,
            id
        )
        .fetch_optional(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let Some(row) = row else { return Ok(None) };
        let at = |millis: Option<i64>| millis.map(|millis| time(OPERATION, millis)).transpose();
        Ok(Some(SiteStatus {
            settled: row.settled >= row.asked && row.error.is_none(),
            admitted: state.admits(),
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            error: row.error,
            error_since: at(row.error_since)?,
            due_at: at(row.due_at)?,
            robots: robots(&mut snapshot, &id, OPERATION).await?,
        }))
    }

    async fn group_accounts(&self, group: &str, most: u32) -> StoreResult<GroupAccounts> {
        const OPERATION: &str = "look up a group's robots";
        let most = i64::from(most);
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let id = groups::id_of(&mut snapshot, group, OPERATION).await?;
        let projects = projects_of_group(&mut snapshot, &id, OPERATION).await?;
        let held_back = sqlx::query_scalar!(
            r#"SELECT waiting AS "waiting!: bool" FROM harbor_groups WHERE group_id = $1"#,
            id
        )
        .fetch_optional(&mut *snapshot)
        .await
        .during(OPERATION)?
        .unwrap_or(false);
        let counts = sqlx::query!(
            r#"SELECT COUNT(*) AS "satellites!: i64",
                      COUNT(CASE WHEN h.settled >= h.asked AND h.error IS NULL THEN 1 END) AS "settled!: i64",
                      COUNT(h.failed_at) AS "failures!: i64"
               FROM group_members m JOIN satellites s ON s.id = m.satellite_id
                   LEFT JOIN harbor_sites h ON h.satellite_id = s.id
               WHERE m.group_id = $1 AND s.state IN ('pending', 'online', 'stale')"#,
            id
        )
        .fetch_one(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let failed = sqlx::query!(
            r#"SELECT s.name AS "name!", h.error AS "error?", h.error_since AS "since?", h.attempts AS "attempts!",
                      h.due_at AS "due_at?"
               FROM harbor_sites h JOIN satellites s ON s.id = h.satellite_id
                   JOIN group_members m ON m.satellite_id = s.id
               WHERE m.group_id = $1 AND h.failed_at IS NOT NULL AND s.state IN ('pending', 'online', 'stale')
               ORDER BY s.name LIMIT $2"#,
            id,
            most
        )
        .fetch_all(&mut *snapshot)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| {
            Ok(SiteFailure {
                satellite: row.name,
                error: row.error.unwrap_or_default(),
                since: row.since.map(|at| time(OPERATION, at)).transpose()?,
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                due_at: row.due_at.map(|at| time(OPERATION, at)).transpose()?,
            })
        })
        .collect::<StoreResult<_>>()?;
        Ok(GroupAccounts {
            projects: projects.into_iter().collect(),
            held_back,
            satellites: count(counts.satellites),
            settled: count(counts.settled),
            failed,
            failures: count(counts.failures),
        })
    }

    async fn site_counts(&self) -> StoreResult<SiteCounts> {
        const OPERATION: &str = "count sites at Harbor";
        let mut snapshot = self.database.snapshot(OPERATION).await?;
        let sites = sqlx::query!(
            r#"SELECT COUNT(CASE WHEN asked > settled AND failed_at IS NULL THEN 1 END) AS "waiting!: i64",
                      COUNT(failed_at) AS "failed!: i64"
               FROM harbor_sites"#
        )
        .fetch_one(&mut *snapshot)
        .await
        .during(OPERATION)?;
        let condemned = sqlx::query_scalar!(
            r#"SELECT COUNT(*) AS "n!: i64" FROM harbor_robots WHERE role = 'condemned'"#
        )
        .fetch_one(&mut *snapshot)
        .await
        .during(OPERATION)?;
        Ok(SiteCounts {
            waiting: count(sites.waiting),
            failed: count(sites.failed),
            condemned: count(condemned),
        })
    }

    async fn harbor_account(&self, username: &str) -> StoreResult<Option<Account>> {
        const OPERATION: &str = "read the kind of our account at Harbor";
        let mut connection = self.database.read(OPERATION).await?;
        let known = account(&mut connection, OPERATION).await?;
        Ok(known.filter(|(_, name)| name == username).map(|(kind, _)| kind))
    }

    async fn set_harbor_account(&self, login: Option<(&str, Account)>) -> StoreResult<()> {
        const OPERATION: &str = "note the kind of our account at Harbor";
        let mut tx = self.database.rows(OPERATION).await?;
        match login {
            None => {
                sqlx::query!("DELETE FROM settings WHERE name = $1", ACCOUNT)
                    .execute(&mut *tx)
                    .await
                    .during(OPERATION)?;
            }
            Some((username, kind)) => {
                let value = format!("{}:{username}", kind.as_str());
                sqlx::query!(
                    "INSERT INTO settings (name, value) VALUES ($1, $2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    ACCOUNT,
                    value
                )
                .execute(&mut *tx)
                .await
                .during(OPERATION)?;
            }
        }
        tx.commit().await.during(OPERATION)
    }
}
