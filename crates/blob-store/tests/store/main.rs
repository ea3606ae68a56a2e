//! The store through its public face.

mod blobs;
mod crash;
mod damage;
mod garbage;
mod manifests;
mod model;
mod partials;
mod support;
mod uploads;
