//! Node agents that attested to the built-in authority, and what they may ask for.

use ground_control_domain::StoreResult;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::identity::{AgentEntry, AttestAttempt, NodeAgent};
use jiff::Timestamp;

use super::identities::RegistrationRow;
use super::{During, SqlStore, millis, time};
use crate::dialect::Connection;

struct AgentRow {
    spiffe_id: String,
    public_key: String,
    previous_key: Option<String>,
    expires_at: i64,
    banned_at: Option<i64>,
    satellite_id: String,
    name: String,
    region: String,
    attestation_method: String,
    parent_id: String,
    selectors: String,
}

impl AgentRow {
    fn agent(self, operation: &'static str) -> StoreResult<NodeAgent> {
        let registration = RegistrationRow {
            satellite_id: self.satellite_id,
            name: self.name,
            region: self.region,
            attestation_method: self.attestation_method,
            parent_id: self.parent_id,
            selectors: self.selectors,
        };
        Ok(NodeAgent {
            spiffe_id: self.spiffe_id,
            satellite: registration.registration(operation)?,
            keys: std::iter::once(self.public_key).chain(self.previous_key).collect(),
            expires_at: time(operation, self.expires_at)?,
            banned: self.banned_at.is_some(),
        })
    }
}

impl SqlStore {
    /// [`ground_control_domain::store::Identities::node_agent`].
    pub(super) async fn find_agent(&self, spiffe_id: &str) -> StoreResult<Option<NodeAgent>> {
        const OPERATION: &str = "look up a node agent";
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_as!(
            AgentRow,
            r#"SELECT a.spiffe_id AS "spiffe_id!", a.public_key AS "public_key!", a.previous_key AS "previous_key?",
                      a.expires_at AS "expires_at!", a.banned_at AS "banned_at?", s.id AS "satellite_id!",
                      s.name AS "name!", s.region AS "region!", r.attestation_method AS "attestation_method!",
                      r.parent_id AS "parent_id!", r.selectors AS "selectors!"
               FROM node_agents a JOIN satellites s ON s.id = a.satellite_id
                   JOIN registrations r ON r.satellite_id = s.id
               WHERE a.spiffe_id = $1"#,
            spiffe_id
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?
        .map(|row| row.agent(OPERATION))
        .transpose()
    }

    /// [`ground_control_domain::store::Identities::node_agents`].
    pub(super) async fn list_agents(&self, most: u32) -> StoreResult<Vec<NodeAgent>> {
        const OPERATION: &str = "list the node agents";
        let most = i64::from(most);
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_as!(
            AgentRow,
            r#"SELECT a.spiffe_id AS "spiffe_id!", a.public_key AS "public_key!", a.previous_key AS "previous_key?",
                      a.expires_at AS "expires_at!", a.banned_at AS "banned_at?", s.id AS "satellite_id!",
                      s.name AS "name!", s.region AS "region!", r.attestation_method AS "attestation_method!",
                      r.parent_id AS "parent_id!", r.selectors AS "selectors!"
               FROM node_agents a JOIN satellites s ON s.id = a.satellite_id
                   JOIN registrations r ON r.satellite_id = s.id
               WHERE a.banned_at IS NULL ORDER BY a.spiffe_id LIMIT $1"#,
            most
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| row.agent(OPERATION))
        .collect()
    }

    /// [`ground_control_domain::store::Identities::renew_agent`].
    pub(super) async fn agent_renewed(
        &self,
        spiffe_id: &str,
        new_key: &str,
        expires_at: Timestamp,
    ) -> StoreResult<()> {
        const OPERATION: &str = "renew a node agent";
        let expires_at = millis(expires_at);
        let mut tx = self.database.rows(OPERATION).await?;
        let renewed = sqlx::query!(
            "UPDATE node_agents SET
                 previous_key = CASE WHEN public_key = $2 THEN previous_key
                                     WHEN previous_key = $2 THEN public_key
                                     ELSE COALESCE(previous_key, public_key) END,
                 public_key = $2, expires_at = $3
             WHERE spiffe_id = $1 AND banned_at IS NULL",
            spiffe_id,
            new_key,
            expires_at
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        if renewed.rows_affected() == 0 {
            return Ok(());
        }
        self.commit(tx, &Event::new(Action::AgentRenewed, "agent", spiffe_id), OPERATION).await
    }

    /// [`ground_control_domain::store::Identities::agent_used`].
    pub(super) async fn agent_key_used(&self, spiffe_id: &str, public_key: &str) -> StoreResult<()> {
        const OPERATION: &str = "note that a node agent's key is used";
        // Asked for each call of an agent; there is hardly ever anything to end.
        let mut connection = self.database.read(OPERATION).await?;
        let ends = sqlx::query_scalar!(
            r#"SELECT EXISTS (
                   SELECT 1 FROM node_agents a WHERE a.spiffe_id = $1 AND a.public_key = $2
                       AND (a.previous_key IS NOT NULL OR EXISTS (
                            SELECT 1 FROM join_tokens t WHERE t.satellite_id = a.satellite_id AND t.public_key = $2
                                AND t.claimed_at IS NOT NULL AND t.closed_at IS NULL))) AS "ends!: bool""#,
            spiffe_id,
            public_key
        )
        .fetch_one(&mut *connection)
        .await
        .during(OPERATION)?;
        drop(connection);
        if !ends {
            return Ok(());
        }
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE join_tokens SET closed_at = attempted_at
             WHERE public_key = $2 AND claimed_at IS NOT NULL AND closed_at IS NULL
               AND satellite_id = (SELECT satellite_id FROM node_agents WHERE spiffe_id = $1)",
            spiffe_id,
            public_key
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        sqlx::query!(
            "UPDATE node_agents SET previous_key = NULL WHERE spiffe_id = $1 AND public_key = $2",
            spiffe_id,
            public_key
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    /// [`ground_control_domain::store::Identities::agent_entries`].
    pub(super) async fn entries_of(&self, parent_id: &str) -> StoreResult<Vec<AgentEntry>> {
        const OPERATION: &str = "list what an agent serves";
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query!(
            r#"SELECT s.id AS "satellite_id!", s.name AS "name!", s.region AS "region!",
                      s.identity_epoch AS "epoch!: i64", r.attestation_method AS "attestation_method!",
                      r.parent_id AS "parent_id!", r.selectors AS "selectors!", r.updated_at AS "updated_at!"
               FROM registrations r JOIN satellites s ON s.id = r.satellite_id
               WHERE r.parent_id = $1 AND r.active AND s.state IN ('pending', 'online', 'stale')
               ORDER BY s.name"#,
            parent_id
        )
        .fetch_all(&mut *connection)
        .await
        .during(OPERATION)?
        .into_iter()
        .map(|row| {
            let (epoch, updated_at) = (row.epoch, time(OPERATION, row.updated_at)?);
            let registration = RegistrationRow {
                satellite_id: row.satellite_id,
                name: row.name,
                region: row.region,
                attestation_method: row.attestation_method,
                parent_id: row.parent_id,
                selectors: row.selectors,
            };
            Ok(AgentEntry { registration: registration.registration(OPERATION)?, epoch, updated_at })
        })
        .collect()
    }
}

/// A node agent attested with a satellite's join token: one that was banned is let in again, and the key that it used
/// before stays good until the new one is used. Agents of that satellite whose SVIDs have ended are forgotten.
pub(super) async fn attested(
    connection: &mut Connection,
    spiffe_id: &str,
    satellite_id: &str,
    attempt: &AttestAttempt,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let (now, expires_at) = (millis(now), millis(attempt.expires_at));
    sqlx::query!(
        "DELETE FROM node_agents WHERE satellite_id = $1 AND spiffe_id <> $2 AND expires_at < $3",
        satellite_id,
        spiffe_id,
        now
    )
    .execute(&mut *connection)
    .await
    .during(operation)?;
    sqlx::query!(
        "INSERT INTO node_agents (spiffe_id, satellite_id, public_key, attested_at, expires_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (spiffe_id) DO UPDATE SET
             previous_key = CASE WHEN node_agents.banned_at IS NOT NULL THEN NULL
                                 WHEN node_agents.public_key = excluded.public_key THEN node_agents.previous_key
                                 WHEN node_agents.previous_key = excluded.public_key THEN node_agents.public_key
                                 ELSE COALESCE(node_agents.previous_key, node_agents.public_key) END,
             satellite_id = excluded.satellite_id, public_key = excluded.public_key,
             attested_at = excluded.attested_at, expires_at = excluded.expires_at, banned_at = NULL",
        spiffe_id,
        satellite_id,
        attempt.public_key,
        now,
        expires_at
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}
