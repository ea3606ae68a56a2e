//! Backup and restore with the built programs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

mod damage;
mod follow;
mod kills;
mod postgresql;
mod support;
mod whole;
