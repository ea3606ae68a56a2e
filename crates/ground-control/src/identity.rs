//! Identities by SPIFFE: Ground Control's own, those of satellites, and who makes them.
//!
//! Where Ground Control's own SVID comes from ([`Provider`]) and who registers satellites ([`Registrar`]) are two
//! questions: with the built-in authority both answers are this program; beside SPIRE the one is a Workload API or
//! files, the other SPIRE's server.

pub mod builtin;
mod lifecycle;
mod registrar;
pub mod spire;
mod withdrawal;

use std::sync::Arc;

use identity::{Identity, TrustDomain};

use crate::domain::identity::AutoRegister;
pub(crate) use lifecycle::{JOIN_TOKEN_LIFETIME, Membership};
pub use lifecycle::{Lifecycle, RegistrationError};
pub use registrar::{Prepared, Registrar, RegistrarError, RegistrationRequest};

/// Where Ground Control's own SVID comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// The Workload API of an agent beside it.
    Sidecar,
    /// Files that something else renews.
    Static,
    /// The built-in authority.
    Builtin,
}

impl Provider {
    /// The name in settings and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Static => "static",
            Self::Builtin => "builtin",
        }
    }
}

/// What there is where SPIFFE is enabled.
#[derive(Debug)]
pub struct Identities {
    /// The one trust domain that is trusted.
    pub trust_domain: TrustDomain,
    /// Where our own SVID comes from.
    pub provider: Provider,
    /// Our own SVID and the bundle that clients are checked against.
    pub own: Identity,
    /// Who registers satellites; `None` where no SPIRE server is configured beside a foreign provider.
    pub registrar: Option<Arc<dyn Registrar>>,
    /// The built-in authority, where it is the provider.
    pub authority: Option<Arc<builtin::Authority>>,
    /// What becomes of a valid identity that nobody registered.
    pub auto_register: AutoRegister,
    /// What registrants are told of the server that their agents attest to.
    pub agent_server: Option<(String, u16)>,
}
