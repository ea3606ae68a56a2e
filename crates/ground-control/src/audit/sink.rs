//! Where the trail is sent on to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::domain::audit::Entry;

/// Why rows did not get where they should.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The system, or the other side, said so.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The other side took too long.
    #[error("no answer within {0:?}")]
    Slow(Duration),
    /// The other side ended the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// A certificate or key of ours cannot be used.
    #[error("{0}")]
    Tls(String),
    /// The collector did not take it.
    #[error(transparent)]
    Export(#[from] ::otlp::ExportError),
}

/// Makes connections to one place.
#[async_trait]
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// A short name for metrics and logs, from a closed set: `syslog`, `otlp`.
    fn name(&self) -> &'static str;

    /// Whether this place is every replica's own (a file, a socket of this machine) and not one for all of them.
    fn is_local(&self) -> bool;

    /// What was sent within this time may not have arrived when a connection breaks, and is sent again.
    fn in_doubt(&self) -> Duration;

    /// Reaches the place.
    ///
    /// # Errors
    /// [`SinkError`]; tried again later.
    async fn connect(&self) -> Result<Box<dyn Connection>, SinkError>;
}

/// A place that was reached.
#[async_trait]
pub trait Connection: Send {
    /// Hands rows over, in their order.
    ///
    /// # Errors
    /// [`SinkError`]; the connection is of no use afterwards.
    async fn send(&mut self, rows: &[Entry]) -> Result<(), SinkError>;

    /// Ends when the connection is found to be broken; never where that cannot be found.
    async fn broken(&mut self) -> SinkError;
}

/// How a sink is doing, as readiness tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SinkStatus {
    /// Its name.
    pub sink: &'static str,
    /// Whether it takes rows; true on a replica that leaves it to another.
    pub ok: bool,
    /// Rows that wait.
    pub lag: u64,
    /// Rows that were gone before they were sent.
    pub lost: u64,
}

/// How all sinks are doing; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Statuses(Arc<Mutex<Vec<SinkStatus>>>);

impl Statuses {
    /// As it is now.
    pub fn all(&self) -> Vec<SinkStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A sink is doing thus.
    pub(crate) fn set(&self, status: SinkStatus) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|known| known.sink == status.sink) {
            Some(known) => *known = status,
            None => all.push(status),
        }
    }
}
