//! Ground Control: what the fleet shall be, who may say so, and the central registry that tells it.
//!
//! The SQL database is the truth; state documents in the registry are its projection, brought there by a publisher
//! that reads an outbox. This crate holds the whole program except for the process itself (`main.rs`): settings,
//! identities, the HTTP API for people and satellites, and the built-in registry's accounts. What a state document
//! looks like is `fleet-protocol`'s business; how OCI Distribution is spoken is `registry-server`'s; the records,
//! the decisions about them and the database's contract are `ground-control-domain`'s.

pub mod admin;
pub mod api;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod central;
pub mod config;
pub mod desired;
pub mod domain;
pub mod follow;
pub mod health;
pub mod identity;
pub mod log;
pub mod metrics;
pub mod oidc;
pub mod publish;
pub mod registry;
pub mod server;
pub mod store;
pub mod tls;
