//! Following: what groups list is looked up in the central registry, again and again.
//!
//! A group lists tags, digests and rules; satellites are given digests. The [`Sweep`] looks at one repository at a time,
//! whichever groups name it: on a timer, and at once where somebody says that something changed there (a person's
//! change of a group, a push into the built-in registry, a webhook). Such a word is a hint and never a fact: what is
//! written down is what the registry answers, through [`ArtifactIndex`].
//!
//! What is found goes into the database together with the intents to publish that follow from it. Nothing found, or no
//! answer, takes nothing away.

mod builtin;
mod facts;
mod harbor;
mod hints;
mod index;
mod look;
mod oci;
mod policies;
mod pushes;
mod sweep;

pub use builtin::BuiltinIndex;
pub use hints::Hints;
pub use index::{ArtifactIndex, Listed};
pub use look::{Looked, look_at};
pub use policies::{POLICY_NAME, Policies};
pub use pushes::PushObserver;
pub use sweep::{Options, Sweep};
