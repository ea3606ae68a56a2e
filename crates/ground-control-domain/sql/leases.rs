//! What only one replica does at a time.

use async_trait::async_trait;
use ground_control_domain::StoreResult;
use ground_control_domain::store::Leases;
use jiff::Timestamp;

use super::{During, SqlStore, millis, time};

#[async_trait]
impl Leases for SqlStore {
    async fn take_lease(
        &self,
        name: &'static str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> StoreResult<Result<(), Timestamp>> {
        const OPERATION: &str = "take a lease";
        let (now, until) = (millis(now), millis(until));
        let mut tx = self.database.rows(OPERATION).await?;
        let taken = sqlx::query!(
            "INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
             WHERE leases.holder = excluded.holder OR leases.until <= $4",
            name,
            holder,
            until,
            now
        )
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        let outcome = match taken.rows_affected() {
            0 => {
                let ends = sqlx::query_scalar!("SELECT until FROM leases WHERE name = $1", name)
                    .fetch_one(&mut *tx)
                    .await
                    .during(OPERATION)?;
                Err(time(OPERATION, ends)?)
            }
            _ => Ok(()),
        };
        tx.commit().await.during(OPERATION)?;
        Ok(outcome)
    }

    async fn end_lease(&self, name: &'static str, holder: &str) -> StoreResult<()> {
        const OPERATION: &str = "give a lease back";
        let mut tx = self.database.rows(OPERATION).await?;
        sqlx::query!("UPDATE leases SET until = 0 WHERE name = $1 AND holder = $2", name, holder)
            .execute(&mut *tx)
            .await
            .during(OPERATION)?;
        tx.commit().await.during(OPERATION)
    }
}
