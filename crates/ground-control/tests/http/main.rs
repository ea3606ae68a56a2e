//! The whole server in process, on a free port of loopback with a folder of its own, through an HTTP client.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod accounts;
mod admin;
mod audit;
mod builtin;
mod conditional;
mod fleet;
mod following;
mod idempotency;
mod input;
mod lifecycle;
mod limits;
mod listeners;
mod oidc;
mod polls;
mod program;
mod registration;
mod registry;
mod roles;
mod rollouts;
mod spiffe;
mod spire;
mod support;
mod table;
mod tls;
mod tokens;
