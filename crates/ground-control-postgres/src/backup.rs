//! What is looked at beside a dump, without bringing tables up to date: a backup is of what there was.

use ground_control_domain::backup::Standing;
use ground_control_domain::{StoreError, StoreResult};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Row as _};

use crate::dialect::SERVER;
use crate::shared::During as _;

/// The number of the last migration that this program knows.
pub fn schema() -> i64 {
    let migrator = sqlx::migrate!("../ground-control-domain/migrations");
    migrator.iter().map(|migration| migration.version).max().unwrap_or_default()
}

async fn connect(url: &SecretString, operation: &'static str) -> StoreResult<PgConnection> {
    let options: PgConnectOptions = url.expose_secret().parse().during(operation)?;
    PgConnection::connect_with(&options.application_name("ground-control-backup")).await.during(operation)
}

/// How far the database has got. [`None`] where nothing of this program is in it.
///
/// # Errors
/// [`StoreError::Backend`] where it cannot be reached.
pub async fn look(url: &SecretString) -> StoreResult<Option<Standing>> {
    const OPERATION: &str = "look how far the database is";
    let mut connection = connect(url, OPERATION).await?;
    let there: bool = sqlx::query_scalar(
        "SELECT to_regclass('_sqlx_migrations') IS NOT NULL AND to_regclass('settings') IS NOT NULL",
    )
    .fetch_one(&mut connection)
    .await
    .during(OPERATION)?;
    if !there {
        return Ok(None);
    }
    let schema: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations")
        .fetch_one(&mut connection)
        .await
        .during(OPERATION)?;
    let mut standing = Standing { schema, ..Standing::default() };
    for row in
        sqlx::query("SELECT name, value FROM settings").fetch_all(&mut connection).await.during(OPERATION)?
    {
        let (name, value): (String, String) =
            (row.try_get(0).during(OPERATION)?, row.try_get(1).during(OPERATION)?);
        standing.note(&name, value).map_err(|error| StoreError::corrupt(OPERATION, error))?;
    }
    connection.close().await.during(OPERATION)?;
    Ok(Some(standing))
}

/// How many connections servers have to this database.
///
/// # Errors
/// [`StoreError::Backend`] where it cannot be reached.
pub async fn servers(url: &SecretString) -> StoreResult<u64> {
    const OPERATION: &str = "look for servers of the database";
    let mut connection = connect(url, OPERATION).await?;
    let connections: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1",
    )
    .bind(SERVER)
    .fetch_one(&mut connection)
    .await
    .during(OPERATION)?;
    connection.close().await.during(OPERATION)?;
    Ok(u64::try_from(connections).unwrap_or_default())
}
