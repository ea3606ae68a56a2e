//! The engine between registries that tell the truth, and some that do not, and real destinations.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what the helpers of tests cannot do ends the test")]

#[path = "../../../registry-client/tests/wire/hostile.rs"]
#[allow(dead_code, reason = "shared with the tests of the client")]
mod hostile;

mod content;
mod faults;
mod flights;
mod graphs;
mod referrers;
mod remote;
mod upstream;
