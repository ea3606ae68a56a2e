//! Registration by a one-time token, and the robot that comes of it.

use std::net::IpAddr;

use ground_control_domain::audit::{Action, Event};
use ground_control_domain::satellite::{Robot, SatelliteState};
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::RotateSecret;
use ground_control_domain::ztr::{
    self, ClaimAttempt, ClaimDecision, ClaimGrant, ClaimRefusal, Claimant, TokenClaim, TokenState,
};
use ground_control_domain::{SatelliteId, StoreError, StoreResult};
use jiff::Timestamp;

use super::{During, SqlStore, millis, read, satellites, time};
use crate::dialect::Connection;

struct TokenRow {
    satellite_id: String,
    expires_at: i64,
    claimed_at: Option<i64>,
    nonce_hash: Option<String>,
    source_address: Option<String>,
    closed_at: Option<i64>,
}

impl TokenRow {
    fn state(&self, operation: &'static str) -> StoreResult<TokenState> {
        let claimant = match (&self.nonce_hash, &self.source_address) {
            (Some(nonce), _) => Some(Claimant::Nonce(Hashed::from(nonce.clone()))),
            (None, Some(source)) => Some(Claimant::Source(read::<IpAddr>(operation, source)?)),
            (None, None) => None,
        };
        let claim = match (self.claimed_at, claimant) {
            (None, _) => None,
            (Some(at), Some(claimant)) => Some(TokenClaim { at: time(operation, at)?, claimant }),
            (Some(_), None) => {
                return Err(StoreError::corrupt(operation, "a claimed token without claimant"));
            }
        };
        Ok(TokenState {
            expires_at: time(operation, self.expires_at)?,
            claim,
            closed: self.closed_at.is_some(),
        })
    }
}

