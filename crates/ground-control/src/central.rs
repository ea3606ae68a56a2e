//! The central registry: which one it is, chosen once at the start.
//!
//! To the rest of the program a registry is two things. It is a place for state documents, [`RegistryBackend`], which
//! only the publisher speaks to. And it has accounts with which satellites pull, [`CredentialIssuer`]:
//!
//! - the built-in registry has one for each satellite, which is a row in the database and there at once;
//! - any other OCI registry has one for all of them, which its operator made ([`oci`]).
//!
//! A registry that makes an account for each satellite remotely (Harbor's robots) fits in between: its issuer answers
//! [`IssueError::NotYet`] until the account is there, and what makes accounts is a task of its own. No issuer calls a
//! registry while a request waits.

mod builtin;
mod oci;
mod password_file;

use std::sync::Arc;

use async_trait::async_trait;
use fleet_protocol::RegistryCredentials;
use jiff::Timestamp;

use crate::domain::satellite::Robot;
use crate::domain::secret::Hashed;
use crate::domain::ztr::{ClaimRefusal, Claimant};
use crate::domain::{SatelliteId, StoreError};
use crate::publish::{OciRegistry, RegistryBackend};

pub use builtin::BuiltinIssuer;
pub use oci::OciIssuer;
pub use password_file::{PasswordFile, PasswordFileError};

/// The central registry and what belongs to it.
#[derive(Debug)]
pub struct CentralRegistry {
    /// Its URL, as satellites and documents are told it.
    pub url: String,
    /// Where state documents go.
    pub documents: Arc<dyn RegistryBackend>,
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
    /// Another OCI registry.
    Oci(Arc<OciRegistry>),
}

impl CentralRegistry {
    /// Its name in settings and answers.
    pub fn name(&self) -> &'static str {
        match self.kind {
            RegistryKind::Builtin(_) => "builtin",
            RegistryKind::Oci(_) => "oci",
        }
    }

    /// The store that this process serves, where it does.
    pub fn blobs(&self) -> Option<&blob_store::Store> {
        match &self.kind {
            RegistryKind::Builtin(blobs) => Some(blobs),
            RegistryKind::Oci(_) => None,
        }
    }

    /// What a revocation does not end, to be told to whoever revokes; `None` where it ends everything.
    pub fn revocation_leaves(&self) -> Option<&'static str> {
        match self.kind {
            RegistryKind::Builtin(_) => None,
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

/// Who hands out the registry's accounts to satellites.
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
        satellite: &SatelliteId,
        name: &str,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError>;

    /// Fresh credentials for a satellite that has presented a secret of its robot.
    ///
    /// # Errors
    /// [`IssueError`].
    async fn rotate(
        &self,
        satellite: SatelliteId,
        name: &str,
        presented: Hashed,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError>;

    /// Whether a satellite that reports is to be asked to fetch fresh credentials. `robot` is what the database knows of
    /// those that it has, `by_svid` whether it showed an SVID just now.
    async fn are_stale(&self, robot: Option<&Robot>, by_svid: bool, now: Timestamp) -> bool;
}
