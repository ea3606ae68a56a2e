//! Robots at Harbor: what is recorded of each, and of the sites that they belong to.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ground_control_domain::harbor::comparison::KnownRobot;
use ground_control_domain::harbor::{
    Account, GroupAccounts, GroupTurn, HandOut, MadeRobot, RobotRole, STATE_PROJECT, Site, SiteCounts,
    SiteFailure, SiteRobot, SiteStatus, Wish, project_of,
};
use ground_control_domain::satellite::{Robot, SatelliteState};
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::SiteRobots;
use ground_control_domain::ztr::{ClaimRefusal, Claimant};
use ground_control_domain::{SatelliteId, StoreError, StoreResult};
use jiff::Timestamp;

use super::{During, SqlStore, count, groups, json, millis, read, read_json, satellites, time};
use crate::dialect::Connection;

/// The setting that remembers which kind of account a login at Harbor is: `<kind>:<user name>`.
const ACCOUNT: &str = "harbor_account";
/// The longest reason that is kept of a failure.
const MAX_REASON: usize = 2000;

struct RobotRow {
    id: String,
    role: String,
    number: i64,
    attempt: String,
    tried: bool,
    gone: bool,
    harbor_id: Option<i64>,
    username: Option<String>,
    secret_hash: Option<String>,
    projects: String,
    created_at: Option<i64>,
    expires_at: Option<i64>,
    given_at: Option<i64>,
    used_at: Option<i64>,
}

impl RobotRow {
    fn robot(self, operation: &'static str) -> StoreResult<SiteRobot> {
        let at = |millis: Option<i64>| millis.map(|millis| time(operation, millis)).transpose();
        Ok(SiteRobot {
            role: read(operation, &self.role)?,
            number: u32::try_from(self.number).unwrap_or(u32::MAX),
            projects: read_json(operation, &self.projects)?,
            created_at: at(self.created_at)?,
            expires_at: at(self.expires_at)?,
            given_at: at(self.given_at)?,
            used_at: at(self.used_at)?,
            id: self.id,
            attempt: self.attempt,
            tried: self.tried,
            gone: self.gone,
            harbor_id: self.harbor_id,
            username: self.username,
            secret: self.secret_hash.map(Hashed::from),
        })
    }
}

/// A satellite's robots, the latest first.
async fn robots(
    connection: &mut Connection,
    satellite: &str,
    operation: &'static str,
) -> StoreResult<Vec<SiteRobot>> {
    sqlx::query_as!(
        RobotRow,
        r#"SELECT id AS "id!", role AS "role!", number AS "number!", attempt AS "attempt!", tried AS "tried!: bool",
                  gone AS "gone!: bool", harbor_id AS "harbor_id?", username AS "username?",
                  secret_hash AS "secret_hash?", projects AS "projects!", created_at AS "created_at?", expires_at AS "expires_at?", given_at AS "given_at?",
                  used_at AS "used_at?"
           FROM harbor_robots WHERE satellite_id = $1 ORDER BY begun_at DESC, id DESC"#,
        satellite
    )
    .fetch_all(connection)
    .await
    .during(operation)?
    .into_iter()
    .map(|row| row.robot(operation))
    .collect()
}

/// The projects of repositories.
fn projects(repositories: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    repositories.into_iter().filter_map(|name| project_of(&name).map(str::to_owned)).collect()
}

async fn projects_of_group(
    connection: &mut Connection,
    group_id: &str,
    operation: &'static str,
) -> StoreResult<BTreeSet<String>> {
    sqlx::query_scalar!(
        "SELECT DISTINCT repository FROM group_artifacts WHERE group_id = $1 AND NOT deleted",
        group_id
    )
    .fetch_all(connection)
    .await
    .during(operation)
    .map(projects)
}

/// The projects that a satellite's robots are to have.
async fn projects_of_satellite(
    connection: &mut Connection,
    satellite: &str,
    operation: &'static str,
) -> StoreResult<BTreeSet<String>> {
    let repositories = sqlx::query_scalar!(
        "SELECT DISTINCT a.repository FROM group_members m JOIN group_artifacts a ON a.group_id = m.group_id
             WHERE m.satellite_id = $1 AND NOT a.deleted",
        satellite
    )
    .fetch_all(connection)
    .await
    .during(operation)?;
    let mut wanted = projects(repositories);
    wanted.insert(STATE_PROJECT.to_owned());
    Ok(wanted)
}

