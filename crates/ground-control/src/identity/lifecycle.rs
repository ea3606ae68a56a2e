//! Registrations, done together by whoever makes identities and by the database: all or nothing, and harmless to repeat.
//!
//! The order is always the same: the database is asked whether it would refuse, the identity is made, the database
//! records it, and only then goes what the new registration takes the place of. Whatever fails before the database
//! recorded it is undone; what fails afterwards is mended by a repetition.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use fleet_protocol::api::{AttestationMethod, RegisteredSatellite};
use identity::SpiffeId;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use super::{Identities, Prepared, Registrar, RegistrarError, RegistrationRequest};
use crate::domain::StoreError;
use crate::domain::identity::{Enabling, NewRegistration};
use crate::domain::satellite::SatelliteState;
use crate::domain::secret::{HashKey, Purpose};
use crate::store::SharedStore;

/// How long a join token is good where nobody says how long.
pub(crate) const JOIN_TOKEN_LIFETIME: std::time::Duration = std::time::Duration::from_secs(600);

/// Why a satellite was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// SPIFFE is not enabled, or nobody here makes identities (HTTP 503).
    #[error("{0}")]
    Off(&'static str),
    /// Whoever makes identities refused or failed.
    #[error(transparent)]
    Registrar(#[from] RegistrarError),
    /// The database refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is recorded, and something of before may still be there (HTTP 503).
    #[error(
        "the satellite is registered, but what was registered before could not be removed ({0}); do it again"
    )]
    Unsettled(RegistrarError),
    /// The task ended without an answer.
    #[error("the registration did not come to an end")]
    Interrupted,
}

/// What beside the identity a registration asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Membership {
    pub(crate) groups: Vec<String>,
    pub(crate) config_name: Option<String>,
}

/// What the database is to record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purposed {
    Register,
    Enable,
}

/// What is done together with whoever makes identities; cheap to clone.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    pub(super) store: SharedStore,
    pub(super) identities: Option<Arc<Identities>>,
    hash_key: Arc<HashKey>,
    pub(super) names: Names,
    /// There is something to withdraw.
    pub(super) wake: Arc<Notify>,
}

impl Lifecycle {
    /// For the satellites of this database.
    pub fn new(store: SharedStore, identities: Option<Arc<Identities>>, hash_key: Arc<HashKey>) -> Self {
        Self { store, identities, hash_key, names: Names::default(), wake: Arc::default() }
    }

    /// The same, by way of a store that knows who changes something, and on what terms.
    pub(crate) fn through(&self, store: SharedStore) -> Self {
        Self { store, ..self.clone() }
    }

