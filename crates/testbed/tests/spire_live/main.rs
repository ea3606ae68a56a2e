//! A real SPIRE: `spire-server` and `spire-agent` from `SPIRE_BIN_DIR` or `PATH`. Each test has its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test program: what fails ends the test"
)]

mod agents;
mod builtin;
mod cloud;
mod examples;
mod lifecycle;
mod refusals;
mod rotation;
#[path = "../identity/support.rs"]
#[allow(dead_code, reason = "each of the two programs uses its part")]
mod support;
