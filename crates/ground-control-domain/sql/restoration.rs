//! A database that was put back from a backup.
//!
//! These queries run once in the life of a database. They are not checked while the program is compiled, since they look at
//! the driver's own table of migrations, too; the store suite runs all of them on both databases.

use async_trait::async_trait;
use ground_control_domain::audit::{Action, Event};
use ground_control_domain::backup::{Restored, Standing, next_epoch};
use ground_control_domain::store::Restoration;
use ground_control_domain::{StoreError, StoreResult};
use jiff::Timestamp;
use sqlx::Row as _;

use super::{During, SqlStore, millis, outbox};
use crate::dialect::Connection;

/// Ends what may have been ended, and gives back what nobody holds any more. What is counted for the operator stands apart.
const GIVEN_BACK: &[&str] = &[
    "DELETE FROM oidc_logins",
    "DELETE FROM oidc_codes",
    "DELETE FROM renewal_nonces",
    "DELETE FROM leases",
    "DELETE FROM idempotency_keys",
    "UPDATE audit_cursors SET lease_until = 0",
    "UPDATE outbox SET claimed_until = 0",
    "UPDATE harbor_sites SET claimed_until = 0",
    "UPDATE followed_repositories SET claimed_until = 0",
    "UPDATE webhook_policies SET claimed_until = 0",
];

/// Hundredths of a second since 1970 stay below the 40 bits of a number for three hundred years, and no server publishes as
/// many documents as pass of them.
const MILLIS_PER_NUMBER: i64 = 10;

#[async_trait]
impl Restoration for SqlStore {
    async fn standing(&self) -> StoreResult<Standing> {
        const OPERATION: &str = "look how far the database is";
        let mut connection = self.database.read(OPERATION).await?;
        standing(&mut connection, OPERATION).await
    }

    async fn restored(&self, seen: u64, taken_at: Timestamp, now: Timestamp) -> StoreResult<Restored> {
        const OPERATION: &str = "bring a restored database up to date";
        let mut tx = self.database.fleet(OPERATION).await?;
        let before = standing(&mut tx, OPERATION).await?;
        let epoch = next_epoch(before.epoch, seen);
        sqlx::query(
            "INSERT INTO settings (name, value) VALUES ('epoch', $1)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(epoch.to_string())
        .execute(&mut *tx)
        .await
        .during(OPERATION)?;
        for statement in GIVEN_BACK {
            sqlx::query(*statement).execute(&mut *tx).await.during(OPERATION)?;
        }
        let sessions =
            sqlx::query("DELETE FROM sessions").execute(&mut *tx).await.during(OPERATION)?.rows_affected();
        let mut tokens = 0;
        for statement in [
            "UPDATE ztr_tokens SET closed_at = $1 WHERE claimed_at IS NULL AND closed_at IS NULL",
            "UPDATE join_tokens SET closed_at = $1 WHERE claimed_at IS NULL AND closed_at IS NULL",
        ] {
            let closed =
                sqlx::query(statement).bind(millis(now)).execute(&mut *tx).await.during(OPERATION)?;
            tokens += closed.rows_affected();
        }
        let documents = outbox::enqueue_all(&mut tx, now, OPERATION).await?;
        number_anew(&mut tx, now, OPERATION).await?;
        let event = Event::new(Action::DatabaseRestored, "database", "restored")
            .with("taken_at", taken_at.to_string())
            .with("epoch", epoch)
            .with("sessions", sessions)
            .with("tokens", tokens);
        self.commit(tx, &event, OPERATION).await?;
        Ok(Restored { epoch, sessions, tokens, documents })
    }
}

async fn standing(connection: &mut Connection, operation: &'static str) -> StoreResult<Standing> {
    let schema: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await
        .during(operation)?;
    let mut standing = Standing { schema, ..Standing::default() };
    let rows =
        sqlx::query("SELECT name, value FROM settings").fetch_all(connection).await.during(operation)?;
    for row in rows {
        let (name, value): (String, String) =
            (row.try_get(0).during(operation)?, row.try_get(1).during(operation)?);
        standing.note(&name, value).map_err(|error| StoreError::corrupt(operation, error))?;
    }
    Ok(standing)
}

/// Gives what is published numbers above all that were given, in the same order.
async fn number_anew(
    connection: &mut Connection,
    now: Timestamp,
    operation: &'static str,
) -> StoreResult<()> {
    let counted: i64 = sqlx::query_scalar("SELECT value FROM counters WHERE name = 'changes'")
        .fetch_one(&mut *connection)
        .await
        .during(operation)?;
    let from = counted.max(millis(now) / MILLIS_PER_NUMBER);
    let numbered = sqlx::query(
        "UPDATE published SET number = $1 + counted.place
         FROM (SELECT document, ROW_NUMBER() OVER (ORDER BY number, document) AS place
               FROM published WHERE number > 0) AS counted
         WHERE counted.document = published.document",
    )
    .bind(from)
    .execute(&mut *connection)
    .await
    .during(operation)?;
    let last = from.saturating_add(i64::try_from(numbered.rows_affected()).unwrap_or(i64::MAX));
    sqlx::query("UPDATE counters SET value = $1 WHERE name = 'changes'")
        .bind(last)
        .execute(connection)
        .await
        .during(operation)
        .map(drop)
}
