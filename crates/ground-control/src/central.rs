//! The central registry: which one it is, chosen once at the start.
//!
//! To the rest of the program a registry is three things. It is a place for state documents, [`RegistryBackend`], which
//! only the publisher speaks to. It holds what groups list, [`ArtifactIndex`], which only the sweep looks at. And it has
//! accounts with which satellites pull, [`CredentialIssuer`]:
//!
//! - the built-in registry has one for each satellite, which is a row in the database and there at once;
//! - Harbor has some for each, which are made there by a task of its own ([`harbor`]); until one is ready the answer is
//!   [`IssueError::Preparing`];
//! - any other OCI registry has one for all of them, which its operator made ([`oci`]).
//!
//! No issuer calls a registry while a request waits.

mod builtin;
mod harbor;
mod oci;
mod password_file;

use std::sync::Arc;

use async_trait::async_trait;
use fleet_protocol::RegistryCredentials;
use jiff::Timestamp;

use crate::domain::audit::Actor;
use crate::domain::satellite::Robot;
use crate::domain::secret::Hashed;
use crate::domain::ztr::{ClaimRefusal, Claimant};
use crate::domain::{SatelliteId, StoreError};
use crate::follow::ArtifactIndex;
use crate::publish::{OciRegistry, RegistryBackend};

pub use builtin::BuiltinIssuer;
pub use harbor::{
    Compared, Comparison, ComparisonError, HarborIssuer, HarborRegistry, Keeper, KeeperHandle, KeeperOptions,
    Login as HarborLogin, LoginError as HarborLoginError, SiteGate,
};
pub use oci::OciIssuer;
pub use password_file::{PasswordFile, PasswordFileError};

/// The central registry and what belongs to it.
#[derive(Debug)]
pub struct CentralRegistry {
    /// Its URL, as satellites and documents are told it.
    pub url: String,
    /// Where state documents go.
    pub documents: Arc<dyn RegistryBackend>,
    /// What it holds, for what groups follow.
    pub index: Arc<dyn ArtifactIndex>,
    /// Who hands out its accounts.
    pub issuer: Arc<dyn CredentialIssuer>,
    /// What only this kind has.
    pub kind: RegistryKind,
}

/// The kinds of central registries.
#[derive(Debug)]
pub enum RegistryKind {
    /// The one that this process serves from this store.
    Builtin(blob_store::Store),
    /// Harbor, and who sees to its robots.
    Harbor(Arc<HarborRegistry>, KeeperHandle),
    /// Another OCI registry.
    Oci(Arc<OciRegistry>),
}

impl CentralRegistry {
    /// Its name in settings and answers.
    pub fn name(&self) -> &'static str {
        match self.kind {
            RegistryKind::Builtin(_) => "builtin",
            RegistryKind::Harbor(..) => "harbor",
            RegistryKind::Oci(_) => "oci",
        }
    }

    /// The store that this process serves, where it does.
    pub fn blobs(&self) -> Option<&blob_store::Store> {
        match &self.kind {
            RegistryKind::Builtin(blobs) => Some(blobs),
            RegistryKind::Harbor(..) | RegistryKind::Oci(_) => None,
        }
    }

    /// Who sees to the robots of Harbor, where that is the registry.
    pub fn keeper(&self) -> Option<&KeeperHandle> {
        match &self.kind {
            RegistryKind::Harbor(_, keeper) => Some(keeper),
            RegistryKind::Builtin(_) | RegistryKind::Oci(_) => None,
        }
    }

    /// What a satellite's accounts follow from was changed: they are to be looked at.
    pub fn wake(&self) {
        if let Some(keeper) = self.keeper() {
            keeper.wake();
        }
    }

    /// What a revocation does not end, to be told to whoever revokes; `None` where it ends everything.
    pub fn revocation_leaves(&self) -> Option<&'static str> {
        match self.kind {
            RegistryKind::Builtin(_) => None,
            RegistryKind::Harbor(..) => Some(
                "the revocation holds at Ground Control now, and at Harbor as soon as the satellite's robots are deleted there: \
                 GET /api/satellites/{satellite}/accounts shows until when that is pending; registry tokens that Harbor \
                 issued before go on for up to 30 minutes",
            ),
            RegistryKind::Oci(_) => Some(
                "the revocation holds at Ground Control only: the registry's pull account is shared by all satellites \
                 and goes on opening it; change that account's password to shut this one out",
            ),
        }
    }
}

