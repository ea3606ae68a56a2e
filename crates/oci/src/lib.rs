//! Names, references, digests, descriptors and manifests of the OCI image and distribution specifications.
//!
//! Everything here is a value: parsed once at the border, valid from then on, with no I/O. Manifests are *read*,
//! never written again: what is stored and served are the bytes as they came, and this crate only tells what they
//! name. Docker's schema 2 documents have the same shape and are read by the same types.

pub mod descriptor;
pub mod digest;
pub mod manifest;
pub mod media_type;
pub mod name;
pub mod platform;
pub mod reference;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use manifest::{Kind, Manifest, ManifestError};
pub use name::{NameError, RepositoryName, Tag};
pub use platform::{Platform, PlatformError, PlatformFilter};
pub use reference::{ImageReference, Reference, ReferenceError};
