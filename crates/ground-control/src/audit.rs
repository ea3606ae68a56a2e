//! The audit beside the database: refusals, which change nothing and are folded before they are written, and the sinks that
//! the trail is sent on to.
//!
//! Rows of changes are written by the store, in the transaction of the change. Everything here follows the trail by a
//! cursor and holds up nobody: a sink that is away falls behind, up to a bound, and what is beyond is counted as lost.

mod attempt;
mod file;
mod follower;
mod local;
mod network;
mod open;
mod otlp;
mod refusals;
mod sink;
mod socket;
mod syslog;

pub(crate) use attempt::refused;
pub use follower::{Follower, Policy};
pub use open::exporter;
pub(crate) use open::followers;
pub use refusals::Refusals;
pub use sink::{Sink, SinkError, SinkStatus, Statuses};
