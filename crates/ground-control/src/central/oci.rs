//! The one account that satellites share at a registry which makes none for each of them.
//!
//! Whoever has it can read whatever it opens, so it is given to satellites that prove who they are at each request, and a
//! token, which is good for whoever finds it, opens nothing. Ground Control's own account is never handed out.

use std::sync::Arc;

use async_trait::async_trait;
use fleet_protocol::RegistryCredentials;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Claimed, CredentialIssuer, InUse, IssueError, PasswordFile};
use crate::domain::SatelliteId;
use crate::domain::audit::Actor;
use crate::domain::satellite::Robot;
use crate::domain::secret::{HashKey, Hashed, Purpose};
use crate::domain::ztr::{ClaimRefusal, Claimant};
use crate::store::SharedStore;

const IDENTITY_NEEDED: &str = "satellites with tokens are not served here: REGISTRY_BACKEND=oci has one pull account for \
                               all sites, which is given to satellites with an SVID only; register them with \
                               POST /api/satellites/register";
const UNREADABLE: &str =
    "the registry's pull account is not available at this moment, the server's log says why";

/// Hands out the pull account.
#[derive(Debug)]
pub struct OciIssuer {
    store: SharedStore,
    hash_key: Arc<HashKey>,
    url: String,
    username: String,
    password: PasswordFile,
    /// That of the account that publishes, so that it is never handed out by mistake.
    push_password: PasswordFile,
}

impl OciIssuer {
    /// The account `username` of the registry at `url`.
    pub fn new(
        store: SharedStore,
        hash_key: Arc<HashKey>,
        url: String,
        username: String,
        password: PasswordFile,
        push_password: PasswordFile,
    ) -> Self {
        Self { store, hash_key, url, username, password, push_password }
    }

    /// Which state of the account this is. A satellite was given the present one exactly where its row says the same.
    fn state(&self, password: &SecretString) -> Hashed {
        // None of the three holds a line end.
        let text =
            SecretString::from(format!("{}\n{}\n{}", self.url, self.username, password.expose_secret()));
        self.hash_key.hash(Purpose::PullAccount, text.expose_secret())
    }

    async fn password(&self) -> Result<SecretString, IssueError> {
        let password = self.password.now().await.map_err(|error| {
            tracing::error!(%error, "no registry credentials handed out");
            IssueError::NotYet(UNREADABLE)
        })?;
        // A rotation that mixes the files up must not give the right to write to every site.
        if let Ok(push) = self.push_password.recent().await
            && push.expose_secret() == password.expose_secret()
        {
            tracing::error!(
                "the files of the push and the pull account hold the same password, no credentials handed out"
            );
            return Err(IssueError::NotYet(UNREADABLE));
        }
        Ok(password)
    }
}

#[async_trait]
impl CredentialIssuer for OciIssuer {
    fn serves_tokens(&self) -> Result<(), IssueError> {
        Err(IssueError::IdentityNeeded(IDENTITY_NEEDED))
    }

    async fn claim(
        &self,
        _by: Actor,
        _token: Hashed,
        _claimant: Claimant,
        _now: Timestamp,
    ) -> Result<Result<Claimed, ClaimRefusal>, IssueError> {
        Err(IssueError::IdentityNeeded(IDENTITY_NEEDED))
    }

    async fn grant(
        &self,
        by: Actor,
        satellite: &SatelliteId,
        _name: &str,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError> {
        let password = self.password().await?;
        if !self.store.acting_for(by).grant_secret(satellite, &self.state(&password), now).await? {
            return Err(IssueError::NotAdmitted);
        }
        Ok(RegistryCredentials { url: self.url.clone(), username: self.username.clone(), password })
    }

    async fn rotate(
        &self,
        _by: Actor,
        _satellite: SatelliteId,
        _name: &str,
        _presented: Hashed,
        _now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError> {
        Err(IssueError::IdentityNeeded(IDENTITY_NEEDED))
    }

    /// Where the file holds another password than the satellite was given. One without an SVID would ask in vain.
    async fn are_stale(&self, robot: Option<&Robot>, shown: InUse<'_>, _now: Timestamp) -> bool {
        if !shown.by_svid {
            return false;
        }
        match self.password.recent().await {
            Ok(password) => robot.and_then(|robot| robot.secret.as_ref()) != Some(&self.state(&password)),
            Err(error) => {
                tracing::warn!(%error, "registry credentials not compared");
                false
            }
        }
    }
}
