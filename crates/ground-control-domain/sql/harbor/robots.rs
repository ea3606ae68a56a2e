//! The life of a robot: begun, made, given projects, handed out, seen in use, gone.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ground_control_domain::harbor::comparison::KnownRobot;
use ground_control_domain::harbor::{HandOut, MadeRobot, RobotRole, SiteRobot, Wish};
use ground_control_domain::satellite::{Robot, SatelliteState};
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::SiteRobots;
use ground_control_domain::ztr::{ClaimRefusal, Claimant};
use ground_control_domain::{SatelliteId, StoreResult};
use jiff::Timestamp;

use super::super::{During, SqlStore, json, millis, read, satellites, time};
use super::{asked, robots};

#[async_trait]
impl SiteRobots for SqlStore {
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
}
