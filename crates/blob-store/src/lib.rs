//! A crash-safe, content-addressed store for the content of a registry on a local disk.
//!
//! Blobs and manifests are files named by their digest, with the bytes as they came. What a repository may see, the
//! tags, and what names what are metadata: their truth is an append-only [journal](self#on-disk), answered from a
//! derived index that can be thrown away at any time. A write is acknowledged when it is on the disk, and nothing is
//! visible before it is whole.
//!
//! # On disk
//! ```text
//! lock                        held while a process has the store open
//! journal/journal             length- and checksum-framed records, the truth about metadata
//! index.redb                  derived from the journal, rebuilt from it when damaged
//! blobs/<alg>/<2 hex>/<hex>   content of blobs and manifests
//! uploads/<id>/               sessions of pushes
//! partials/<alg>-<hex>        downloads that are not complete, each with a sidecar
//! quarantine/                 files whose bytes did not match their digest
//! ballast                     space held for the moment when the disk is full
//! tmp/                        what is not published yet; emptied at open
//! ```
//!
//! # Borders
//! The crate knows digests, repositories and what manifests name; it knows nothing of HTTP, of who may ask, or of
//! where content comes from. Those belong to the registry server and to the fetch engine on top of it.
//!
//! Directories are made with mode 0700 and files with 0600.

pub mod durable;
pub mod export;

mod ballast;
mod blob;
mod buffers;
mod cache;
mod codec;
mod committer;
mod error;
mod gc;
mod index;
mod journal;
mod key;
mod layout;
mod partial;
mod pins;
mod record;
mod recover;
mod scrub;
mod shared;
mod sink;
mod store;
mod types;
mod upload;

pub use blob::{BlobReader, BlobStream};
pub use error::{Missing, StoreError};
pub use gc::GarbageReport;
pub use partial::Partial;
pub use pins::Pin;
pub use scrub::{ScrubOptions, ScrubReport, Verdict, Wholeness};
pub use store::{Options, Store};
pub use types::{Completeness, ManifestEntry, Page, PutManifest, PutOutcome, StoredManifest, Usage};
pub use upload::{Upload, UploadId, UploadWriter};
