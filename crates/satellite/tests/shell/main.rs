//! The built program as people and service managers see it: exit codes, messages, the local registry, the status
//! socket, and what survives a kill.

mod harness;
mod identity;
mod serving;
mod settings;
mod status;
