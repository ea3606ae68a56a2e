//! What is to be removed where it was made: entries and agents of satellites that were revoked or deleted.

use ground_control_domain::identity::Withdrawal;
use ground_control_domain::{SatelliteId, StoreResult};
use jiff::{SignedDuration, Timestamp};

use super::identities::RegistrationRow;
use super::{During, SqlStore, count, millis};
use crate::dialect::Connection;

/// The longest reason that is kept of a failure.
const MAX_REASON: usize = 2000;

impl SqlStore {
    /// [`ground_control_domain::store::Identities::due_withdrawals`].
    pub(super) async fn claim_withdrawals(
        &self,
        now: Timestamp,
        retry: SignedDuration,
        most: u32,
    ) -> StoreResult<Vec<Withdrawal>> {
        const OPERATION: &str = "claim withdrawals";
        let (now, until, most) = (millis(now), millis(now + retry), i64::from(most));
        let mut tx = self.database.rows(OPERATION).await?;
        // Whoever comes second finds them put off.
        let claimed = sqlx::query!(
            r#"UPDATE registrations SET withdraw_at = $1
               WHERE withdraw_at <= $2 AND satellite_id IN (
                   SELECT satellite_id FROM registrations WHERE withdraw_at <= $2 ORDER BY withdraw_at LIMIT $3)
               RETURNING satellite_id AS "satellite_id!", withdraw_attempts AS "attempts!""#,
            until,
            now,
            most
        )
        .fetch_all(&mut *tx)
        .await
        .during(OPERATION)?;
        let mut due = Vec::with_capacity(claimed.len());
        for row in claimed {
            let registration = sqlx::query_as!(
                RegistrationRow,
                r#"SELECT s.id AS "satellite_id!", s.name AS "name!", s.region AS "region!",
                          r.attestation_method AS "attestation_method!", r.parent_id AS "parent_id!",
                          r.selectors AS "selectors!"
                   FROM registrations r JOIN satellites s ON s.id = r.satellite_id WHERE r.satellite_id = $1"#,
                row.satellite_id
            )
            .fetch_one(&mut *tx)
            .await
            .during(OPERATION)?
            .registration(OPERATION)?;
            let used = serves_others(&mut tx, &registration.parent_id, &registration.name, OPERATION).await?;
            let attempts = u32::try_from(count(row.attempts)).unwrap_or(u32::MAX);
            due.push(Withdrawal { registration, attempts, agent_is_unused: !used });
        }
        tx.commit().await.during(OPERATION)?;
        Ok(due)
    }

    /// [`ground_control_domain::store::Identities::withdrawn`].
    pub(super) async fn end_withdrawal(&self, satellite: &SatelliteId) -> StoreResult<()> {
        const OPERATION: &str = "end a withdrawal";
        let id = satellite.as_str();
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE registrations SET withdraw_at = NULL, withdraw_attempts = 0, withdraw_error = NULL
             WHERE satellite_id = $1",
            id
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    /// [`ground_control_domain::store::Identities::withdrawal_failed`].
    pub(super) async fn put_off_withdrawal(
        &self,
        satellite: &SatelliteId,
        error: &str,
        due: Timestamp,
    ) -> StoreResult<()> {
        const OPERATION: &str = "put a withdrawal off";
        let (id, due) = (satellite.as_str(), millis(due));
        let error: String = error.chars().filter(|c| *c != '\0').take(MAX_REASON).collect();
        let mut tx = self.database.rows(OPERATION).await?;
        // What was registered again in the meantime is to be left alone.
        sqlx::query!(
            "UPDATE registrations SET withdraw_at = $1, withdraw_attempts = withdraw_attempts + 1, withdraw_error = $2
             WHERE satellite_id = $3 AND withdraw_at IS NOT NULL",
            due,
            error,
            id
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    /// [`ground_control_domain::store::Identities::agent_serves_others`].
    pub(super) async fn is_parent_of_others(&self, parent_id: &str, satellite: &str) -> StoreResult<bool> {
        const OPERATION: &str = "look up who an agent serves";
        let mut connection = self.database.read(OPERATION).await?;
        serves_others(&mut connection, parent_id, satellite, OPERATION).await
    }

    /// [`ground_control_domain::store::Identities::ban_agents`].
    pub(super) async fn ban_agents_of(&self, satellite: &SatelliteId, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "ban a satellite's agents";
        let mut tx = self.database.rows(OPERATION).await?;
        ban(&mut tx, satellite.as_str(), millis(now), OPERATION).await?;
        tx.commit().await.during(OPERATION)
    }
}

async fn serves_others(
    connection: &mut Connection,
    parent_id: &str,
    satellite: &str,
    operation: &'static str,
) -> StoreResult<bool> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM registrations r JOIN satellites s ON s.id = r.satellite_id
               WHERE r.parent_id = $1 AND r.active AND s.name <> $2
                   AND s.state IN ('pending', 'online', 'stale')) AS "used!: bool""#,
        parent_id,
        satellite
    )
    .fetch_one(connection)
    .await
    .during(operation)
}

/// Ends a satellite's registration: what was made for it is due to be removed, and its agents are banned unless they serve
/// others. Its state must have been changed before, in the same transaction.
pub(super) async fn begin(
    connection: &mut Connection,
    id: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    sqlx::query!(
        "UPDATE registrations SET active = FALSE, withdraw_at = $1, withdraw_attempts = 0, withdraw_error = NULL
         WHERE satellite_id = $2",
        now,
        id
    )
    .execute(&mut *connection)
    .await
    .during(operation)?;
    ban(connection, id, now, operation).await
}

/// Bans the agents that a satellite's registration names, unless an admitted satellite is served by them.
async fn ban(connection: &mut Connection, id: &str, now: i64, operation: &'static str) -> StoreResult<()> {
    sqlx::query!(
        "UPDATE node_agents SET banned_at = $1
         WHERE banned_at IS NULL
           AND satellite_id IN (
               SELECT r.satellite_id FROM registrations r
               WHERE r.parent_id = (SELECT o.parent_id FROM registrations o WHERE o.satellite_id = $2))
           AND NOT EXISTS (
               SELECT 1 FROM registrations r JOIN satellites s ON s.id = r.satellite_id
               WHERE r.parent_id = (SELECT o.parent_id FROM registrations o WHERE o.satellite_id = $2)
                   AND r.active AND s.id <> $2 AND s.state IN ('pending', 'online', 'stale'))",
        now,
        id
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}
