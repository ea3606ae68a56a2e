//! Keys of requests that make something once.

use async_trait::async_trait;
use ground_control_domain::idempotency::{Attempt, CLAIM, Claim, Known, LIFETIME, MOST_KEYS, Outcome};
use ground_control_domain::store::Idempotency;
use ground_control_domain::{StoreError, StoreResult};
use jiff::Timestamp;

use super::{During, SqlStore, millis, time};
use crate::dialect::Connection;

#[async_trait]
impl Idempotency for SqlStore {
    async fn claim_key(&self, attempt: &Attempt, now: Timestamp) -> StoreResult<Outcome> {
        const OPERATION: &str = "claim an idempotency key";
        let Attempt { claim, request_hash } = attempt;
        let (caller, key, holder) = (&claim.caller, &claim.key_hash, &claim.holder);
        let after = |life| millis(now.checked_add(life).unwrap_or(Timestamp::MAX));
        let (now_millis, until, end) = (millis(now), after(CLAIM), after(LIFETIME));
        let mut tx = self.database.rows(OPERATION).await?;
        let taken = sqlx::query!(
            "INSERT INTO idempotency_keys
                 (caller, key_hash, request_hash, claim, claimed_until, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (caller, key_hash) DO UPDATE SET request_hash = excluded.request_hash,
                 claim = excluded.claim, claimed_until = excluded.claimed_until, made = FALSE, status = 0,
                 answer = '', answer_until = 0, created_at = excluded.created_at,
                 expires_at = excluded.expires_at
             WHERE idempotency_keys.expires_at <= excluded.created_at
                 OR (NOT idempotency_keys.made AND idempotency_keys.status = 0
                     AND idempotency_keys.claimed_until <= excluded.created_at
                     AND idempotency_keys.request_hash = excluded.request_hash)",
            caller,
            key,
            request_hash,
            holder,
            until,
            now_millis,
            end
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let outcome = if taken.rows_affected() > 0 {
            make_room(&mut tx, caller, now_millis, OPERATION).await?;
            Outcome::Claimed
        } else {
            known(&mut tx, caller, key, OPERATION).await?.outcome(request_hash, now)
        };
        tx.commit().await.during(OPERATION)?;
        Ok(outcome)
    }

    async fn keep_answer(
        &self,
        claim: &Claim,
        status: u16,
        answer: Option<&str>,
        until: Timestamp,
    ) -> StoreResult<bool> {
        const OPERATION: &str = "keep the answer to an idempotency key";
        let (caller, key, holder) = (&claim.caller, &claim.key_hash, &claim.holder);
        let (status, until, answer) = (i64::from(status), millis(until), answer.unwrap_or_default());
        let mut tx = self.database.rows(OPERATION).await?;
        let kept = sqlx::query!(
            "UPDATE idempotency_keys SET status = $1, answer = $2, answer_until = $3
             WHERE caller = $4 AND key_hash = $5 AND claim = $6",
            status,
            answer,
            until,
            caller,
            key,
            holder
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(kept.rows_affected() > 0)
    }

    async fn release_key(&self, claim: &Claim) -> StoreResult<()> {
        const OPERATION: &str = "forget an idempotency key";
        let (caller, key, holder) = (&claim.caller, &claim.key_hash, &claim.holder);
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!(
            "DELETE FROM idempotency_keys WHERE caller = $1 AND key_hash = $2 AND claim = $3 AND NOT made",
            caller,
            key,
            holder
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }

    async fn purge_keys(&self, now: Timestamp) -> StoreResult<()> {
        const OPERATION: &str = "remove old idempotency keys";
        let now = millis(now);
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("DELETE FROM idempotency_keys WHERE expires_at <= $1", now)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        sqlx::query!(
            "UPDATE idempotency_keys SET answer = '' WHERE answer <> '' AND answer_until <= $1",
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }
}

/// Marks that something is made, in the transaction that makes it. Nobody made it meanwhile: a claim that was taken over makes
/// nothing any more.
pub(super) async fn made(
    connection: &mut Connection,
    claim: &Claim,
    operation: &'static str,
) -> StoreResult<()> {
    let (caller, key, holder) = (&claim.caller, &claim.key_hash, &claim.holder);
    let marked = sqlx::query!(
        "UPDATE idempotency_keys SET made = TRUE WHERE caller = $1 AND key_hash = $2 AND claim = $3",
        caller,
        key,
        holder
    )
    .execute(connection)
    .await
    .during(operation)?;
    if marked.rows_affected() > 0 {
        return Ok(());
    }
    let message = "another request with this Idempotency-Key has begun since, and carries it out".to_owned();
    Err(StoreError::Conflict { message })
}

/// Forgets the oldest keys of a caller who has too many.
async fn make_room(
    connection: &mut Connection,
    caller: &str,
    now: i64,
    operation: &'static str,
) -> StoreResult<()> {
    let (at_once, most) = (64_i64, i64::from(MOST_KEYS));
    sqlx::query!(
        "DELETE FROM idempotency_keys WHERE caller = $1 AND key_hash IN (
             SELECT key_hash FROM idempotency_keys
             WHERE caller = $1 AND (status <> 0 OR claimed_until <= $2)
             ORDER BY created_at DESC LIMIT $3 OFFSET $4)",
        caller,
        now,
        at_once,
        most
    )
    .execute(connection)
    .await
    .during(operation)
    .map(drop)
}

async fn known(
    connection: &mut Connection,
    caller: &str,
    key: &str,
    operation: &'static str,
) -> StoreResult<Known> {
    let row = sqlx::query!(
        r#"SELECT request_hash, made AS "made!: bool", claimed_until, status, answer, answer_until
           FROM idempotency_keys WHERE caller = $1 AND key_hash = $2"#,
        caller,
        key
    )
    .fetch_one(connection)
    .await
    .during(operation)?;
    Ok(Known {
        request_hash: row.request_hash,
        made: row.made,
        claimed_until: time(operation, row.claimed_until)?,
        status: u16::try_from(row.status).ok().filter(|status| *status != 0),
        answer: Some(row.answer).filter(|answer| !answer.is_empty()),
        answer_until: time(operation, row.answer_until)?,
    })
}