/// Why no credentials were handed out.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The satellite is revoked or not approved (HTTP 403).
    #[error("the satellite is not admitted")]
    NotAdmitted,
    /// The secret that it presented is not good any more (HTTP 401).
    #[error("the presented secret is not good any more")]
    Outdated,
    /// This registry's accounts are not for satellites of this kind (HTTP 409).
    #[error("{0}")]
    IdentityNeeded(&'static str),
    /// There are none at this moment (HTTP 503): nothing was spent, and it is worth coming again.
    #[error("{0}")]
    NotYet(&'static str),
    /// They are being made (HTTP 503): nothing was spent, and it is worth coming again.
    #[error("{what}")]
    Preparing {
        /// What a person reads.
        what: &'static str,
        /// After how many seconds.
        seconds: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a one-time token brought.
#[derive(Debug)]
pub struct Claimed {
    /// The satellite whose token it was.
    pub satellite: String,
    /// Whether this device was answered before.
    pub again: bool,
    /// What it pulls with.
    pub credentials: RegistryCredentials,
}

/// Who hands out the registry's accounts to satellites. What is handed out is recorded as asked for `by` that actor.
#[async_trait]
pub trait CredentialIssuer: Send + Sync + std::fmt::Debug {
    /// Whether satellites without an SVID can be given an account.
    ///
    /// # Errors
    /// [`IssueError::IdentityNeeded`] with the reason; asked before a token is made or looked at.
    fn serves_tokens(&self) -> Result<(), IssueError>;

    /// Credentials for who shows a one-time token, which is spent only where there are some.
    ///
    /// # Errors
    /// [`IssueError`]; a token that is not good is [`ClaimRefusal`].
    async fn claim(
        &self,
        by: Actor,
        token: Hashed,
        claimant: Claimant,
        now: Timestamp,
    ) -> Result<Result<Claimed, ClaimRefusal>, IssueError>;

    /// Credentials for a satellite that has shown its SVID. What it was given before stays good until these are used.
    ///
    /// # Errors
    /// [`IssueError`].
    async fn grant(
        &self,
        by: Actor,
        satellite: &SatelliteId,
        name: &str,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError>;

    /// Fresh credentials for a satellite that has shown its SVID and has some already, which are not good or not for long.
    ///
    /// # Errors
    /// [`IssueError`].
    async fn renew(
        &self,
        by: Actor,
        satellite: &SatelliteId,
        name: &str,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError> {
        self.grant(by, satellite, name, now).await
    }

    /// Fresh credentials for a satellite that has presented a secret of its robot.
    ///
    /// # Errors
    /// [`IssueError`].
    async fn rotate(
        &self,
        by: Actor,
        satellite: SatelliteId,
        name: &str,
        presented: Hashed,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError>;

    /// Whether a satellite that reports is to be asked to fetch fresh credentials. `robot` is what the database knows of
    /// those that it has, `shown` what the report tells of them.
    async fn are_stale(&self, robot: Option<&Robot>, shown: InUse<'_>, now: Timestamp) -> bool;
}

/// What a report tells of the credentials that its satellite works with.
#[derive(Debug, Clone, Copy)]
pub struct InUse<'a> {
    /// It showed its SVID just now.
    pub by_svid: bool,
    /// The secret that it showed instead, as it is kept.
    pub secret: Option<&'a Hashed>,
    /// The user name that the registry last accepted from it; empty where it does not say.
    pub registry_username: &'a str,
}
