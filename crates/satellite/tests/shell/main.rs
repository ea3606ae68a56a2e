//! The built program as people and service managers see it: exit codes, messages, the local registry, the status
//! socket, and what survives a kill.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which clippy exempts only inside #[test]"
)]

mod delivery;
mod export;
mod harness;
mod identity;
mod lan;
mod mirrors;
mod serving;
mod settings;
mod status;
mod traces;
