//! The built-in authority as satellites and stock agents meet it: over the network, and nothing known but a join token
//! and a trust bundle.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod agents;
mod satellites;
mod support;
