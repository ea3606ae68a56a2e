//! Limits that all replicas share.

use std::time::Duration;

use async_trait::async_trait;
use ground_control_domain::StoreResult;
use ground_control_domain::backup::KEY_CHECK;
use ground_control_domain::limit::Rate;
use ground_control_domain::store::Limits;
use jiff::Timestamp;

use super::{During, SqlStore, millis, time};
use crate::dialect::Connection;

async fn whole_at(
    connection: &mut Connection,
    subject: &str,
    operation: &'static str,
) -> StoreResult<Option<Timestamp>> {
    sqlx::query_scalar!("SELECT whole_at FROM rate_limits WHERE subject = $1", subject)
        .fetch_optional(connection)
        .await
        .during(operation)?
        .map(|at| time(operation, at))
        .transpose()
}

#[async_trait]
impl Limits for SqlStore {
    async fn take(&self, subject: &str, rate: Rate, now: Timestamp) -> StoreResult<Result<(), Duration>> {
        const OPERATION: &str = "take from a limit";
        let mut tx = self.database.rows(OPERATION).await?;
        // The row is there and ours before it is read: of two that take at once both count.
        sqlx::query!(
            "INSERT INTO rate_limits (subject, whole_at) VALUES ($1, 0)
             ON CONFLICT (subject) DO UPDATE SET whole_at = rate_limits.whole_at",
            subject
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let next = match rate.take(whole_at(&mut tx, subject, OPERATION).await?, now) {
            Ok(next) => millis(next),
            Err(wait) => return Ok(Err(wait)),
        };
        sqlx::query!("UPDATE rate_limits SET whole_at = $2 WHERE subject = $1", subject, next)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(Ok(()))
    }

    async fn exhausted(&self, subject: &str, rate: Rate, now: Timestamp) -> StoreResult<Option<Duration>> {
        const OPERATION: &str = "look at a limit";
        let mut connection = self.database.read(OPERATION).await?;
        Ok(rate.take(whole_at(&mut connection, subject, OPERATION).await?, now).err())
    }

    async fn key_check(&self, value: &str) -> StoreResult<String> {
        const OPERATION: &str = "check the server key";
        let mut tx = self.database.rows(OPERATION).await?;
        let kept = sqlx::query_scalar!(
            r#"INSERT INTO settings (name, value) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET value = settings.value RETURNING value AS "value!""#,
            KEY_CHECK,
            value
        )
        .fetch_one(&mut *tx)
        .await
        .during(OPERATION)?;
        tx.commit().await.during(OPERATION)?;
        Ok(kept)
    }
}
