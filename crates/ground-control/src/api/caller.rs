//! Which satellite a request comes from: by its X.509-SVID, or by its robot's name and secret.
//!
//! That a certificate is good was checked when the connection began; that it still is, and that the database knows its
//! satellite as admitted, is checked with each request. Where a request brings both, the SVID decides.

use axum::extract::FromRequestParts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_protocol::{Region, SatelliteName};
use http::request::Parts;
use identity::{Layout, Leaf};
use jiff::Timestamp;
use registry_server::listen::PeerCertificates;

use super::acting;
use super::error::ApiError;
use super::state::AppState;
use crate::auth::{Credentials, RobotError};
use crate::domain::SatelliteId;
use crate::domain::audit::{Actor, ActorKind, Authentication};
use crate::domain::identity::{Admission, NameRecord, Shown, admit};
use crate::domain::satellite::Robot;
use crate::domain::secret::Hashed;
use crate::identity::{Identities, Provider};
use crate::store::Credential;

/// Put into the requests of the one listener that verifies client certificates as SVIDs. On every other listener a
/// certificate says nothing about a satellite, whoever signed it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VerifiesSvids;

/// The satellite that asks.
#[derive(Debug)]
pub(crate) struct SatelliteCaller {
    pub(crate) satellite: SatelliteId,
    pub(crate) name: String,
    pub(crate) proof: Proof,
    pub(crate) actor: Actor,
}

/// With what it showed who it is.
#[derive(Debug)]
pub(crate) enum Proof {
    /// Its SVID.
    Svid,
    /// A secret of its robot, present or previous, as it is kept.
    Secret(Box<Robot>, Hashed),
}

/// An SVID of a satellite that is good at this moment; whether its satellite is admitted is another question.
#[derive(Debug)]
pub(crate) struct SatelliteSvid {
    pub(crate) name: SatelliteName,
    pub(crate) region: Region,
    pub(crate) actor: Actor,
    leaf: Leaf,
}

/// A satellite that its SVID admits.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) satellite: SatelliteId,
    pub(crate) name: String,
}

impl SatelliteSvid {
    /// What the request's connection showed; `None` where it showed nothing.
    ///
    /// 401 where it has expired since, 403 where it is nobody's who is a satellite.
    pub(crate) fn of(
        parts: &Parts,
        identities: &Identities,
        now: Timestamp,
    ) -> Result<Option<Self>, ApiError> {
        let (Some(_), Some(shown)) =
            (parts.extensions.get::<VerifiesSvids>(), parts.extensions.get::<PeerCertificates>())
        else {
            return Ok(None);
        };
        let leaf = identity::tls::peer(&shown.0).map_err(|error| {
            tracing::warn!(%error, "verified certificate does not parse");
            ApiError::unauthorized_because("the certificate is no X.509-SVID")
        })?;
        if leaf.is_expired(now) {
            return Err(ApiError::unauthorized_because(
                "the SVID has expired; connect again with a fresh one",
            ));
        }
        if leaf.id.trust_domain() != &identities.trust_domain {
            return Err(ApiError::unauthorized_because("the SVID belongs to another trust domain"));
        }
        match leaf.id.layout() {
            Layout::Satellite { region, name } => {
                let by = Authentication::Svid;
                let actor = acting::actor(&parts.extensions, ActorKind::Satellite, name.as_str(), by);
                Ok(Some(Self { name, region, actor, leaf }))
            }
            Layout::GroundControl | Layout::Agent { .. } | Layout::Other => {
                Err(ApiError::forbidden(format!("{} is no satellite's identity", leaf.id)))
            }
        }
    }

    /// The epoch in its serial number. Only those of our own authority carry one; one of its certificates without it is of no
    /// life.
    pub(crate) fn epoch(&self, identities: &Identities) -> Option<i64> {
        let own = identities.provider == Provider::Builtin;
        own.then(|| identity::authority::epoch_of(&self.leaf.serial).unwrap_or(-1))
    }

    /// Notes that it was used by its satellite.
    pub(crate) async fn used(
        &self,
        state: &AppState,
        satellite: &SatelliteId,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let key = STANDARD.encode(&self.leaf.public_key);
        Ok(state.store.identity_used(satellite, &key, now).await?)
    }

