//! The upstream side of OCI Distribution: one [`Client`] speaks to one registry.
//!
//! It knows the wire and nothing else: the token flow, redirects, retries, timeouts, the bounds on every
//! body, and what each kind of failure means ([`Error::fault`], [`Error::is_retryable`]). Bytes are handed
//! on as they came: manifests are verified against their digest here because they are small; blobs are
//! streamed, and whoever stores them verifies them.
//!
//! It does not know graphs, stores, schedules or policies; those are built on top of it. What it promises:
//!
//! * **Credentials stay at home.** A password goes to the registry's own origin, and to the realm that its
//!   challenge names if that realm is `https`, or is on the registry's own host (or plain HTTP was allowed).
//!   Redirected requests carry no `Authorization` to another origin. See [`Credentials`].
//! * **No plain HTTP by accident.** `http://` is for loopback; beyond it only with
//!   [`ClientOptions::allow_plain_http`].
//! * **Nothing unbounded.** Manifests, tokens, errors, lists, redirects and retries all have limits. Blobs
//!   have no total timeout, but a transfer that makes no progress is ended.
//! * **Ranges are checked.** A read from offset N is answered by `206` with the matching `Content-Range`, or
//!   by a typed error.

mod auth;
mod blob;
mod challenge;
mod client;
mod endpoint;
mod error;
mod manifest;
mod paging;
mod push;
mod referrers;
mod retry;
mod send;
mod tls;

pub use auth::Credentials;
pub use blob::{BlobBody, BlobHead};
pub use client::{Client, ClientOptions};
pub use endpoint::{Endpoint, EndpointError, Scheme};
pub use error::{Error, ErrorKind, Fault};
pub use manifest::{FetchedManifest, ManifestHead};
pub use push::{Mounted, Pushed};
pub use referrers::{Referrers, fallback_tag};
pub use retry::RetryPolicy;
pub use tls::{TlsOptions, client_config as tls_config};
