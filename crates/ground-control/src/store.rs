//! The database: which one it is, and how it is opened.
//!
//! The queries are written once, in `ground-control-domain/sql`, and compiled for each database by
//! `ground-control-sqlite` and `ground-control-postgres`; this module chooses between the two at start.

mod heartbeats;
mod location;

use std::sync::Arc;

pub use ground_control_domain::Store;
pub use ground_control_domain::store::{
    Configs, DocumentSource, Followed, Following, GroupSource, Groups, Limits, Look, Outbox, Publications,
    Replication, Reports, Rollouts, RotateSecret, SatelliteSource, Satellites, Tokens, Users, Webhooks,
};
pub use heartbeats::{Credential, Fold, HeartbeatRecorder, Incoming, Taken};
pub use location::{Location, LocationError};

use crate::domain::StoreResult;

/// The store, shared by everything that runs.
pub type SharedStore = Arc<dyn Store>;

/// Opens the database at `location`, creates it where that is possible, and brings its tables up to date.
pub async fn open(location: &Location) -> StoreResult<SharedStore> {
    Ok(match location {
        Location::Sqlite { file } => ground_control_sqlite::open(file).await?,
        Location::Postgres { url } => ground_control_postgres::open(url).await?,
    })
}
