//! The satellite's core against a real registry and a stand-in for Ground Control, all in this process, on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod builtin;
mod cloud;
mod destinations;
mod fleet;
mod following;
mod ground_control;
mod registration;
mod replication;
mod svid;
mod trouble;
