//! Ground Control's store on PostgreSQL.
//!
//! The queries are those of `ground-control-domain/sql`, included here and checked against PostgreSQL while this crate
//! is compiled, by their descriptions in `.sqlx/` (`ground-control-domain/sql/refresh` writes them anew). What is
//! PostgreSQL's own stands in `dialect`.
//!
//! Several replicas may share one database: what people change stands in one line under an advisory lock, what
//! satellites do locks its own rows, and intents are claimed with `FOR UPDATE SKIP LOCKED`.

pub mod backup;

mod dialect;
mod listen;
#[path = "../../ground-control-domain/sql/shared.rs"]
mod shared;

use std::sync::Arc;

use ground_control_domain::{Store, StoreResult};
use secrecy::SecretString;

/// Connects to the database at `url` (`postgres://user:password@host:port/database?sslmode=…`) and brings its tables
/// up to date.
pub async fn open(url: &SecretString) -> StoreResult<Arc<dyn Store>> {
    Ok(Arc::new(shared::SqlStore::new(dialect::Database::open(url).await?)))
}
