//! Container runtimes of a machine and the mirrors that their configuration names: which runtimes there are, and how a
//! mirror gets into (and out of) the files of containerd, Docker, Podman, CRI-O, k3s and RKE2.
//!
//! Two halves. The *editors* ([`containerd`], [`docker`], [`registries`], [`rancher`]) are functions from text to text:
//! they insert bytes and leave every other byte as it was, whatever its comments, order, indentation or unknown keys;
//! they say what they did ([`Edit`]), do nothing the second time, refuse what they cannot edit safely ([`Refusal`]), and
//! each has its inverse. The *shell* ([`detect`], [`plan`], [`reconcile`]) reads and writes: one backup, atomic writes, the
//! runtime's own parser as the judge, the old bytes back where it objects.
//!
//! Borders: nothing here starts, stops or reloads a runtime; what is due is told as data ([`reload`]). Nothing serves
//! images. No program but those of [`command`] is run, and no path outside the given host root and state folder is written.

pub mod command;
pub mod containerd;
pub mod detect;
pub mod docker;
mod edit;
pub mod host;
pub mod plan;
pub mod rancher;
pub mod reconcile;
pub mod registries;
pub mod reload;
mod runtime;
pub mod state;
mod toml_text;

pub use edit::{Edit, Refusal, Splice};
pub use runtime::{MirrorRequest, Runtime, RuntimeChoice, SpecError, parse_mirrors};
