//! The edge program of Harbor Satellite: it registers with Ground Control, keeps the artifacts of its groups whole on
//! a local disk (or in a registry of the site's own), and serves them to container runtimes with the cloud gone.
//!
//! The crate is two halves. The *shell* parses the configuration once ([`config`]), opens what is sealed to the device
//! ([`sealed`], [`device`]), keeps its identity ([`identity`]), serves the local registry ([`serve`]) and answers the local status socket ([`control`],
//! [`commands`]); [`run`] puts the halves together. The *core* decides what must be here and makes it so.
//!
//! Beside the two there is the agent of a cluster's nodes ([`node_agent`]), which asks its site's satellite ([`site`]).
//!
//! Its borders: bytes at rest belong to `blob-store`, the registry protocol to `registry-server` and
//! `registry-client`, the copying of graphs to `transfer`, and the shape of documents to `fleet-protocol`. Nothing
//! outside [`config`] reads the environment.

pub mod archive;
pub mod commands;
pub mod config;
pub mod control;
mod credentials;
pub mod delivery;
pub mod desired;
pub mod destination;
pub mod device;
pub mod events;
pub mod export;
mod follow;
pub mod ground_control;
pub mod heartbeat;
pub mod identity;
pub mod in_root;
pub mod logging;
mod maintenance;
pub mod mirrors;
pub mod names;
pub mod node_agent;
pub mod plan;
pub mod reconcile;
pub mod registration;
pub mod run;
pub mod schedulers;
pub mod sealed;
pub mod serve;
pub mod site;
mod standing;
pub mod status;
pub mod transfers;
