//! Ground Control's store on SQLite.
//!
//! The queries are those of `ground-control-domain/sql`, included here and checked against SQLite while this crate is
//! compiled, by their descriptions in `.sqlx/` (`ground-control-domain/sql/refresh` writes them anew). What is SQLite's
//! own stands in `dialect`.
//!
//! One connection writes, some read: SQLite has one writer at a time, and a queue of ours is fairer than its busy
//! timeout. The journal is a write-ahead log and every commit is synced: what was acknowledged survives a power cut.

pub mod backup;

mod dialect;
#[path = "../../ground-control-domain/sql/shared.rs"]
mod shared;

use std::path::Path;
use std::sync::Arc;

use ground_control_domain::{Store, StoreResult};

/// Opens the file at `path`, creates it (readable by its owner only) if it is not there, and brings its tables up to date.
pub async fn open(path: &Path) -> StoreResult<Arc<dyn Store>> {
    Ok(Arc::new(shared::SqlStore::new(dialect::Database::open(path).await?)))
}
