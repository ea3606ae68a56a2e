//! Harbor's REST API, version 2.0: one [`Client`] speaks to one Harbor (2.12 to 2.16), as an administrator or as a
//! robot with rights of its own.
//!
//! It knows robots, projects, webhook policies, the listing of artifacts, health and version: what a control
//! plane needs beside the registry protocol. Manifests and blobs are `registry-client`'s, from which this
//! crate takes addresses, TLS and the retry policy. It decides nothing: when a robot is made, renewed or deleted, and what a
//! failure means for a site, is its caller's. What it promises:
//!
//! * **A 401 is no verdict.** With its database down Harbor answers 401 to the right password; the error says so
//!   ([`ErrorKind::Unauthorized`]), and [`Client::check_secret`] calls a secret refused only after Harbor has shown that it
//!   can tell.
//! * **Only what is safe is repeated.** Reads, replacements and deletions are; a create or a fresh secret is sent again only
//!   where Harbor certainly has not seen it. What may have happened is told by [`Error::may_have_happened`].
//! * **No session.** Basic authentication on each request and no cookie jar: a cookie that Harbor sets, sent
//!   back, turns its CSRF protection on, and every change is refused.
//! * **Nothing unbounded.** Bodies, pages, requests in flight, retries and waiting times have limits.
//! * **No secret in a log.** Secrets are `secrecy` values, headers are marked sensitive, no error quotes a request.
//!
//! Pure parts, for decisions and their tests: [`Permissions`] (compared as sets, since Harbor changes their order
//! between reads) and [`Lifetime`] (when a robot expires, and which duration makes it live long enough).

mod artifact;
mod client;
mod error;
mod paging;
mod project;
mod robot;
mod secret;
mod send;
mod system;
mod webhook;

pub use artifact::{Artifact, Child, Repository, Tag};
pub use client::{Client, ClientOptions, Login};
pub use error::{Error, ErrorKind};
pub use project::{Ensured, Project};
pub use registry_client::{Endpoint, EndpointError, RetryPolicy, TlsOptions};
pub use robot::expiry::{Expiry, Lifetime, LifetimeError};
pub use robot::name::{RobotName, RobotNameError};
pub use robot::permission::{Access, Permissions, Scope};
pub use robot::{CreatedRobot, NewRobot, Robot, RobotId};
pub use secret::SecretCheck;
pub use system::{Component, Health, SystemInfo};
pub use webhook::{DELETE_ARTIFACT, Delivery, PUSH_ARTIFACT, PolicyId, PolicySpec, WebhookPolicy};
