//! SPIFFE identities: names, certificates, where they come from, and TLS that authorises by them.
//!
//! An [`Identity`] is a handle on the SVID and trust bundle that are good at this moment, whoever keeps it up to date:
//! the Workload API ([`workload_api`]), files ([`files`]), or a program that holds them itself (the built-in authority and
//! its satellites). [`tls`] makes rustls configurations over such a handle: they live as long as the program, and every
//! handshake uses what the handle holds then, or fails where it holds nothing.
//!
//! [`key`] and [`authority`] are the two sides of issuing: the key that never leaves its machine, and the certificate
//! authority that signs for it. Nothing here knows HTTP, SQL, or SPIRE's own APIs (the crate `spire`).
//!
//! Sources: SPIFFE-ID, X509-SVID, SPIFFE Trust Domain and Bundle, SPIFFE Workload API.

pub mod authority;
mod expiry;
pub mod files;
pub mod id;
pub mod key;
mod pem;
mod source;
pub mod svid;
pub mod tls;
pub mod workload_api;

pub use id::{IdError, Layout, SpiffeId, TrustDomain};
pub use key::{Csr, KeyError, KeyPair};
pub use source::{Current, Identity, IdentityKeeper, identity};
pub use svid::{Leaf, Svid, SvidError, TrustBundle};
