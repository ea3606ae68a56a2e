//! Accounts of the built-in registry: one robot for each satellite, whose secret the database keeps as a hash.

use async_trait::async_trait;
use fleet_protocol::RegistryCredentials;
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use super::{Claimed, CredentialIssuer, InUse, IssueError};
use crate::auth::Robots;
use crate::domain::SatelliteId;
use crate::domain::audit::Actor;
use crate::domain::satellite::{Robot, robot_name};
use crate::domain::secret::{self, Hashed};
use crate::domain::ztr::{ClaimAttempt, ClaimRefusal, Claimant};
use crate::store::{RotateSecret, SharedStore};

/// Gives each satellite a robot of its own.
#[derive(Debug)]
pub struct BuiltinIssuer {
    store: SharedStore,
    robots: Robots,
    url: String,
    longest: SignedDuration,
}

impl BuiltinIssuer {
    /// Robots of the registry at `url`; a secret older than `longest` is to be renewed.
    pub fn new(store: SharedStore, robots: Robots, url: String, longest: SignedDuration) -> Self {
        Self { store, robots, url, longest }
    }

    fn credentials(&self, name: &str, password: SecretString) -> RegistryCredentials {
        RegistryCredentials { url: self.url.clone(), username: robot_name(name), password }
    }
}

#[async_trait]
impl CredentialIssuer for BuiltinIssuer {
    fn serves_tokens(&self) -> Result<(), IssueError> {
        Ok(())
    }

    async fn claim(
        &self,
        by: Actor,
        token: Hashed,
        claimant: Claimant,
        now: Timestamp,
    ) -> Result<Result<Claimed, ClaimRefusal>, IssueError> {
        let secret = secret::generate();
        let attempt = ClaimAttempt { token, claimant, new_secret: self.robots.hash(&secret) };
        Ok(self.store.acting_for(by).claim_token(attempt, now).await?.map(|grant| Claimed {
            credentials: self.credentials(&grant.satellite_name, secret),
            satellite: grant.satellite_name,
            again: grant.again,
        }))
    }

    async fn grant(
        &self,
        by: Actor,
        satellite: &SatelliteId,
        name: &str,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError> {
        let secret = secret::generate();
        if !self.store.acting_for(by).grant_secret(satellite, &self.robots.hash(&secret), now).await? {
            return Err(IssueError::NotAdmitted);
        }
        Ok(self.credentials(name, secret))
    }

    async fn rotate(
        &self,
        by: Actor,
        satellite: SatelliteId,
        name: &str,
        presented: Hashed,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError> {
        let secret = secret::generate();
        let rotate = RotateSecret { satellite, presented, new_secret: self.robots.hash(&secret) };
        if !self.store.acting_for(by).rotate_secret(rotate, now).await? {
            return Err(IssueError::Outdated);
        }
        Ok(self.credentials(name, secret))
    }

    /// Where there is no secret, or one that is too old.
    async fn are_stale(&self, robot: Option<&Robot>, _shown: InUse<'_>, now: Timestamp) -> bool {
        let secret_since = robot.filter(|robot| robot.secret.is_some()).and_then(|robot| robot.secret_since);
        secret_since.is_none_or(|since| now.duration_since(since) >= self.longest)
    }
}
