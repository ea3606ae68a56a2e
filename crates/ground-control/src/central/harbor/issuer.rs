//! Robots on their way to satellites: what is ready is handed out, and where nothing is, it is asked for.

use async_trait::async_trait;
use fleet_protocol::RegistryCredentials;
use jiff::Timestamp;
use secrecy::SecretString;

use super::keeper::KeeperHandle;
use crate::auth::Seal;
use crate::central::{Claimed, CredentialIssuer, InUse, IssueError};
use crate::domain::audit::Actor;
use crate::domain::harbor::{HandOut, HandedOut, RobotRole, SiteRobot, Wish};
use crate::domain::satellite::Robot;
use crate::domain::secret::Hashed;
use crate::domain::ztr::{ClaimRefusal, Claimant};
use crate::domain::{SatelliteId, StoreError, StoreResult};
use crate::store::SharedStore;

/// When to come again while Harbor answers: a robot is made within a moment.
const SOON: u64 = 2;
/// When to come again while Harbor is away.
const LATER: u64 = 15;

/// Hands out robots of Harbor.
#[derive(Debug)]
pub struct HarborIssuer {
    store: SharedStore,
    seal: Seal,
    url: String,
    keeper: KeeperHandle,
}

impl HarborIssuer {
    /// Robots of the Harbor at `url`, made by this keeper, their secrets under this seal.
    pub fn new(store: SharedStore, seal: Seal, url: String, keeper: KeeperHandle) -> Self {
        Self { store, seal, url, keeper }
    }

    fn credentials(&self, out: &HandedOut) -> Result<RegistryCredentials, IssueError> {
        let secret = self
            .seal
            .open(out.robot.as_bytes(), &out.sealed_secret)
            .map_err(|error| StoreError::corrupt("open a robot's secret", error))?;
        Ok(RegistryCredentials {
            url: self.url.clone(),
            username: out.username.clone(),
            password: SecretString::from(secret.as_str()),
        })
    }

    fn not_ready(&self) -> IssueError {
        self.keeper.wake();
        if self.keeper.is_away() {
            let what = "the registry does not answer, and the satellite's account there is not made yet; try again later";
            return IssueError::Preparing { what, seconds: LATER };
        }
        let what = "the satellite's account at the registry is being made; try again in a moment";
        IssueError::Preparing { what, seconds: SOON }
    }

    fn given(&self, out: HandOut) -> Result<HandedOut, IssueError> {
        // The one before may be to go now.
        self.keeper.wake();
        match out {
            HandOut::Given(out) => Ok(out),
            HandOut::NotReady => Err(self.not_ready()),
            HandOut::NotAdmitted => Err(IssueError::NotAdmitted),
            HandOut::Outdated => Err(IssueError::Outdated),
        }
    }

    fn handed(&self, out: StoreResult<HandOut>) -> Result<RegistryCredentials, IssueError> {
        self.credentials(&self.given(out?)?)
    }
}

/// The robot that a report shows to be in use.
fn used<'a>(robots: &'a [SiteRobot], shown: &InUse<'_>) -> Option<&'a SiteRobot> {
    let mut held =
        robots.iter().filter(|robot| matches!(robot.role, RobotRole::Current | RobotRole::Retiring));
    if shown.registry_username.is_empty() {
        // Who tells nothing of the registry logs in here with what it logs in with there.
        let secret = shown.secret?;
        return held.find(|robot| robot.secret.as_ref() == Some(secret));
    }
    held.find(|robot| robot.username.as_deref() == Some(shown.registry_username))
}

#[async_trait]
impl CredentialIssuer for HarborIssuer {
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
        let out = match self.store.acting_for(by).claim_robot(&token, &claimant, now).await? {
            Ok(out) => self.given(out)?,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(Claimed {
            credentials: self.credentials(&out)?,
            satellite: out.satellite_name,
            again: out.again,
        }))
    }

    async fn grant(
        &self,
        by: Actor,
        satellite: &SatelliteId,
        _name: &str,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError> {
        self.handed(self.store.acting_for(by).grant_robot(satellite, Wish::Registration, now).await)
    }

    async fn renew(
        &self,
        by: Actor,
        satellite: &SatelliteId,
        _name: &str,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError> {
        self.handed(self.store.acting_for(by).grant_robot(satellite, Wish::Renewal, now).await)
    }

    async fn rotate(
        &self,
        by: Actor,
        satellite: SatelliteId,
        _name: &str,
        presented: Hashed,
        now: Timestamp,
    ) -> Result<RegistryCredentials, IssueError> {
        self.handed(self.store.acting_for(by).rotate_robot(&satellite, &presented, now).await)
    }

    /// Where another one is ready. What is seen in use ends what was handed out before it.
    async fn are_stale(&self, robot: Option<&Robot>, shown: InUse<'_>, now: Timestamp) -> bool {
        let Some(satellite) = robot.map(|robot| &robot.satellite) else { return false };
        match self.heard(satellite, &shown, now).await {
            Ok(stale) => stale,
            Err(error) => {
                tracing::warn!(%error, "robots not looked up");
                false
            }
        }
    }
}

impl HarborIssuer {
    async fn heard(
        &self,
        satellite: &SatelliteId,
        shown: &InUse<'_>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let robots = self.store.robots_of(satellite).await?;
        let role = |role| robots.iter().any(|robot| robot.role == role);
        if let Some(robot) = used(&robots, shown)
            && (robot.used_at.is_none() || robot.role == RobotRole::Current && role(RobotRole::Retiring))
        {
            self.store.robot_in_use(satellite, &robot.id, now).await?;
            self.keeper.wake();
        }
        let ready = robots.iter().any(|robot| robot.role == RobotRole::Prepared && robot.is_live());
        Ok(ready && role(RobotRole::Current))
    }
}
