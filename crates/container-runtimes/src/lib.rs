//! Container runtimes of a machine and the mirrors that their configuration names: which runtimes there are, and how a
//! mirror gets into (and out of) the files of containerd, Docker, Podman, CRI-O, k3s and RKE2.
//!
//! Two halves. The *editors* ([`containerd`], [`docker`], [`registries`], [`rancher`]) are functions from text to text:
//! they insert bytes and leave every other byte as it was, whatever its comments, order, indentation or unknown keys;
//! they say what they did ([`Edit`]), do nothing the second time, refuse what they cannot edit safely ([`Refusal`]), and
//! each has its inverse. The *shell* ([`detect`], [`plan`], [`reconcile`]) reads and writes: one backup, atomic writes, the
//! runtime's own parser as the judge, the old bytes back where it objects.
//!
//! [`apply`] puts the halves together: one run from what is wanted to what is in force, with the reload or restart that
//! is due ([`reload`] says which, [`service`] does it), undone where containerd's CRI ([`cri`]) does not come back.
//!
//! Beside files there are the images of a node: [`cri::CriImages`] pulls and lists them as the kubelet does, [`images`]
//! labels and removes single names of them at containerd.
//!
//! Borders: nothing here serves images. No program is run but through [`command`], and no path outside the given host
//! root and state folder is written.

pub mod apply;
pub mod auth;
pub mod command;
pub mod containerd;
pub mod cri;
pub mod crio;
pub mod detect;
pub mod docker;
mod edit;
pub mod host;
pub mod images;
mod json_text;
pub mod plan;
pub mod rancher;
pub mod reconcile;
pub mod registries;
pub mod reload;
mod runtime;
mod secret;
pub mod service;
mod socket;
pub mod state;
mod toml_text;

pub use edit::{Edit, Refusal, Splice};
pub use runtime::{MirrorRequest, Runtime, RuntimeChoice, SpecError, parse_mirrors};
pub use secret::Hidden;
pub use socket::CallError;
