//! The built-in registry's accounts: who may do what at `/v2/`, and the tokens of `/service/token`.
//!
//! Administrators push, pull and delete; viewers pull; a satellite's robot pulls the repositories of its groups'
//! artifacts and the state documents that are its own; nobody is anonymous. What lies under `satellite/` is written
//! by the publisher alone: a document that somebody pushed by hand would be overwritten, and until then obeyed.

mod access;
mod scope;
mod token;

pub use access::{Accounts, Policy};
pub use token::router as token_router;

/// Name of the token service, which clients repeat from the challenge.
pub const SERVICE: &str = "ground-control";
