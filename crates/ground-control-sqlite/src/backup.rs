//! Copies of the file, made while a server works on it, and what is looked at before a copy is believed. None of it brings
//! tables up to date: a backup holds what there was.

use std::path::Path;

use ground_control_domain::backup::Standing;
use ground_control_domain::{StoreError, StoreResult};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Row as _};

use crate::dialect::PATIENCE;
use crate::shared::During as _;

/// The number of the last migration that this program knows.
pub fn schema() -> i64 {
    let migrator = sqlx::migrate!("../ground-control-domain/migrations");
    migrator.iter().map(|migration| migration.version).max().unwrap_or_default()
}

async fn connect(path: &Path, operation: &'static str) -> StoreResult<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(PATIENCE);
    SqliteConnection::connect_with(&options).await.during(operation)
}

/// Writes the database in `path` as it is at one moment into the new file `to`. Whoever writes meanwhile goes on.
///
/// # Errors
/// [`StoreError::Backend`] where the file is not there or damaged, or `to` cannot be written.
pub async fn copy(path: &Path, to: &Path) -> StoreResult<()> {
    const OPERATION: &str = "copy the database";
    let target =
        to.to_str().ok_or_else(|| StoreError::invalid("the name of the folder is no UTF-8"))?.to_owned();
    let mut connection = connect(path, OPERATION).await?;
    sqlx::query("VACUUM INTO $1").bind(target).execute(&mut connection).await.during(OPERATION)?;
    connection.close().await.during(OPERATION)
}

/// Reads a whole copy and tells how far it has got.
///
/// # Errors
/// [`StoreError::Backend`] where it is damaged, or no database of this program.
pub async fn examine(path: &Path) -> StoreResult<Standing> {
    const OPERATION: &str = "look through the database";
    let mut connection = connect(path, OPERATION).await?;
    let said: String =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await.during(OPERATION)?;
    if said != "ok" {
        return Err(StoreError::corrupt(OPERATION, said));
    }
    let broken =
        sqlx::query("PRAGMA foreign_key_check").fetch_optional(&mut connection).await.during(OPERATION)?;
    if broken.is_some() {
        return Err(StoreError::corrupt(OPERATION, "rows refer to rows that are not there"));
    }
    let standing = standing(&mut connection, OPERATION).await?;
    connection.close().await.during(OPERATION)?;
    Ok(standing)
}

/// How far the database in `path` has got.
///
/// # Errors
/// [`StoreError::Backend`] where it is no database of this program.
pub async fn look(path: &Path) -> StoreResult<Standing> {
    const OPERATION: &str = "look how far the database is";
    let mut connection = connect(path, OPERATION).await?;
    let standing = standing(&mut connection, OPERATION).await?;
    connection.close().await.during(OPERATION)?;
    Ok(standing)
}

/// The names of satellites that are revoked or deleted in the database in `path`, sorted.
///
/// # Errors
/// [`StoreError::Backend`] where it is no database of this program.
pub async fn shut_out(path: &Path) -> StoreResult<Vec<String>> {
    const OPERATION: &str = "read who was shut out";
    let mut connection = connect(path, OPERATION).await?;
    let names = sqlx::query_scalar(
        "SELECT DISTINCT name FROM satellites s WHERE state IN ('revoked', 'deleted') AND NOT EXISTS (
             SELECT 1 FROM satellites o WHERE o.name = s.name AND o.state NOT IN ('revoked', 'deleted'))
         ORDER BY name",
    )
    .fetch_all(&mut connection)
    .await
    .during(OPERATION)?;
    connection.close().await.during(OPERATION)?;
    Ok(names)
}

/// The names of satellites that are neither revoked nor deleted, sorted.
///
/// # Errors
/// [`StoreError::Backend`] where it is no database of this program.
pub async fn let_in(path: &Path) -> StoreResult<Vec<String>> {
    const OPERATION: &str = "read who is let in";
    let mut connection = connect(path, OPERATION).await?;
    let names = sqlx::query_scalar(
        "SELECT name FROM satellites WHERE state NOT IN ('revoked', 'deleted') ORDER BY name",
    )
    .fetch_all(&mut connection)
    .await
    .during(OPERATION)?;
    connection.close().await.during(OPERATION)?;
    Ok(names)
}

async fn standing(connection: &mut SqliteConnection, operation: &'static str) -> StoreResult<Standing> {
    let schema: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
        .fetch_one(&mut *connection)
        .await
        .during(operation)?;
    let rows =
        sqlx::query("SELECT name, value FROM settings").fetch_all(connection).await.during(operation)?;
    let mut standing = Standing { schema, ..Standing::default() };
    for row in rows {
        let (name, value): (String, String) =
            (row.try_get(0).during(operation)?, row.try_get(1).during(operation)?);
        standing.note(&name, value).map_err(|error| StoreError::corrupt(operation, error))?;
    }
    Ok(standing)
}
