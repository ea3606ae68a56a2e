//! SPIFFE identities from end to end: certificates, keys, sources and handshakes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod agent;
mod ca;
mod files;
mod handshake;
mod key;
mod rotation;
mod svid;
mod workload_api;