    /// Somebody was revoked or deleted: what they were registered as is to go.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) fn registrar(&self) -> Option<Arc<dyn Registrar>> {
        self.identities.as_ref()?.registrar.clone()
    }

    /// Registers a satellite, or brings its registration up to date.
    pub(crate) async fn register(
        &self,
        request: RegistrationRequest,
        membership: Membership,
    ) -> Result<RegisteredSatellite, RegistrationError> {
        self.uninterrupted(request, membership, Purposed::Register).await
    }

    /// Lets a revoked satellite in again by its registration, done anew; `None` where it has none, or nobody makes
    /// identities.
    pub(crate) async fn enable(&self, name: &str) -> Result<Option<RegisteredSatellite>, RegistrationError> {
        let satellite = self.store.satellite(name).await?;
        if satellite.state != SatelliteState::Revoked {
            let message = format!("satellite {name} is {} and not revoked", satellite.state);
            return Err(StoreError::Conflict { message }.into());
        }
        let (Some(identities), Some(_)) = (&self.identities, self.registrar()) else { return Ok(None) };
        let Some(before) = self.store.registration(name).await? else { return Ok(None) };
        let unreadable = |what: String| StoreError::corrupt("read a registration", what);
        let (region, name) = (
            before.region.parse().map_err(|error| unreadable(format!("{error}")))?,
            before.name.parse().map_err(|error| unreadable(format!("{error}")))?,
        );
        // The agent of a join token is made anew; the others are where they were.
        let parent_agent_id = match before.method {
            AttestationMethod::JoinToken => None,
            AttestationMethod::X509pop | AttestationMethod::Sshpop => Some(
                before.parent_id.parse().map_err(|error: identity::IdError| unreadable(error.to_string()))?,
            ),
        };
        let request = RegistrationRequest {
            spiffe_id: SpiffeId::satellite(&identities.trust_domain, &region, &name),
            name,
            region,
            method: before.method,
            selectors: before.selectors,
            ttl: JOIN_TOKEN_LIFETIME,
            parent_agent_id,
        };
        self.uninterrupted(request, Membership::default(), Purposed::Enable).await.map(Some)
    }

    /// Goes on where whoever asked has gone: half a registration helps nobody.
    async fn uninterrupted(
        &self,
        request: RegistrationRequest,
        membership: Membership,
        purposed: Purposed,
    ) -> Result<RegisteredSatellite, RegistrationError> {
        let guard = self.names.lock(request.name.as_str()).await;
        let this = self.clone();
        let task = tokio::spawn(async move {
            let _guard = guard;
            this.perform(request, membership, purposed).await
        });
        task.await.map_err(|_| RegistrationError::Interrupted)?
    }

    async fn perform(
        &self,
        request: RegistrationRequest,
        membership: Membership,
        purposed: Purposed,
    ) -> Result<RegisteredSatellite, RegistrationError> {
        let identities =
            self.identities.as_ref().ok_or(RegistrationError::Off("SPIFFE is not enabled here"))?;
        let registrar = identities.registrar.as_ref().ok_or(RegistrationError::Off(
            "no SPIRE server is configured; set SPIRE_SERVER_SOCKET or SPIRE_SERVER_ADDRESS",
        ))?;
        let parent = request
            .parent_agent_id
            .clone()
            .unwrap_or_else(|| SpiffeId::agent(&identities.trust_domain, &request.name));
        let draft = NewRegistration {
            name: request.name.to_string(),
            region: request.region.to_string(),
            groups: membership.groups,
            config_name: membership.config_name,
            method: request.method,
            parent_id: parent.to_string(),
            selectors: request.selectors.clone(),
            join_token: None,
        };
        self.store.check_registration(&draft).await?;
        let prepared = registrar.prepare(&request).await?;
        let recorded = match self.record(registrar.as_ref(), draft, &prepared, purposed).await {
            Ok(recorded) => recorded,
            Err(error) => {
                registrar.undo(&request, &prepared).await;
                return Err(error);
            }
        };
        registrar.settle(&request, &prepared).await.map_err(RegistrationError::Unsettled)?;
        let (join_token, expires_at) = prepared.join_token.unzip();
        let (host, port) = identities.agent_server.clone().unzip();
        Ok(RegisteredSatellite {
            satellite: recorded.name,
            region: recorded.region,
            spiffe_id: request.spiffe_id.to_string(),
            parent_agent_id: prepared.parent_agent_id.to_string(),
            join_token,
            expires_at,
            spire_server_address: host,
            spire_server_port: port,
            trust_domain: identities.trust_domain.to_string(),
            trust_bundle: recorded.trust_bundle,
        })
    }

    async fn record(
        &self,
        registrar: &dyn Registrar,
        draft: NewRegistration,
        prepared: &Prepared,
        purposed: Purposed,
    ) -> Result<Recorded, RegistrationError> {
        let trust_bundle = registrar.trust_bundle().await?;
        let now = Timestamp::now();
        let join_token =
            prepared.join_token.as_ref().filter(|_| prepared.token_is_ours).map(|(token, expires_at)| {
                (self.hash_key.hash(Purpose::JoinToken, token.expose_secret()), *expires_at)
            });
        let new = NewRegistration { parent_id: prepared.parent_agent_id.to_string(), join_token, ..draft };
        let satellite = match purposed {
            Purposed::Register => self.store.register_identity(new, now).await?.0,
            Purposed::Enable => {
                let name = new.name.clone();
                self.store.enable_satellite(&name, Enabling::Registration(Box::new(new)), now).await?
            }
        };
        Ok(Recorded { name: satellite.name, region: satellite.region, trust_bundle })
    }
}

struct Recorded {
    name: String,
    region: String,
    trust_bundle: String,
}

/// One at a time for each name: a registration that comes back must not meet the withdrawal of the one before.
///
/// Within this process; several replicas are kept apart by the database, which puts a withdrawal off for the others.
#[derive(Debug, Clone)]
pub(super) struct Names {
    locks: Arc<[Arc<Mutex<()>>]>,
    hasher: RandomState,
}

/// Names share locks, so that their number is bounded.
const LOCKS: usize = 64;

impl Default for Names {
    fn default() -> Self {
        Self { locks: (0..LOCKS).map(|_| Arc::default()).collect(), hasher: RandomState::new() }
    }
}

impl Names {
    pub(super) async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        let at = usize::try_from(self.hasher.hash_one(name) % LOCKS as u64).unwrap_or(0);
        Arc::clone(&self.locks[at]).lock_owned().await
    }
}