/// Something that the satellite's robots follow from changed, within the caller's transaction. Nothing where it has none.
pub(super) async fn asked(
    connection: &mut Connection,
    satellite: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "UPDATE harbor_sites SET asked = asked + 1, due_at = $1, attempts = 0, failed_at = NULL
         WHERE satellite_id = $2",
        now,
        satellite
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// A satellite is shut out, or begins anew: all that it was given is to go at Harbor.
pub(super) async fn condemn_all(
    connection: &mut Connection,
    satellite: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "UPDATE harbor_robots SET role = 'condemned', sealed_secret = NULL
         WHERE satellite_id = $1 AND role IN ('prepared', 'current', 'retiring')",
        satellite
    )
    .execute(&mut *connection)
    .await
    .during(operation)?;
    asked(connection, satellite, now, operation).await
}

/// Whoever is let in again, or deleted, is not known by the robots that it had.
pub(super) async fn forget_removed(
    connection: &mut Connection,
    satellite: &str,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!("DELETE FROM harbor_robots WHERE satellite_id = $1 AND role = 'removed'", satellite)
        .execute(connection)
        .await
        .during(operation)
        .map(drop)
}

/// What kind of account the login is that robots are made with; `None` where Harbor is not the central registry.
async fn account(
    connection: &mut Connection,
    operation: &'static str,
) -> StoreResult<Option<(Account, String)>> {
    let value = sqlx::query_scalar!("SELECT value FROM settings WHERE name = $1", ACCOUNT)
        .fetch_optional(connection)
        .await
        .during(operation)?;
    Ok(value.as_deref().and_then(|value| value.split_once(':')).and_then(|(kind, name)| {
        let kind = [Account::User, Account::Robot].into_iter().find(|account| account.as_str() == kind)?;
        Some((kind, name.to_owned()))
    }))
}

/// The most satellites that a refusal names.
const MOST_NAMES: usize = 10;