impl SqlStore {
    /// [`ground_control_domain::store::Satellites::claim_token`].
    pub(super) async fn claim(
        &self,
        attempt: ClaimAttempt,
        now: Timestamp,
    ) -> StoreResult<Result<ClaimGrant, ClaimRefusal>> {
        const OPERATION: &str = "claim a registration token";
        if !self.knows_token(&attempt.token, OPERATION).await? {
            return Ok(Err(ClaimRefusal::Unknown));
        }
        let now_millis = millis(now);
        let mut tx = self.database.rows(OPERATION).await?;
        let Decided { satellite, satellite_name, decision: again } =
            match decide_claim(&mut tx, &attempt.token, &attempt.claimant, now, OPERATION).await? {
                Ok(decided) => decided,
                Err(refusal) => return Ok(Err(refusal)),
            };
        if again == ClaimDecision::First {
            bind(&mut tx, &attempt.token, &attempt.claimant, now_millis, OPERATION).await?;
        }
        let keep_previous = again == ClaimDecision::Again { keep_previous: true };
        let new_secret = attempt.new_secret.as_str();
        sqlx::query!(
            "INSERT INTO robots (satellite_id, secret_hash, previous_secret_hash, rotated_at)
             VALUES ($1, $2, NULL, $3)
             ON CONFLICT (satellite_id) DO UPDATE SET
                 previous_secret_hash = CASE WHEN $4 THEN robots.secret_hash ELSE NULL END,
                 secret_hash = excluded.secret_hash, rotated_at = excluded.rotated_at",
            satellite,
            new_secret,
            now_millis,
            keep_previous
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let event = Event::new(Action::SatelliteClaimed, "satellite", &satellite_name)
            .with("again", again != ClaimDecision::First);
        self.commit(tx, &event, OPERATION).await?;
        Ok(Ok(ClaimGrant {
            satellite: SatelliteId::from(satellite),
            satellite_name,
            again: again != ClaimDecision::First,
        }))
    }

    /// Whether there is such a token: whoever guesses tokens must not hold up those that write.
    pub(super) async fn knows_token(&self, token: &Hashed, operation: &'static str) -> StoreResult<bool> {
        let token = token.as_str();
        let mut connection = self.database.read(operation).await?;
        let known = sqlx::query_scalar!("SELECT satellite_id FROM ztr_tokens WHERE token_hash = $1", token)
            .fetch_optional(&mut *connection)
            .await
            .during(operation)?;
        Ok(known.is_some())
    }

    /// [`ground_control_domain::store::Satellites::robot`].
    pub(super) async fn find_robot(&self, satellite: &str) -> StoreResult<Option<Robot>> {
        const OPERATION: &str = "look up a robot";
        let mut connection = self.database.read(OPERATION).await?;
        let row = sqlx::query!(
            r#"SELECT s.id AS "id!", s.name AS "name!", s.state AS "state!",
                      r.secret_hash AS "secret_hash?", r.previous_secret_hash AS "previous_secret_hash?",
                      r.rotated_at AS "rotated_at?"
               FROM satellites s LEFT JOIN robots r ON r.satellite_id = s.id
               WHERE s.name = $1 AND s.state <> 'deleted'"#,
            satellite
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?;
        row.map(|row| {
            Ok(Robot {
                satellite: SatelliteId::from(row.id),
                satellite_name: row.name,
                state: read(OPERATION, &row.state)?,
                secret: row.secret_hash.map(Hashed::from),
                previous_secret: row.previous_secret_hash.map(Hashed::from),
                secret_since: row.rotated_at.map(|millis| time(OPERATION, millis)).transpose()?,
            })
        })
        .transpose()
    }

    /// [`ground_control_domain::store::Satellites::rotate_secret`].
    pub(super) async fn rotate(&self, rotate: RotateSecret, now: Timestamp) -> StoreResult<bool> {
        const OPERATION: &str = "rotate a robot's secret";
        let (satellite, presented, new) =
            (rotate.satellite.as_str(), rotate.presented.as_str(), rotate.new_secret.as_str());
        let now = millis(now);
        let mut tx = self.database.rows(OPERATION).await?;
        let rotated = sqlx::query!(
            "UPDATE robots SET previous_secret_hash = $1, secret_hash = $2, rotated_at = $3
             WHERE satellite_id = $4 AND (secret_hash = $1 OR previous_secret_hash = $1)",
            presented,
            new,
            now,
            satellite
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        if rotated.rows_affected() == 0 {
            return Ok(false);
        }
        let name = sqlx::query_scalar!("SELECT name FROM satellites WHERE id = $1", satellite)
            .fetch_one(&mut *tx)
            .await
            .during(OPERATION)?;
        let event = Event::new(Action::SatelliteCredentialsIssued, "satellite", &name);
        self.commit(tx, &event, OPERATION).await?;
        Ok(true)
    }

    /// [`ground_control_domain::store::Identities::grant_secret`].
    pub(super) async fn grant(
        &self,
        satellite: &SatelliteId,
        secret: &Hashed,
        now: Timestamp,
    ) -> StoreResult<bool> {
        const OPERATION: &str = "give a robot a secret";
        let (id, secret, now) = (satellite.as_str(), secret.as_str(), millis(now));
        let mut tx = self.database.rows(OPERATION).await?;
        let Some(locked) = satellites::lock(&mut tx, id, OPERATION).await? else { return Ok(false) };
        if !read::<SatelliteState>(OPERATION, &locked.state)?.admits() {
            return Ok(false);
        }
        // A secret whose answer was lost is replaced; the one seen in use before it stays.
        sqlx::query!(
            "INSERT INTO robots (satellite_id, secret_hash, previous_secret_hash, rotated_at)
             VALUES ($1, $2, NULL, $3)
             ON CONFLICT (satellite_id) DO UPDATE SET
                 previous_secret_hash = COALESCE(robots.previous_secret_hash, robots.secret_hash),
                 secret_hash = excluded.secret_hash, rotated_at = excluded.rotated_at",
            id,
            secret,
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let event = Event::new(Action::SatelliteCredentialsIssued, "satellite", &locked.name);
        self.commit(tx, &event, OPERATION).await?;
        Ok(true)
    }

    /// [`ground_control_domain::store::Satellites::robot_secret_used`].
    pub(super) async fn drop_previous_secret(
        &self,
        satellite: &SatelliteId,
        secret: &Hashed,
    ) -> StoreResult<()> {
        const OPERATION: &str = "end a robot's previous secret";
        let (satellite, secret) = (satellite.as_str(), secret.as_str());
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "UPDATE robots SET previous_secret_hash = NULL
             WHERE satellite_id = $1 AND secret_hash = $2 AND previous_secret_hash IS NOT NULL",
            satellite,
            secret
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }
}

/// A claim that is not refused.
pub(super) struct Decided {
    pub(super) satellite: String,
    pub(super) satellite_name: String,
    pub(super) decision: ClaimDecision,
}

/// Decides a claim within the caller's transaction; of two at once the second sees what the first decided.
pub(super) async fn decide_claim(
    connection: &mut Connection,
    token: &Hashed,
    claimant: &Claimant,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<Result<Decided, ClaimRefusal>> {
    let (token, now_millis) = (token.as_str(), millis(now));
    // Writing first locks the row.
    let row = sqlx::query_as!(
        TokenRow,
        r#"UPDATE ztr_tokens SET attempted_at = $2 WHERE token_hash = $1
           RETURNING satellite_id AS "satellite_id!", expires_at AS "expires_at!", claimed_at AS "claimed_at?",
               nonce_hash AS "nonce_hash?", source_address AS "source_address?", closed_at AS "closed_at?""#,
        token,
        now_millis
    )
    .fetch_optional(&mut *connection)
    .await
    .during(operation)?;
    let Some(row) = row else { return Ok(Err(ClaimRefusal::Unknown)) };
    let satellite = sqlx::query!("SELECT name, state FROM satellites WHERE id = $1", row.satellite_id)
        .fetch_one(connection)
        .await
        .during(operation)?;
    let decision = match ztr::decide(&row.state(operation)?, claimant, now) {
        ClaimDecision::Refused(refusal) => return Ok(Err(refusal)),
        decision => decision,
    };
    if !read::<SatelliteState>(operation, &satellite.state)?.admits() {
        return Ok(Err(ClaimRefusal::NotAdmitted));
    }
    Ok(Ok(Decided { satellite: row.satellite_id, satellite_name: satellite.name, decision }))
}

/// Binds a token to the device that claims it first.
pub(super) async fn bind(
    connection: &mut Connection,
    token: &Hashed,
    claimant: &Claimant,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    let token = token.as_str();
    let (nonce, source) = match claimant {
        Claimant::Nonce(nonce) => (Some(nonce.as_str()), None),
        Claimant::Source(address) => (None, Some(address.to_string())),
    };
    sqlx::query!(
        "UPDATE ztr_tokens SET claimed_at = $2, nonce_hash = $3, source_address = $4 WHERE token_hash = $1",
        token,
        now,
        nonce,
        source
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}
