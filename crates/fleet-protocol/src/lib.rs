//! The documents and messages between Ground Control, the central registry, Satellites and people.
//!
//! Pure values and their JSON. Readers are tolerant, because deployed Satellites, deployed Ground Controls and Harbor's
//! adapter speak earlier dialects; writers are exact. Nothing here does I/O or reads a clock.

pub mod api;
pub mod attestation;
pub mod config;
pub mod desired;
pub mod heartbeat;
pub mod inventory;
pub mod name;
pub mod nodes;
pub mod registration;
pub mod rule;
pub mod schedule;
pub mod state;
pub mod state_image;

pub use config::ConfigDocument;
pub use desired::Desired;
pub use heartbeat::{Heartbeat, HeartbeatAnswer};
pub use name::{ConfigName, GroupName, NameError, Region, SatelliteName};
pub use registration::{RegistryCredentials, StateConfig, ZtrRequest};
pub use rule::Pattern;
pub use schedule::Schedule;
pub use state::{Artifact, GroupState, SatelliteState};