/// Refuses, within the caller's transaction, what gave satellites another project that cannot be given one: those without an
/// identity, where our account at Harbor is a robot, which may not change theirs. `group` or `satellite` says whose were
/// looked at.
pub(super) async fn check_fixed(
    connection: &mut Connection,
    group: Option<&str>,
    satellite: Option<&str>,
    operation: &'static str,
) -> StoreResult<()> {
    if !account(connection, operation).await?.is_some_and(|(kind, _)| kind == Account::Robot) {
        return Ok(());
    }
    let rows = sqlx::query!(
        r#"SELECT DISTINCT s.name AS "name!", r.projects AS "has!", a.repository AS "repository!"
           FROM group_members m JOIN satellites s ON s.id = m.satellite_id
               JOIN harbor_robots r ON r.satellite_id = s.id AND r.role = 'current'
               JOIN group_artifacts a ON a.group_id = m.group_id AND NOT a.deleted
           WHERE s.state IN ('pending', 'online', 'stale')
               AND (m.group_id = $1 OR m.satellite_id = $2)
               AND EXISTS (SELECT 1 FROM ztr_tokens t WHERE t.satellite_id = s.id)
               AND NOT EXISTS (SELECT 1 FROM registrations n WHERE n.satellite_id = s.id AND n.active)"#,
        group,
        satellite
    )
    .fetch_all(connection)
    .await
    .during(operation)?;
    let (mut names, mut lacking) = (BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let has: BTreeSet<String> = read_json(operation, &row.has)?;
        if let Some(project) = project_of(&row.repository).filter(|project| !has.contains(*project)) {
            names.insert(row.name);
            lacking.insert(project.to_owned());
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let (all, listed) = (names.len(), |set: BTreeSet<String>| {
        set.into_iter().take(MOST_NAMES).collect::<Vec<_>>().join(", ")
    });
    Err(StoreError::Conflict {
        message: format!(
            "{all} satellites without an identity cannot be given the projects {} ({}): Ground Control's own account at \
             Harbor is a robot, which may not change theirs; register them anew (POST /api/satellites/register), or leave \
             them out of the group",
            listed(lacking),
            listed(names)
        ),
    })
}

#[async_trait]
impl SiteRobots for SqlStore {
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

    async fn begin_robot(
        &self,
        satellite: &SatelliteId,
        number: u32,
        attempt: &str,
        now: Timestamp,
    ) -> StoreResult<()> {
        const OPERATION: &str = "record a robot to be made";
        let (id, satellite, now) = (uuid::Uuid::now_v7().to_string(), satellite.as_str(), millis(now));
        let (role, number) = (RobotRole::Making.as_str(), i64::from(number));
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "INSERT INTO harbor_robots (id, satellite_id, role, number, attempt, begun_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
            id,
            satellite,
            role,
            number,
            attempt,
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn robot_tried(&self, robot: &str, tried: bool) -> StoreResult<()> {
        const OPERATION: &str = "record a try to make a robot";
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("UPDATE harbor_robots SET tried = $1 WHERE id = $2 AND role = 'making'", tried, robot)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn rename_robot(&self, robot: &str, number: u32, attempt: &str) -> StoreResult<()> {
        const OPERATION: &str = "record another name of a robot";
        let number = i64::from(number);
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE harbor_robots SET number = $1, attempt = $2, tried = FALSE WHERE id = $3 AND role = 'making'",
            number,
            attempt,
            robot
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn robot_made(&self, robot: &str, made: MadeRobot) -> StoreResult<()> {
        const OPERATION: &str = "record a robot";
        let (projects, secret) = (json(OPERATION, &made.projects)?, made.secret.as_str());
        let (created_at, expires_at) = (millis(made.created_at), made.expires_at.map(millis));
        let mut tx = self.database.rows(OPERATION).await?;
        let satellite = sqlx::query_scalar!("SELECT satellite_id FROM harbor_robots WHERE id = $1", robot)
            .fetch_one(&mut *tx)
            .await
            .during(OPERATION)?;
        // Who shuts the satellite out comes before or after, never between.
        let locked = satellites::lock(&mut tx, &satellite, OPERATION).await?;
        let admitted = match locked {
            Some(locked) => read::<SatelliteState>(OPERATION, &locked.state)?.admits(),
            None => false,
        };
        let role = if admitted { RobotRole::Prepared } else { RobotRole::Condemned }.as_str();
        let sealed = admitted.then_some(made.sealed_secret);
        sqlx::query!(
            "UPDATE harbor_robots SET role = $1, tried = FALSE, harbor_id = $2, username = $3, sealed_secret = $4,
                 secret_hash = $5, projects = $6, created_at = $7, expires_at = $8
             WHERE id = $9",
            role,
            made.harbor_id,
            made.username,
            sealed,
            secret,
            projects,
            created_at,
            expires_at,
            robot
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn robot_permitted(&self, robot: &str, projects: &BTreeSet<String>) -> StoreResult<()> {
        const OPERATION: &str = "record a robot's projects";
        let projects = json(OPERATION, projects)?;
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("UPDATE harbor_robots SET projects = $1 WHERE id = $2", projects, robot)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn robot_extended(&self, robot: &str, expires_at: Option<Timestamp>) -> StoreResult<()> {
        const OPERATION: &str = "record a robot's end";
        let expires_at = expires_at.map(millis);
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("UPDATE harbor_robots SET expires_at = $1 WHERE id = $2", expires_at, robot)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn robot_gone(&self, robot: &str) -> StoreResult<()> {
        const OPERATION: &str = "record that a robot is gone";
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("UPDATE harbor_robots SET gone = TRUE WHERE id = $1", robot)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn condemn_robot(&self, robot: &str) -> StoreResult<()> {
        const OPERATION: &str = "condemn a robot";
        let mut tx = self.database.rows(OPERATION).await?;
        // One that was handed out at this moment is somebody's.
        sqlx::query!(
            "UPDATE harbor_robots SET role = 'condemned', sealed_secret = NULL
             WHERE id = $1 AND (role IN ('prepared', 'making') OR satellite_id IN (
                 SELECT id FROM satellites WHERE state IN ('awaiting_approval', 'revoked', 'deleted')))",
            robot
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn robot_removed(&self, robot: &str) -> StoreResult<()> {
        const OPERATION: &str = "record that a robot is deleted";
        let mut tx = self.database.rows(OPERATION).await?;
        let kept = sqlx::query!(
            "UPDATE harbor_robots SET role = 'removed', harbor_id = NULL
             WHERE id = $1 AND given_at IS NOT NULL
                 AND satellite_id IN (SELECT id FROM satellites WHERE state = 'revoked')",
            robot
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        if kept.rows_affected() == 0 {
            sqlx::query!("DELETE FROM harbor_robots WHERE id = $1", robot)
                .execute(&mut *tx)
                .await
                .during(OPERATION)?;
        }
        tx.commit().await.during(OPERATION)
    }

    async fn claim_robot(
        &self,
        token: &Hashed,
        claimant: &Claimant,
        now: Timestamp,
    ) -> StoreResult<Result<HandOut, ClaimRefusal>> {
        self.hand_out_for_token(token, claimant, now).await
    }

    async fn grant_robot(&self, satellite: &SatelliteId, wish: Wish, now: Timestamp) -> StoreResult<HandOut> {
        self.hand_out_for_identity(satellite, wish, now).await
    }

    async fn rotate_robot(
        &self,
        satellite: &SatelliteId,
        presented: &Hashed,
        now: Timestamp,
    ) -> StoreResult<HandOut> {
        self.hand_out_for_secret(satellite, presented, now).await
    }

    async fn robot_account(&self, username: &str, presented: &Hashed) -> StoreResult<Option<Robot>> {
        const OPERATION: &str = "look up a robot";
        let mut connection = self.database.read(OPERATION).await?;
        let rows = sqlx::query!(
            r#"SELECT r.role AS "role!", r.secret_hash AS "secret_hash!", r.given_at AS "given_at!",
                      s.id AS "id!", s.name AS "name!", s.state AS "state!"
               FROM harbor_robots r JOIN satellites s ON s.id = r.satellite_id
               WHERE r.username = $1 AND r.given_at IS NOT NULL AND r.secret_hash IS NOT NULL
                   AND s.state <> 'deleted'"#,
            username
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?;
        for row in rows {
            let secret = Hashed::from(row.secret_hash);
            if secret != *presented {
                continue;
            }
            let state: SatelliteState = read(OPERATION, &row.state)?;
            let good = match read::<RobotRole>(OPERATION, &row.role)? {
                RobotRole::Current | RobotRole::Retiring => true,
                RobotRole::Condemned | RobotRole::Removed => state == SatelliteState::Revoked,
                RobotRole::Making | RobotRole::Prepared => false,
            };
            if good {
                return Ok(Some(Robot {
                    satellite: SatelliteId::from(row.id),
                    satellite_name: row.name,
                    state,
                    secret: Some(secret),
                    previous_secret: None,
                    secret_since: Some(time(OPERATION, row.given_at)?),
                }));
            }
        }
        Ok(None)
    }

    async fn robots_of(&self, satellite: &SatelliteId) -> StoreResult<Vec<SiteRobot>> {
        const OPERATION: &str = "list a satellite's robots";
        let mut connection = self.database.read(OPERATION).await?;
        robots(&mut connection, satellite.as_str(), OPERATION).await
    }

    async fn robot_in_use(&self, satellite: &SatelliteId, robot: &str, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "record that a robot is in use";
        let (id, now) = (satellite.as_str(), millis(now));
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE harbor_robots SET used_at = COALESCE(used_at, $1), sealed_secret = NULL
             WHERE id = $2 AND satellite_id = $3 AND role IN ('current', 'retiring')",
            now,
            robot,
            id
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let condemned = sqlx::query!(
            "UPDATE harbor_robots SET role = 'condemned', sealed_secret = NULL
             WHERE satellite_id = $1 AND role = 'retiring'
                 AND EXISTS (SELECT 1 FROM harbor_robots c WHERE c.id = $2 AND c.role = 'current')",
            id,
            robot
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        if condemned.rows_affected() > 0 {
            asked(&mut tx, id, now, OPERATION).await?;
        }
        tx.commit().await.during(OPERATION)
    }

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

    async fn group_turn(&self, group: &str, now: Timestamp) -> StoreResult<GroupTurn> {
        self.turn_of(group, now).await
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

    async fn known_robots(&self, after: &str, most: u32) -> StoreResult<Vec<KnownRobot>> {
        const OPERATION: &str = "list the robots at Harbor";
        let most = i64::from(most);
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query!(
            r#"SELECT r.id AS "id!", r.satellite_id AS "satellite_id!", s.name AS "name!", r.harbor_id AS "harbor_id!",
                      r.role AS "role!", r.gone AS "gone!: bool"
               FROM harbor_robots r JOIN satellites s ON s.id = r.satellite_id
               WHERE r.harbor_id IS NOT NULL AND r.id > $1 ORDER BY r.id LIMIT $2"#,
            after,
            most
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| {
            Ok(KnownRobot {
                id: row.id,
                satellite: SatelliteId::from(row.satellite_id),
                satellite_name: row.name,
                harbor_id: row.harbor_id,
                role: read(OPERATION, &row.role)?,
                gone: row.gone,
            })
        })
        .collect()
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

impl SqlStore {
    /// [`SiteRobots::group_turn`].
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
