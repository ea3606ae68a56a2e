//! Attestation to the built-in authority: join tokens are claimed, SVIDs are shown.

use ground_control_domain::audit::{Action, Event};
use ground_control_domain::identity::{
    AttestAttempt, IdentityKeys, IssueGrant, IssueRefusal, JoinDecision, JoinToken,
};
use ground_control_domain::satellite::SatelliteState;
use ground_control_domain::{SatelliteId, StoreResult};
use jiff::Timestamp;

use super::{During, SqlStore, agents, millis, read, satellites, time};
use crate::dialect::Connection;

impl SqlStore {
    /// [`ground_control_domain::store::Identities::attest`].
    pub(super) async fn claim_join_token(
        &self,
        attempt: AttestAttempt,
        now: Timestamp,
    ) -> StoreResult<Result<IssueGrant, IssueRefusal>> {
        const OPERATION: &str = "claim a join token";
        let token = attempt.token.as_str();
        // Whoever guesses tokens must not hold up those that write.
        let mut connection = self.database.read(OPERATION).await?;
        let known = sqlx::query_scalar!("SELECT satellite_id FROM join_tokens WHERE token_hash = $1", token)
            .fetch_optional(&mut *connection)
            .await
            .during(OPERATION)?;
        drop(connection);
        let Some(id) = known else { return Ok(Err(IssueRefusal::Unknown)) };

        let mut tx = self.database.rows(OPERATION).await?;
        // Of two claims at once the second sees what the first decided.
        let Some(satellite) = satellites::lock(&mut tx, &id, OPERATION).await? else {
            return Ok(Err(IssueRefusal::Unknown));
        };
        let state: SatelliteState = read(OPERATION, &satellite.state)?;
        if !state.admits() && state != SatelliteState::Deleted {
            return Ok(Err(IssueRefusal::NotAdmitted));
        }
        let Some(kept) = attempted(&mut tx, token, now, OPERATION).await? else {
            return Ok(Err(IssueRefusal::Unknown));
        };
        let again = match kept.decide(&attempt.public_key, now) {
            JoinDecision::Refused(refusal) => return Ok(Err(refusal)),
            JoinDecision::Again => true,
            JoinDecision::First => {
                bind(&mut tx, &attempt, millis(now), OPERATION).await?;
                false
            }
        };
        match &attempt.agent {
            Some(agent) => agents::attested(&mut tx, agent, &id, &attempt, now, OPERATION).await?,
            None => {
                let before = keys(&mut tx, &id, OPERATION).await?.map(|(keys, _)| keys);
                let keys = IdentityKeys::attested(before, &attempt.public_key);
                keep_keys(&mut tx, &id, &keys, now, attempt.expires_at, OPERATION).await?;
            }
        }
        let event = Event::new(Action::SatelliteAttested, "satellite", &satellite.name).with("again", again);
        let event = match &attempt.agent {
            Some(agent) => event.with("agent", agent.as_str()),
            None => event,
        };
        self.commit(tx, &event, OPERATION).await?;
        Ok(Ok(IssueGrant {
            satellite: SatelliteId::from(id),
            name: satellite.name,
            region: satellite.region,
            epoch: satellite.epoch,
            again,
        }))
    }

    /// [`ground_control_domain::store::Identities::identity_used`].
    pub(super) async fn key_used(
        &self,
        satellite: &SatelliteId,
        public_key: &str,
        now: Timestamp,
    ) -> StoreResult<()> {
        const OPERATION: &str = "note that an identity is used";
        let (id, now) = (satellite.as_str(), millis(now));
        // A device that goes on with its previous key asks at every request; there is nothing to end by that.
        let mut connection = self.database.read(OPERATION).await?;
        let ends = sqlx::query_scalar!(
            r#"SELECT (EXISTS (SELECT 1 FROM identity_keys
                               WHERE satellite_id = $1 AND public_key = $2 AND previous_key IS NOT NULL)
                       OR EXISTS (SELECT 1 FROM join_tokens
                                  WHERE satellite_id = $1 AND public_key = $2 AND closed_at IS NULL)) AS "ends!: bool""#,
            id,
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
        satellites::lock(&mut tx, id, OPERATION).await?;
        sqlx::query!(
            "UPDATE join_tokens SET closed_at = $1
             WHERE satellite_id = $2 AND public_key = $3 AND claimed_at IS NOT NULL AND closed_at IS NULL",
            now,
            id,
            public_key
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        sqlx::query!(
            "UPDATE identity_keys SET previous_key = NULL
             WHERE satellite_id = $1 AND public_key = $2 AND previous_key IS NOT NULL",
            id,
            public_key
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }
}

/// The token as it stands, locked.
async fn attempted(
    connection: &mut Connection,
    token: &str,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<Option<JoinToken>> {
    let now = millis(now);
    sqlx::query!(
        r#"UPDATE join_tokens SET attempted_at = $2 WHERE token_hash = $1
           RETURNING expires_at AS "expires_at!", public_key AS "public_key?", closed_at AS "closed_at?""#,
        token,
        now
    )
    .fetch_optional(connection)
    .await
    .during(operation)?
    .map(|row| {
        Ok(JoinToken {
            expires_at: time(operation, row.expires_at)?,
            claimed_by: row.public_key,
            closed: row.closed_at.is_some(),
        })
    })
    .transpose()
}

async fn bind(
    connection: &mut Connection,
    attempt: &AttestAttempt,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    let token = attempt.token.as_str();
    sqlx::query!(
        "UPDATE join_tokens SET claimed_at = $2, public_key = $3 WHERE token_hash = $1",
        token,
        now,
        attempt.public_key
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

/// The keys of a satellite, and the end of the SVID issued last. Its row is to be locked where they are changed after.
pub(super) async fn keys(
    connection: &mut Connection,
    id: &str,
    operation: &'static str,
) -> StoreResult<Option<(IdentityKeys, Timestamp)>> {
    sqlx::query!("SELECT public_key, previous_key, expires_at FROM identity_keys WHERE satellite_id = $1", id)
        .fetch_optional(connection)
        .await
        .during(operation)?
        .map(|row| {
            let keys = IdentityKeys { present: row.public_key, previous: row.previous_key };
            Ok((keys, time(operation, row.expires_at)?))
        })
        .transpose()
}

/// Keeps the keys of a satellite and the end of the SVID that is issued.
pub(super) async fn keep_keys(
    connection: &mut Connection,
    id: &str,
    keys: &IdentityKeys,
    now: Timestamp,
    expires_at: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let (now, expires_at) = (millis(now), millis(expires_at));
    sqlx::query!(
        "INSERT INTO identity_keys (satellite_id, public_key, previous_key, issued_at, expires_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (satellite_id) DO UPDATE SET
             public_key = excluded.public_key, previous_key = excluded.previous_key,
             issued_at = excluded.issued_at, expires_at = excluded.expires_at",
        id,
        keys.present,
        keys.previous,
        now,
        expires_at
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}
