//! Renewal of SVIDs: nonces that are good once, and the keys that vouch for new ones.

use ground_control_domain::audit::{Action, Event};
use ground_control_domain::identity::{IssueGrant, IssueRefusal, RenewAttempt, RenewalRecord, may_renew};
use ground_control_domain::satellite::SatelliteState;
use ground_control_domain::secret::Hashed;
use ground_control_domain::{SatelliteId, StoreError, StoreResult};
use jiff::Timestamp;

use super::{During, SqlStore, attestation, millis, read, satellites, time};

/// How many nonces wait at most: anybody may ask for one.
const MOST_NONCES: i64 = 100_000;

impl SqlStore {
    /// [`ground_control_domain::store::Identities::keep_nonce`].
    pub(super) async fn remember_nonce(
        &self,
        nonce: &Hashed,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> StoreResult<()> {
        const OPERATION: &str = "keep a renewal's nonce";
        let (nonce, expires_at, now) = (nonce.as_str(), millis(expires_at), millis(now));
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("DELETE FROM renewal_nonces WHERE expires_at <= $1", now)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        let waiting = sqlx::query_scalar!(
            r#"SELECT COUNT(*) AS "n!: i64" FROM (SELECT 1 AS one FROM renewal_nonces LIMIT $1) AS waiting"#,
            MOST_NONCES
        )
        .fetch_one(&mut *tx)
        .await
        .during(OPERATION)?;
        if waiting >= MOST_NONCES {
            return Err(StoreError::Busy { operation: OPERATION, source: "too many nonces wait".into() });
        }
        sqlx::query!(
            "INSERT INTO renewal_nonces (nonce_hash, expires_at) VALUES ($1, $2)",
            nonce,
            expires_at
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    /// [`ground_control_domain::store::Identities::renewal_record`].
    pub(super) async fn find_renewal(&self, name: &str) -> StoreResult<Option<RenewalRecord>> {
        const OPERATION: &str = "look up the keys of an identity";
        let mut connection = self.database.read(OPERATION).await?;
        let row = sqlx::query!(
            r#"SELECT s.id AS "id!", s.name AS "name!", s.region AS "region!", s.state AS "state!",
                      s.identity_epoch AS "epoch!: i64", k.public_key AS "public_key!",
                      k.previous_key AS "previous_key?", k.expires_at AS "expires_at!"
               FROM satellites s JOIN identity_keys k ON k.satellite_id = s.id
               WHERE s.name = $1 AND s.state <> 'deleted'"#,
            name
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?;
        row.map(|row| {
            Ok(RenewalRecord {
                state: read(OPERATION, &row.state)?,
                expires_at: time(OPERATION, row.expires_at)?,
                keys: std::iter::once(row.public_key).chain(row.previous_key).collect(),
                grant: IssueGrant {
                    satellite: SatelliteId::from(row.id),
                    name: row.name,
                    region: row.region,
                    epoch: row.epoch,
                    again: false,
                },
            })
        })
        .transpose()
    }

    /// [`ground_control_domain::store::Identities::renew`].
    pub(super) async fn renew_identity(
        &self,
        attempt: RenewAttempt,
        now: Timestamp,
    ) -> StoreResult<Result<IssueGrant, IssueRefusal>> {
        const OPERATION: &str = "renew an identity";
        let (id, nonce) = (attempt.satellite.as_str(), attempt.nonce.as_str());
        let mut tx = self.database.rows(OPERATION).await?;
        // Of two with the same nonce the second waits here and then finds it gone.
        let kept = sqlx::query_scalar!(
            r#"DELETE FROM renewal_nonces WHERE nonce_hash = $1 RETURNING expires_at AS "expires_at!""#,
            nonce
        )
        .fetch_optional(&mut *tx)
        .await
        .during(OPERATION)?;
        if kept.is_none_or(|expires_at| expires_at <= millis(now)) {
            return Ok(Err(IssueRefusal::Nonce));
        }
        let Some(satellite) = satellites::lock(&mut tx, id, OPERATION).await? else {
            return Ok(Err(IssueRefusal::Key));
        };
        let state: SatelliteState = read(OPERATION, &satellite.state)?;
        let decided = match attestation::keys(&mut tx, id, OPERATION).await? {
            None if state == SatelliteState::Revoked => Err(IssueRefusal::NotAdmitted),
            None => Err(IssueRefusal::Key),
            Some((keys, expires_at)) => {
                let record = RenewalRecord {
                    grant: IssueGrant {
                        satellite: attempt.satellite.clone(),
                        name: satellite.name,
                        region: satellite.region,
                        epoch: satellite.epoch,
                        again: keys.present == attempt.new_key,
                    },
                    state,
                    keys: std::iter::once(keys.present.clone()).chain(keys.previous.clone()).collect(),
                    expires_at,
                };
                may_renew(&record, &attempt.old_key, attempt.grace, now).map(|()| (record.grant, keys))
            }
        };
        let outcome = match decided {
            Err(refusal) => Err(refusal),
            Ok((grant, keys)) => {
                let keys = keys.renewed(&attempt.old_key, &attempt.new_key);
                attestation::keep_keys(&mut tx, id, &keys, now, attempt.expires_at, OPERATION).await?;
                Ok(grant)
            }
        };
        match &outcome {
            Ok(grant) => {
                let event = Event::new(Action::SatelliteRenewed, "satellite", &grant.name);
                self.commit(tx, &event, OPERATION).await?;
            }
            // A refusal consumes the nonce, too.
            Err(_) => tx.commit().await.during(OPERATION)?,
        }
        Ok(outcome)
    }
}
