//! Sinks of this machine: syslog messages to what every replica has for itself, a file or a socket.

use std::time::Duration;

use async_trait::async_trait;

use super::sink::{Connection, Sink, SinkError};
use super::syslog::Header;
use crate::domain::audit::Entry;

/// A file or a socket.
#[async_trait]
pub(crate) trait LocalPlace: Send + Sync + std::fmt::Debug {
    /// What takes messages once the place is open.
    type Open: Messages + 'static;

    /// Opens it.
    ///
    /// # Errors
    /// [`SinkError`]; tried again later.
    async fn open(&self) -> Result<Self::Open, SinkError>;
}

/// Takes messages.
#[async_trait]
pub(crate) trait Messages: Send {
    /// Returns once they cannot be lost by this program any more.
    ///
    /// # Errors
    /// [`SinkError`]; it is of no use afterwards.
    async fn write(&mut self, messages: Vec<String>) -> Result<(), SinkError>;
}

/// The sink in such a place.
#[derive(Debug)]
pub(crate) struct LocalSink<P> {
    header: Header,
    place: P,
}

impl<P: LocalPlace> LocalSink<P> {
    pub(crate) fn new(tag: &str, place: P) -> Self {
        Self { header: Header::new(tag), place }
    }
}

#[async_trait]
impl<P: LocalPlace> Sink for LocalSink<P> {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn is_local(&self) -> bool {
        true
    }

    /// What was written is on the disk, or in the daemon's queue.
    fn in_doubt(&self) -> Duration {
        Duration::ZERO
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, SinkError> {
        Ok(Box::new(Local { header: self.header.clone(), messages: self.place.open().await? }))
    }
}

struct Local<M> {
    header: Header,
    messages: M,
}

#[async_trait]
impl<M: Messages> Connection for Local<M> {
    async fn send(&mut self, rows: &[Entry]) -> Result<(), SinkError> {
        self.messages.write(rows.iter().map(|row| self.header.message(row)).collect()).await
    }

    /// A write that fails tells it.
    async fn broken(&mut self) -> SinkError {
        std::future::pending().await
    }
}
