//! OCI Distribution 1.1 over a [`blob_store::Store`], as an axum router that both programs mount.
//!
//! The crate answers `/v2/…` and nothing else: who may do what is an [`AccessPolicy`] passed in, what happened is
//! told to an [`Observer`] passed in, and where bytes lie is the store's business. [`listen`] is the accept loop
//! that both programs put the router behind; it knows connections, TLS and time limits, and no registry.
//!
//! It never talks to another registry. A read that finds nothing ends in one place, the module `miss`, which is where
//! a registry that fetches on demand will be hooked in.

mod access;
mod blobs;
mod body;
mod conditional;
mod discovery;
mod error;
mod events;
pub mod listen;
mod manifests;
mod miss;
mod options;
mod path;
mod query;
mod range;
mod respond;
mod router;
mod uploads;

pub use access::{
    AccessPolicy, Action, AnonymousRead, Authentication, AuthenticationFuture, Caller, Decision, Demand,
    FullAccess, Refusal,
};
pub use error::{ErrorCode, RegistryError};
pub use events::{Event, EventKind, Observer};
pub use options::{Namespaces, Options, Places};
pub use router::router;
