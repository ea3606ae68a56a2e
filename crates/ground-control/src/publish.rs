//! The publisher: makes the central registry hold the state documents that follow from the database.
//!
//! The database is the truth and the registry its projection. A change writes an intent to the outbox in its own
//! transaction; the publisher claims intents, builds each document from the records as they stand then, and writes it.
//! It is woken by a change and by a timer, and takes a full look each time; what fails is tried again with backoff.

mod backend;
mod builtin;
mod document;
mod publisher;
mod remote;

pub use backend::{Gate, RegistryBackend, RegistryError, StateManifest};
pub use builtin::BuiltinRegistry;
pub(crate) use document::chain;
pub use publisher::{Options, Publisher, PublisherHandle, Status};
pub(crate) use remote::Failure;
pub use remote::{LastAnswer, OciRegistry};
