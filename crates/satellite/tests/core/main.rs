//! The satellite's core against a real registry and a stand-in for Ground Control, all in this process, on loopback.

mod destinations;
mod fleet;
mod ground_control;
mod registration;
mod replication;
mod trouble;
