//! The one seam between a registration and whoever makes identities.

use std::time::Duration;

use async_trait::async_trait;
use fleet_protocol::api::{AttestationMethod, SpireAgent};
use fleet_protocol::{Region, SatelliteName};
use identity::SpiffeId;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::domain::identity::Withdrawal;

/// What a satellite's identity is to be made of; checked as far as text can be.
#[derive(Debug, Clone)]
pub struct RegistrationRequest {
    /// Its name.
    pub name: SatelliteName,
    /// Its region.
    pub region: Region,
    /// Its identity.
    pub spiffe_id: SpiffeId,
    /// How its agent attests.
    pub method: AttestationMethod,
    /// What its workload must show, as `type:value`.
    pub selectors: Vec<String>,
    /// How long a join token is good.
    pub ttl: Duration,
    /// The agent, where the caller named it.
    pub parent_agent_id: Option<SpiffeId>,
}

/// What was made for a registration, before the database records it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The agent that will serve the satellite.
    pub parent_agent_id: SpiffeId,
    /// The join token, where the method has one, and its end.
    pub join_token: Option<(SecretString, Timestamp)>,
    /// Whether the database keeps (the hash of) the token, because its maker does not.
    pub token_is_ours: bool,
    /// Entries that were made just now: removed again if the database refuses.
    pub made: Vec<String>,
}

/// Why the maker of identities did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrarError {
    /// The request can never be right as it stands (HTTP 400).
    #[error("{0}")]
    Invalid(String),
    /// What it needs is not there yet (HTTP 404).
    #[error("{0}")]
    NotFound(String),
    /// It does not answer, or not as it should (HTTP 503).
    #[error("{0}")]
    Unavailable(String),
}

/// Whoever makes identities: SPIRE's server, or the built-in authority. Every call can be repeated without harm.
#[async_trait]
pub trait Registrar: std::fmt::Debug + Send + Sync {
    /// Finds the agent, makes the workload entry and the join token. What was there before goes on working.
    async fn prepare(&self, request: &RegistrationRequest) -> Result<Prepared, RegistrarError>;

    /// The database refused: removes what [`Registrar::prepare`] made.
    async fn undo(&self, request: &RegistrationRequest, prepared: &Prepared);

    /// The database recorded it: removes what it takes the place of (earlier entries, tokens that nobody used).
    async fn settle(&self, request: &RegistrationRequest, prepared: &Prepared) -> Result<(), RegistrarError>;

    /// Removes everything of a revoked or deleted satellite, and bans its agent where nobody else needs it.
    async fn withdraw(&self, withdrawal: &Withdrawal) -> Result<(), RegistrarError>;

    /// Whether it answers.
    async fn connected(&self) -> bool;

    /// The agents that attested, of one attestation type or of all.
    async fn agents(&self, attestation_type: Option<&str>) -> Result<Vec<SpireAgent>, RegistrarError>;

    /// The authorities of the trust domain (PEM).
    async fn trust_bundle(&self) -> Result<String, RegistrarError>;
}
