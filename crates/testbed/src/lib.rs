//! Real components for tests, the demo and the benchmarks: the built programs of this workspace, and the container
//! engines, databases and registries of the distribution, each with a folder, a port and a socket of its own.
//!
//! Everything here starts on loopback, says when it is ready by answering and not by a fixed pause, and ends when its
//! handle is dropped: nothing outlives the test that started it. What a component cannot do without (root, a package)
//! is an [`Error::Missing`] that names the remedy.
//!
//! Borders: this crate drives programs from the outside and knows their flags, files and wire formats only. It shares
//! no code with the stores and servers that it tests, so that a mistake there cannot hide itself here.

pub mod admin;
pub mod archive;
pub mod authority;
pub mod binaries;
pub mod browser;
pub mod clock;
pub mod command;
pub mod conformance;
pub mod containerd;
pub mod cri;
pub mod docker;
pub mod docker_registry;
pub mod error;
pub mod files;
mod go_build;
pub mod go_peer;
pub mod go_programs;
pub mod ground_control;
pub mod harbor;
pub mod hardware;
pub mod image;
pub mod layout;
pub mod link;
pub mod machine;
pub mod nginx;
pub mod openid_provider;
pub mod packages;
pub mod podman;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rancher;
pub mod registry;
pub mod rsyslog;
pub mod satellite;
pub mod secrets;
pub mod skopeo;
pub mod spire;
pub mod spire_stand_in;
pub mod throwaway;
pub mod upstream;
pub mod workload_api;
pub mod world;

pub use error::{Error, Result};
