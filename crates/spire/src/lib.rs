//! SPIRE's server APIs: the messages, a typed client of the administrator's side, and what a server of the agent's side
//! needs.
//!
//! The messages are written by hand with the tags of SPIRE's published protocol (`spire-api-sdk`, which 1.12 to 1.16
//! share); a field that nobody here reads or writes is left out, and unknown fields are passed over as Protocol Buffers
//! demand. [`types`] holds what both sides share, [`server`] the administrator's calls, [`agent`] the calls of a node
//! agent, [`rpc`] the few lines that put a handler behind a path.
//!
//! Borders: no policy. Which entries a satellite needs, and which agent may be banned, is decided in `ground-control`.

pub mod agent;
mod client;
pub mod rpc;
pub mod server;
pub mod types;

pub use client::{ClientError, CreatedEntry, IssuedToken, ServerClient};
