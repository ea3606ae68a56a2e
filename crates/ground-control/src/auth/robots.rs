//! Robots: the accounts with which satellites pull and report.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::StoreError;
use crate::domain::satellite::{Robot, SecretMatch, satellite_of_robot};
use crate::domain::secret::{HashKey, Hashed, Purpose};
use crate::store::SharedStore;

/// Why a robot was not let in.
#[derive(Debug, thiserror::Error)]
pub enum RobotError {
    /// Unknown, deleted, or a wrong secret.
    #[error("wrong or missing credentials")]
    Wrong,
    /// Right credentials of a satellite that is revoked or not approved yet.
    #[error("satellite {0} is not admitted")]
    NotAdmitted(String),
    /// The database does not answer; nothing is known about the credentials.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks robots' secrets.
#[derive(Debug, Clone)]
pub struct Robots {
    store: SharedStore,
    hash_key: Arc<HashKey>,
    at_harbor: bool,
}

impl Robots {
    /// Robots of this database, with secrets hashed under `hash_key`.
    pub fn new(store: SharedStore, hash_key: Arc<HashKey>) -> Self {
        Self { store, hash_key, at_harbor: false }
    }

    /// Those that Harbor made: known by the name that it gave them.
    #[must_use]
    pub fn at_harbor(self, at_harbor: bool) -> Self {
        Self { at_harbor, ..self }
    }

    /// The hash under which a secret is kept.
    pub fn hash(&self, secret: &SecretString) -> Hashed {
        self.hash_key.hash(Purpose::Robot, secret.expose_secret())
    }

    /// The robot of this user name (`robot$edge-01`) if the secret is its present or previous one; the use of the
    /// present one ends the previous.
    ///
    /// # Errors
    /// [`RobotError`]. That a satellite is revoked is told only to who has its secret.
    pub async fn check(&self, username: &str, secret: &SecretString) -> Result<(Robot, Hashed), RobotError> {
        let presented = self.hash(secret);
        if self.at_harbor {
            // By what is kept here, also where the robot has expired there.
            let robot = self.store.robot_account(username, &presented).await?.ok_or(RobotError::Wrong)?;
            if !robot.state.admits() {
                return Err(RobotError::NotAdmitted(robot.satellite_name));
            }
            return Ok((robot, presented));
        }
        let satellite = satellite_of_robot(username).ok_or(RobotError::Wrong)?;
        let robot = self.store.robot(satellite).await?.ok_or(RobotError::Wrong)?;
        let matched = robot.check(&presented).ok_or(RobotError::Wrong)?;
        if !robot.state.admits() {
            return Err(RobotError::NotAdmitted(robot.satellite_name));
        }
        if matches!(matched, SecretMatch::Current { previous_kept: true }) {
            self.store.robot_secret_used(&robot.satellite, &presented).await?;
        }
        Ok((robot, presented))
    }
}