    /// Looks the satellite up and decides; `None` where nobody knows it. The first use of a new SVID is noted.
    pub(crate) async fn admitted(
        &self,
        state: &AppState,
        now: Timestamp,
    ) -> Result<Option<Admitted>, ApiError> {
        let known = state.store.name_record(self.name.as_str()).await?;
        let epoch = state.identities.as_ref().and_then(|identities| self.epoch(identities));
        let shown = Shown { region: self.region.as_str(), epoch };
        match (admit(&known, &shown), known) {
            (Admission::Admitted, NameRecord::Known(record)) => {
                if record.awaits_use {
                    self.used(state, &record.satellite, now).await?;
                }
                Ok(Some(Admitted { satellite: record.satellite, name: record.name }))
            }
            (Admission::Refused(why), _) => Err(ApiError::forbidden(why)),
            (Admission::Unknown, _) => Ok(None),
            (Admission::Gone | Admission::Admitted, _) => Err(ApiError::unauthorized_because(
                "the identity is not known any more; ask an administrator",
            )),
        }
    }
}

/// Why nobody knows a satellite that showed a good SVID.
fn unregistered() -> ApiError {
    ApiError::unauthorized_because("the satellite is not registered; GET /satellites/spiffe-ztr does that")
}

/// The satellite that reports: as [`SatelliteCaller`], except that the database has not been asked about an SVID yet. It is
/// asked for many reports at once.
#[derive(Debug)]
pub(crate) enum Reporter {
    Svid(Box<SatelliteSvid>),
    /// With the secret that was presented, as it is kept.
    Robot(Box<Robot>, Hashed),
}

impl Reporter {
    /// The satellite's name, by what it showed.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Svid(svid) => svid.name.as_str(),
            Self::Robot(robot, _) => &robot.satellite_name,
        }
    }

    /// What its report is admitted by.
    pub(crate) fn credential(&self, state: &AppState) -> Credential {
        match self {
            Self::Svid(svid) => Credential::Svid {
                region: svid.region.as_str().to_owned(),
                epoch: state.identities.as_ref().and_then(|identities| svid.epoch(identities)),
            },
            Self::Robot(robot, _) => Credential::Robot(robot.satellite.clone()),
        }
    }

    /// Why its report was not admitted.
    pub(crate) async fn refusal(&self, state: &AppState, now: Timestamp) -> ApiError {
        let again = || ApiError::unavailable("the satellite changes at this moment, try again");
        match self {
            Self::Svid(svid) => match svid.admitted(state, now).await {
                Ok(Some(_)) => again(),
                Ok(None) => unregistered(),
                Err(refusal) => refusal,
            },
            Self::Robot(robot, _) => match state.store.name_record(&robot.satellite_name).await {
                Ok(NameRecord::Known(record)) if record.satellite == robot.satellite => {
                    if record.state.admits() {
                        again()
                    } else {
                        ApiError::forbidden("the satellite is not admitted")
                    }
                }
                Ok(_) => ApiError::unauthorized(),
                Err(error) => error.into(),
            },
        }
    }
}

impl FromRequestParts<AppState> for Reporter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        if let Some(identities) = &state.identities
            && let Some(svid) = SatelliteSvid::of(parts, identities, Timestamp::now())?
        {
            return Ok(Self::Svid(Box::new(svid)));
        }
        let SatelliteCaller { proof: Proof::Secret(robot, presented), .. } =
            SatelliteCaller::from_request_parts(parts, state).await?
        else {
            return Err(ApiError::unauthorized());
        };
        Ok(Self::Robot(robot, presented))
    }
}

impl FromRequestParts<AppState> for SatelliteCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let now = Timestamp::now();
        if let Some(identities) = &state.identities
            && let Some(svid) = SatelliteSvid::of(parts, identities, now)?
        {
            let Admitted { satellite, name } = svid.admitted(state, now).await?.ok_or_else(unregistered)?;
            return Ok(Self { satellite, name, proof: Proof::Svid, actor: svid.actor });
        }
        let Credentials::Basic { username, password } = Credentials::of(&parts.headers) else {
            return Err(ApiError::unauthorized());
        };
        let known = |name: &str| {
            acting::actor(&parts.extensions, ActorKind::Satellite, name, Authentication::RobotSecret)
        };
        match state.robots.check(&username, &password).await {
            Ok((robot, presented)) => Ok(Self {
                satellite: robot.satellite.clone(),
                name: robot.satellite_name.clone(),
                actor: known(&robot.satellite_name),
                proof: Proof::Secret(Box::new(robot), presented),
            }),
            Err(RobotError::Wrong) => {
                acting::claimed(&parts.extensions, &username);
                Err(ApiError::unauthorized())
            }
            Err(RobotError::NotAdmitted(name)) => {
                known(&name);
                Err(ApiError::forbidden(format!("satellite {name} is not admitted")))
            }
            Err(RobotError::Store(error)) => Err(error.into()),
        }
    }
}
