//! Container runtimes of a machine and the mirrors that their configuration names: which runtimes there are, and how a
//! mirror gets into (and out of) the files of containerd, Docker, Podman, CRI-O, k3s and RKE2.
//!
//! The *editors* ([`containerd`], [`docker`], [`registries`], [`rancher`]) are functions from text to text:
//! they insert bytes and leave every other byte as it was, whatever its comments, order, indentation or unknown keys;
//! they say what they did ([`Edit`]), do nothing the second time, refuse what they cannot edit safely ([`Refusal`]), and
//! each has its inverse.
//!
//! Borders: nothing here starts, stops or reloads a runtime, and nothing serves images.

pub mod containerd;
pub mod docker;
mod edit;
pub mod rancher;
pub mod registries;
mod runtime;
mod toml_text;

pub use edit::{Edit, Refusal, Splice};
pub use runtime::{MirrorRequest, Runtime, RuntimeChoice, SpecError, parse_mirrors};
