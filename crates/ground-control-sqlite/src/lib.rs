//! Ground Control's store on SQLite.

use std::path::Path;
use std::sync::Arc;

use ground_control_domain::{Store, StoreError, StoreResult};

/// Opens the file at `path`.
pub async fn open(path: &Path) -> StoreResult<Arc<dyn Store>> {
    Err(StoreError::corrupt("open the database", path.display()))
}
