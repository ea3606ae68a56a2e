//! The store through its public face.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod blobs;
mod crash;
mod damage;
mod export;
mod garbage;
mod manifests;
mod model;
mod partials;
mod support;
mod uploads;
