//! What is SQLite's own: connections, transactions, error codes, and the claim of intents.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use ground_control_domain::change::Change;
use ground_control_domain::{StoreError, StoreResult};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};
use tokio::sync::broadcast;

use crate::shared::CHANGES;
use crate::shared::During as _;
use crate::shared::outbox::ClaimedRow;
use crate::shared::transaction::Writing;

/// A connection of this driver.
pub(crate) type Connection = sqlx::SqliteConnection;

/// This driver.
pub(crate) type Driver = Sqlite;

/// The name for logs and status.
pub(crate) const KIND: &str = "sqlite";

/// How long a caller waits for a connection, and a connection for another process's lock.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections read at once.
const READERS: u32 = 4;

/// What an error of the database means.
pub(crate) enum Fate {
    /// Another one holds the lock: later.
    Busy,
    /// A text that cannot be kept. SQLite keeps every text.
    #[expect(dead_code, reason = "the other database has such texts")]
    BadText,
    /// Anything else.
    Broken,
}

/// The meaning of an extended result code: its low byte is the primary one (5 busy, 6 locked).
pub(crate) fn fate(code: &str) -> Fate {
    match code.parse::<i32>().map(|code| code & 0xff) {
        Ok(5 | 6) => Fate::Busy,
        _ => Fate::Broken,
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Database {
    readers: SqlitePool,
    writer: SqlitePool,
    feed: Feed,
}

/// Tells of changes within this process: nobody else works on this file.
#[derive(Debug, Clone)]
pub(crate) struct Feed(broadcast::Sender<Change>);

impl Feed {
    #[expect(clippy::unused_async, reason = "the other database is told within the transaction")]
    pub(crate) async fn before_commit(&self, _: &mut Connection, _: &[Change]) -> Result<(), sqlx::Error> {
        Ok(())
    }

    pub(crate) fn after_commit(&self, told: Vec<Change>) {
        for change in told {
            // Nobody may be listening.
            let _ = self.0.send(change);
        }
    }
}

impl Database {
    pub(crate) async fn open(path: &Path) -> StoreResult<Self> {
        const OPERATION: &str = "open the database";
        // SQLite would make the file, and the logs beside it, as readable as the process's mask says.
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| StoreError::corrupt(OPERATION, format!("{}: {error}", path.display())))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(PATIENCE)
            .statement_cache_capacity(256);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(PATIENCE)
            .connect_with(options.clone())
            .await
            .during(OPERATION)?;
        migrate(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .during(OPERATION)?;
        Ok(Self { readers, writer, feed: Feed(broadcast::Sender::new(CHANGES)) })
    }

    /// A connection for one query.
    pub(crate) async fn read(&self, operation: &'static str) -> StoreResult<PoolConnection<Sqlite>> {
        self.readers.acquire().await.during(operation)
    }

    /// A transaction in which several queries see one moment.
    pub(crate) async fn snapshot(
        &self,
        operation: &'static str,
    ) -> StoreResult<Transaction<'static, Sqlite>> {
        self.readers.begin().await.during(operation)
    }

    /// A transaction that changes rows of its own.
    pub(crate) async fn rows(&self, operation: &'static str) -> StoreResult<Writing> {
        let transaction = self.writer.begin_with("BEGIN IMMEDIATE").await.during(operation)?;
        Ok(Writing::new(transaction, self.feed.clone()))
    }

    /// A transaction that changes what belongs together; they all stand in one line here anyway.
    pub(crate) async fn fleet(&self, operation: &'static str) -> StoreResult<Writing> {
        let mut tx = self.rows(operation).await?;
        tx.tell(Change::Fleet);
        Ok(tx)
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.feed.0.subscribe()
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        // The last one to close writes the log back into the file.
        self.writer.close().await;
    }
}

async fn migrate(pool: &SqlitePool) -> StoreResult<()> {
    const OPERATION: &str = "bring the tables up to date";
    let mut migrator = sqlx::migrate!("../ground-control-domain/migrations");
    migrator.set_ignore_missing(true);
    migrator
        .run(pool)
        .await
        .map_err(|error| StoreError::Backend { operation: OPERATION, source: Box::new(error) })
}

/// Claims intents that are due. There is one writer, so that nobody can claim between the look and the claim.
pub(crate) async fn claim(
    connection: &mut Connection,
    limit: i64,
    now: i64,
    until: i64,
) -> Result<Vec<ClaimedRow>, sqlx::Error> {
    sqlx::query_as!(
        ClaimedRow,
        r#"UPDATE outbox SET claimed_until = $1
           WHERE document IN (SELECT document FROM outbox WHERE due_at <= $2 AND claimed_until <= $2
                              ORDER BY publish_order, due_at LIMIT $3)
           RETURNING document AS "document!", change_id AS "change_id!", attempts AS "attempts!",
               verify AS "verify!: bool", enqueued_at AS "enqueued_at!""#,
        until,
        now,
        limit
    )
    .fetch_all(connection)
    .await
}

/// Nobody else writes while a transaction does.
#[expect(clippy::unused_async, reason = "the other database takes a lock")]
pub(crate) async fn lock_drift(_: &mut Connection) -> Result<(), sqlx::Error> {
    Ok(())
}

/// It has no other way: joins are nested, in the order that indexes give.
#[expect(clippy::unused_async, reason = "the other database is told")]
pub(crate) async fn walk_indexes(_: &mut Connection, _: bool) -> Result<(), sqlx::Error> {
    Ok(())
}
