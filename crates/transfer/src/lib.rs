//! The fetch engine: copies whole graphs of content by digest, and asks for no byte twice.
//!
//! A graph is a manifest with everything below it (children of an index, configs, layers) and, where asked
//! for, everything that refers to it. [`Engine::copy`] takes one from a [`Source`] to the engine's
//! [`Destination`] and moves the tags when it is whole:
//!
//! 1. what the destination holds already is not asked for;
//! 2. blobs come in parallel, each in one flight however many images wait for it, continued where it was cut;
//! 3. a manifest is stored when everything below it is, its bytes as they came;
//! 4. referrers follow, to any depth;
//! 5. [`Admission`] has its say, and the tags move.
//!
//! A copy that fails or is dropped leaves the tags where they were and what has arrived where it is: the next
//! one continues. The engine decides nothing about *what* should be where; that is the plan of a reconcile,
//! on top of it. It knows a source only as "the bytes of this digest from offset N", so that others than a
//! registry can be one.

mod blob;
mod copy;
mod engine;
mod error;
mod event;
mod flight;
mod local;
mod outcome;
mod progress;
mod registry;
mod remote;
mod seam;

pub use blob::{BlobFeed, BlobStream};
pub use copy::CopyRequest;
pub use engine::{Engine, EngineOptions};
pub use error::{Cause, CopyError, DestinationError, SourceError, SourceErrorKind};
pub use event::{Event, Observer};
pub use local::LocalDestination;
pub use outcome::Outcome;
pub use progress::Progress;
pub use registry::RegistrySource;
pub use remote::RemoteDestination;
pub use seam::{
    Admission, AdmitAll, BlobRead, Destination, Found, Held, Hold, ManifestBytes, ReceiveError, Source,
    Verdict,
};
