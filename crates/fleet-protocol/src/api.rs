//! Requests and answers of the people's REST routes, shared by the server and its command line.
//!
//! Keys are snake_case, times RFC 3339, what is absent is `null`, an empty list `[]`.

mod accounts;
mod audit;
mod configs;
mod groups;
mod people;
mod registration;
mod rollouts;
mod satellites;
mod tokens;

use serde::{Deserialize, Serialize};

pub use accounts::{AccountFailure, AccountState, GroupAccounts, RegistryAccount, SatelliteAccounts};
pub use audit::AuditEntry;
pub use configs::{Config, ConfigAssignment, NewConfig};
pub use groups::{
    ArtifactChange, ArtifactResolution, Group, GroupDetail, GroupDifference, GroupMember, GroupRevision,
    GroupRevisionDetail, GroupSelector, ReplicationUrl, ResolvedArtifact, UnresolvedArtifact,
};
pub use people::{
    ChangePassword, IdentityProvider, LoginAnswer, LoginCode, LoginRequest, NewUser, OwnSession, Role,
    SetPassword, SetRole, SignedIn, User,
};
pub use registration::{
    AttestationMethod, RegisterSatellite, RegisteredSatellite, SpireAgent, SpireAgents, SpireStatus,
};
pub use rollouts::{
    ArtifactState, Rollout, RolloutProgress, RolloutSatellite, RolloutTotals, SatelliteArtifact,
};
pub use satellites::{
    NewSatellite, NewSatelliteAnswer, Satellite, SatelliteImage, SatelliteLifecycle, SatelliteStatus,
};
pub use tokens::{ApiToken, CreatedApiToken, NewApiToken, Scope, TOKEN_PREFIX};

/// Every error: `{"message", "code"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed, on what, why, what to do.
    pub message: String,
    /// The HTTP status.
    pub code: u16,
}

/// A word that something was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Message {
    /// What was done.
    pub message: String,
}
