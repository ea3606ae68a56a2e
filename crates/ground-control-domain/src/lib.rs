//! What Ground Control knows and decides: its records, the pure decisions about them, and the contract of the
//! database that keeps them.
//!
//! Nothing here does I/O. The decisions are functions from values to values, so that they are tested by
//! properties; the traits of [`store`] are implemented once in SQL and compiled for each database
//! (`ground-control-sqlite`, `ground-control-postgres`); the program above wires the two together.
//!
//! Not here: HTTP, password hashing, the registry, and how a document becomes an OCI artifact
//! (`fleet_protocol::state_image`).

pub mod audit;
pub mod backup;
pub mod change;
pub mod config;
pub mod desired;
pub mod document;
mod error;
pub mod external;
pub mod group;
pub mod harbor;
pub mod heartbeat;
mod id;
pub mod idempotency;
pub mod identity;
pub mod label;
pub mod leak;
pub mod limit;
mod page;
pub mod replication;
pub mod resolution;
pub mod revision;
pub mod rollout;
pub mod rule;
pub mod satellite;
pub mod secret;
pub mod silence;
pub mod store;
pub mod token;
pub mod user;
pub mod version;
pub mod webhook;
pub mod ztr;

pub use error::{Entity, StoreError, StoreResult};
pub use id::{ConfigId, GroupId, SatelliteId, TokenId, UserId};
pub use page::{MAX_PAGE_SIZE, Page, Paged};
pub use store::Store;
