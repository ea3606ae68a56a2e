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

use super::error::ApiError;
use super::state::AppState;
use crate::auth::{Credentials, RobotError};
use crate::domain::SatelliteId;
use crate::domain::identity::{Admission, NameRecord, Shown, admit};
use crate::domain::satellite::Robot;
use crate::domain::secret::Hashed;
use crate::identity::{Identities, Provider};

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
            Layout::Satellite { region, name } => Ok(Some(Self { name, region, leaf })),
            Layout::GroundControl | Layout::Agent { .. } | Layout::Other => {
                Err(ApiError::forbidden(format!("{} is no satellite's identity", leaf.id)))
            }
        }
    }

    /// Looks the satellite up and decides; `None` where nobody knows it. The first use of a new SVID is noted.
    pub(crate) async fn admitted(
        &self,
        state: &AppState,
        now: Timestamp,
    ) -> Result<Option<Admitted>, ApiError> {
        let known = state.store.name_record(self.name.as_str()).await?;
        // Only serial numbers of our own authority carry the epoch; one of its certificates without it is of no life.
        let epoch = state
            .identities
            .as_ref()
            .filter(|identities| identities.provider == Provider::Builtin)
            .map(|_| identity::authority::epoch_of(&self.leaf.serial).unwrap_or(-1));
        let shown = Shown { region: self.region.as_str(), epoch };
        match (admit(&known, &shown), known) {
            (Admission::Admitted, NameRecord::Known(record)) => {
                if record.awaits_use {
                    let key = STANDARD.encode(&self.leaf.public_key);
                    state.store.identity_used(&record.satellite, &key, now).await?;
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

impl FromRequestParts<AppState> for SatelliteCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let now = Timestamp::now();
        if let Some(identities) = &state.identities
            && let Some(svid) = SatelliteSvid::of(parts, identities, now)?
        {
            let unknown = || {
                ApiError::unauthorized_because(
                    "the satellite is not registered; GET /satellites/spiffe-ztr does that",
                )
            };
            let Admitted { satellite, name } = svid.admitted(state, now).await?.ok_or_else(unknown)?;
            return Ok(Self { satellite, name, proof: Proof::Svid });
        }
        let Credentials::Basic { username, password } = Credentials::of(&parts.headers) else {
            return Err(ApiError::unauthorized());
        };
        match state.robots.check(&username, &password).await {
            Ok((robot, presented)) => Ok(Self {
                satellite: robot.satellite.clone(),
                name: robot.satellite_name.clone(),
                proof: Proof::Secret(Box::new(robot), presented),
            }),
            Err(RobotError::Wrong) => Err(ApiError::unauthorized()),
            Err(RobotError::NotAdmitted(name)) => {
                Err(ApiError::forbidden(format!("satellite {name} is not admitted")))
            }
            Err(RobotError::Store(error)) => Err(error.into()),
        }
    }
}
