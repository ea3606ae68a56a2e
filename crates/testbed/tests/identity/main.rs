//! Identities by SPIFFE with the built programs: the built-in authority, a Workload API stand-in, and go-spiffe as the
//! judge. Everything between satellites and Ground Control is mTLS here, its registry included.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

mod away;
mod flow;
mod hardware;
mod interop;
mod lifecycle;
mod lost_answers;
mod providers;
mod refusals;
mod rotation;
mod secrets;
mod support;
