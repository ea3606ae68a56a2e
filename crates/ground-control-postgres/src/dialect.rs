//! What is PostgreSQL's own: connections, transactions, error codes, and the claim of intents.

use std::time::Duration;

use ground_control_domain::change::Change;
use ground_control_domain::{StoreError, StoreResult};
use secrecy::{ExposeSecret, SecretString};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Postgres, Transaction};
use tokio::sync::broadcast;

use crate::listen::Listening;
use crate::shared::During as _;
use crate::shared::outbox::ClaimedRow;
use crate::shared::transaction::Writing;

/// A connection of this driver.
pub(crate) type Connection = sqlx::PgConnection;

/// This driver.
pub(crate) type Driver = Postgres;

/// The name for logs and status.
pub(crate) const KIND: &str = "postgresql";

/// The name that a server's connections have in lists of them.
pub(crate) const SERVER: &str = "ground-control";

/// How long a caller waits for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections one replica opens at most.
const CONNECTIONS: u32 = 10;
/// The advisory lock of what people change; any number, as long as every version keeps it.
const FLEET: i64 = 0x6763_666c_6565_7400;

/// The advisory lock of whoever looks how what satellites hold differs from what they shall have.
const DRIFT: i64 = 0x6763_6472_6966_7400;

/// What an error of the database means.
pub(crate) enum Fate {
    /// Another one holds the lock, or the server has no room: later.
    Busy,
    /// A text that cannot be kept.
    BadText,
    /// Anything else.
    Broken,
}

/// The meaning of an SQLSTATE: serialization failure, deadlock, lock or statement timeout, too many connections,
/// starting up or shutting down; a NUL within a text.
pub(crate) fn fate(code: &str) -> Fate {
    match code {
        "40001" | "40P01" | "55P03" | "57014" | "53300" | "57P01" | "57P03" => Fate::Busy,
        "22021" => Fate::BadText,
        _ => Fate::Broken,
    }
}

/// The connections to the server.
#[derive(Debug)]
pub(crate) struct Database {
    pool: PgPool,
    listening: Listening,
}

/// Tells all replicas of changes, this one included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Feed;

impl Feed {
    /// What is told within a transaction arrives when it is committed, or never.
    pub(crate) async fn before_commit(
        self,
        connection: &mut Connection,
        told: &[Change],
    ) -> Result<(), sqlx::Error> {
        for change in told {
            let text = change.to_string();
            sqlx::query!("SELECT pg_notify('ground_control', $1)", text).execute(&mut *connection).await?;
        }
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "the other database is told then")]
    pub(crate) fn after_commit(self, _: Vec<Change>) {}
}

impl Database {
    pub(crate) async fn open(url: &SecretString) -> StoreResult<Self> {
        const OPERATION: &str = "connect to the database";
        let options: PgConnectOptions = url.expose_secret().parse().during(OPERATION)?;
        // A replica that hangs in the middle of something must not hold the others up for ever.
        let options = options.application_name(SERVER).options([
            ("lock_timeout", "10s"),
            ("statement_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "60s"),
            // Statements here are short. Compiling one takes the server longer than the longest of them runs, and a wrong estimate,
            // such as that of a table that was filled a moment ago, is enough for it to do so.
            ("jit", "off"),
            // A plan that was kept from when a table was nearly empty reads all of it, for each row of a batch, until the server looks
            // at the table by itself, a minute after a fleet of ten thousand has come. Planning anew costs less than a millisecond.
            ("plan_cache_mode", "force_custom_plan"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .connect_with(options.clone())
            .await
            .during(OPERATION)?;
        migrate(&pool).await?;
        Ok(Self { pool, listening: Listening::start(options).await.during(OPERATION)? })
    }

    /// A connection for one query.
    pub(crate) async fn read(&self, operation: &'static str) -> StoreResult<PoolConnection<Postgres>> {
        self.pool.acquire().await.during(operation)
    }

    /// A transaction in which several queries see one moment.
    pub(crate) async fn snapshot(
        &self,
        operation: &'static str,
    ) -> StoreResult<Transaction<'static, Postgres>> {
        self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.during(operation)
    }

    /// A transaction that changes rows of its own.
    pub(crate) async fn rows(&self, operation: &'static str) -> StoreResult<Writing> {
        Ok(Writing::new(self.pool.begin().await.during(operation)?, Feed))
    }

    /// A transaction that changes what belongs together: one at a time over all replicas.
    pub(crate) async fn fleet(&self, operation: &'static str) -> StoreResult<Writing> {
        let mut tx = self.rows(operation).await?;
        tx.tell(Change::Fleet);
        sqlx::query!("SELECT pg_advisory_xact_lock($1)", FLEET).execute(&mut *tx).await.during(operation)?;
        Ok(tx)
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.listening.changes()
    }

    pub(crate) async fn close(&self) {
        self.listening.stop();
        self.pool.close().await;
    }
}

async fn migrate(pool: &PgPool) -> StoreResult<()> {
    const OPERATION: &str = "bring the tables up to date";
    let mut migrator = sqlx::migrate!("../ground-control-domain/migrations");
    migrator.set_ignore_missing(true);
    migrator
        .run(pool)
        .await
        .map_err(|error| StoreError::Backend { operation: OPERATION, source: Box::new(error) })
}

/// Claims intents that are due, passing over those that another replica is claiming at this moment.
pub(crate) async fn claim(
    connection: &mut Connection,
    limit: i64,
    now: i64,
    until: i64,
) -> Result<Vec<ClaimedRow>, sqlx::Error> {
    sqlx::query_as!(
        ClaimedRow,
        r#"WITH due AS MATERIALIZED (
               SELECT document FROM outbox WHERE due_at <= $2 AND claimed_until <= $2
               ORDER BY publish_order, due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
           UPDATE outbox SET claimed_until = $1 FROM due WHERE outbox.document = due.document
           RETURNING outbox.document AS "document!", outbox.change_id AS "change_id!",
               outbox.attempts AS "attempts!", outbox.verify AS "verify!: bool",
               outbox.enqueued_at AS "enqueued_at!""#,
        until,
        now,
        limit
    )
    .fetch_all(connection)
    .await
}

/// One transaction at a time from here to its end, over all replicas.
pub(crate) async fn lock_drift(connection: &mut Connection) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", DRIFT).execute(connection).await.map(drop)
}

/// Whether the queries that follow in this transaction merge indexes in their order, or are planned as any other.
///
/// By its estimates the planner would rather gather a hundred thousand rows, hash and sort them for each page, which takes several
/// times as long.
pub(crate) async fn walk_indexes(connection: &mut Connection, walk: bool) -> Result<(), sqlx::Error> {
    let otherwise = if walk { "off" } else { "on" };
    sqlx::query!(
        r#"SELECT set_config('enable_hashjoin', $1, TRUE) AS "hash", set_config('enable_nestloop', $1, TRUE) AS "nested",
               set_config('enable_seqscan', $1, TRUE) AS "whole", set_config('enable_bitmapscan', $1, TRUE) AS "bitmap",
               set_config('jit', 'off', TRUE) AS "compiled",
               set_config('max_parallel_workers_per_gather', '0', TRUE) AS "parallel""#,
        otherwise
    )
    .fetch_one(connection)
    .await
    .map(drop)
}
