//! The store in SQL: written once, compiled for each database.
//!
//! The crate that includes this file provides `dialect`: the types of its driver, how connections and transactions
//! are opened, and the one query that the two databases cannot share (claiming intents).
//!
//! What queries may use: `$1` parameters, text, bigint and boolean columns, `ON CONFLICT … DO UPDATE`, `RETURNING`; no
//! arrays, no JSON operators, no clock. Nullability is told in the column's name (`"name!"`, `"name?"`) where the two
//! databases would infer it differently. All are checked while the program is compiled, except those of `listing`,
//! `selection` and `audit`, which follow from a selector or a filter, those of many rows (`heartbeats`, `senders`,
//! `drift`, `rollouts`), and those of `restoration`, which run once.
//!
//! Two kinds of transaction: what people change takes the `fleet` lock, so that such changes stand in one line as on
//! SQLite; what satellites do (claims, heartbeats, attestation) locks its own rows only. Rows of one satellite are locked in
//! one order, so that nobody waits in a circle: its own, its registration tokens, its join tokens, its keys, its robot, its
//! registration, its agents. The audit's row comes after all of them: its number is taken under a lock that all share.

mod agents;
mod attestation;
mod audit;
mod authorities;
mod configs;
mod drift;
mod enrolment;
mod external_logins;
mod following;
mod groups;
mod handout;
mod harbor;
mod heartbeats;
mod idempotency;
mod identities;
mod labels;
mod leases;
mod lifecycle;
mod limits;
mod listing;
pub(crate) mod outbox;
mod publications;
mod published;
mod registration;
mod renewal;
mod replication;
mod reports;
mod restoration;
mod revisions;
mod rollouts;
mod satellites;
mod selection;
mod senders;
mod sources;
mod tokens;
pub(crate) mod transaction;
mod users;
mod versions;
mod webhooks;
mod withdrawals;

use std::sync::Arc;

use async_trait::async_trait;
use ground_control_domain::audit::Actor;
use ground_control_domain::change::Change;
use ground_control_domain::store::Terms;
use ground_control_domain::{Store, StoreError, StoreResult};
use jiff::Timestamp;
use sqlx::QueryBuilder;
use tokio::sync::broadcast;

use crate::dialect::{self, Database, Driver};

/// How many changes wait for a slow reader before it is told that some are lost.
pub(crate) const CHANGES: usize = 1024;

/// Ground Control's store on one database, for one actor.
#[derive(Debug, Clone)]
pub(crate) struct SqlStore {
    database: Arc<Database>,
    /// Whose changes these are.
    actor: Arc<Actor>,
    /// On what terms they are made.
    terms: Arc<Terms>,
}

impl SqlStore {
    pub(crate) fn new(database: Database) -> Self {
        Self { database: Arc::new(database), actor: Arc::new(Actor::system()), terms: Arc::default() }
    }
}

#[async_trait]
impl Store for SqlStore {
    fn acting_for(&self, actor: Actor) -> Arc<dyn Store> {
        Arc::new(Self { actor: Arc::new(actor), ..self.clone() })
    }

    fn on_terms(&self, terms: Terms) -> Arc<dyn Store> {
        Arc::new(Self { terms: Arc::new(terms), ..self.clone() })
    }

    async fn ping(&self) -> StoreResult<()> {
        const OPERATION: &str = "ping the database";
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_scalar!(r#"SELECT 1 AS "one!: i32""#)
            .fetch_one(&mut *connection)
            .await
            .during(OPERATION)
            .map(drop)
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.database.changes()
    }

    async fn close(&self) {
        self.database.close().await;
    }

    fn kind(&self) -> &'static str {
        dialect::KIND
    }
}

/// Tells what was being done when the driver failed.
pub(crate) trait During<T> {
    fn during(self, operation: &'static str) -> StoreResult<T>;
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, operation: &'static str) -> StoreResult<T> {
        self.map_err(|error| failure(operation, error))
    }
}

/// What a driver's error means to the caller.
fn failure(operation: &'static str, error: sqlx::Error) -> StoreError {
    let fate = match &error {
        sqlx::Error::PoolTimedOut => dialect::Fate::Busy,
        sqlx::Error::Database(error) => {
            error.code().map_or(dialect::Fate::Broken, |code| dialect::fate(&code))
        }
        _ => dialect::Fate::Broken,
    };
    let source = Box::new(error);
    match fate {
        dialect::Fate::Busy => StoreError::Busy { operation, source },
        dialect::Fate::BadText => {
            StoreError::invalid("the text holds a character that the database does not take")
        }
        dialect::Fate::Broken => StoreError::Backend { operation, source },
    }
}

/// `conflict` where the error is that of a unique index.
fn unless_taken(
    error: sqlx::Error,
    operation: &'static str,
    conflict: impl FnOnce() -> StoreError,
) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => conflict(),
        _ => failure(operation, error),
    }
}

/// A time as the database keeps it.
fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

/// A time as it was before [`millis`].
fn time(operation: &'static str, millis: i64) -> StoreResult<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(|error| StoreError::corrupt(operation, error))
}

/// A value that is kept as text.
fn read<T: std::str::FromStr>(operation: &'static str, text: &str) -> StoreResult<T>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| StoreError::corrupt(operation, error))
}

/// A value that is kept as JSON.
fn read_json<T: serde::de::DeserializeOwned>(operation: &'static str, text: &str) -> StoreResult<T> {
    serde_json::from_str(text).map_err(|error| StoreError::corrupt(operation, error))
}

/// A value to be kept as JSON.
fn json<T: serde::Serialize>(operation: &'static str, value: &T) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|error| StoreError::corrupt(operation, error))
}

/// The longest statement, in rows.
const LONGEST: usize = 128;

/// Cuts rows into pieces of a few lengths, powers of two, so that statements of so many rows are few and each is remembered.
fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = (1 << rest.len().checked_ilog2()?).min(LONGEST);
        let (piece, others) = rest.split_at(length);
        rest = others;
        Some(piece)
    })
}

/// Binds a list of values and closes its bracket.
fn among(query: &mut QueryBuilder<Driver>, values: impl Iterator<Item = String>) {
    let mut list = query.separated(", ");
    for value in values {
        list.push_bind(value);
    }
    query.push(")");
}

/// A count, which no database answers as a negative.
fn count(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
