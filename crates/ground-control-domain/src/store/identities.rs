//! Identities of satellites, their lifecycle, and what the built-in authority keeps.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::identity::{
    AgentEntry, AttestAttempt, AuthorityRecord, AutoRegister, AutoRegistered, Enabling, IssueGrant,
    IssueRefusal, NameRecord, NewRegistration, NodeAgent, Registration, RenewAttempt, RenewalRecord,
    Withdrawal,
};
use crate::satellite::Satellite;
use crate::secret::Hashed;
use crate::{SatelliteId, StoreResult};

/// Identities of satellites, their lifecycle, and what the built-in authority keeps.
#[async_trait]
pub trait Identities {
    /// What is known of the satellite called `name`, a deleted one included.
    async fn name_record(&self, name: &str) -> StoreResult<NameRecord>;

    /// Registers a satellite with an identity: creates it, or brings the registration of a known one up to date and lets a
    /// revoked one in again (its robot, its keys and its tokens end then). Tells whether it is new.
    ///
    /// Join tokens that nobody claimed are voided; one that was claimed goes on until its SVID is used, and what a satellite
    /// works with now stays good.
    ///
    /// `Invalid` for a bad name, `Conflict` where the name belongs to another region, `NotFound` for a group or
    /// configuration. Changes nothing on an error.
    async fn register_identity(&self, new: NewRegistration, now: Timestamp)
    -> StoreResult<(Satellite, bool)>;

    /// Whether [`Identities::register_identity`] would be refused, without changing anything: asked before whoever makes
    /// identities is.
    async fn check_registration(&self, new: &NewRegistration) -> StoreResult<()>;

    /// The registration of the satellite called `name`, a revoked one included; `None` where it never had one.
    async fn registration(&self, name: &str) -> StoreResult<Option<Registration>>;

    /// Makes a valid identity that nobody registered known, without groups, with the configuration `default`.
    async fn auto_register(
        &self,
        name: &str,
        region: &str,
        policy: AutoRegister,
        now: Timestamp,
    ) -> StoreResult<AutoRegistered>;

    /// Gives the robot of an authenticated satellite a new secret; the one seen in use last stays good until the new one is
    /// used. `false` where the satellite is not admitted any more.
    async fn grant_secret(
        &self,
        satellite: &SatelliteId,
        secret: &Hashed,
        now: Timestamp,
    ) -> StoreResult<bool>;

    /// Revokes a satellite: refused from now on, tokens closed, epoch ended, withdrawal of its registration due at once.
    /// Its robot's hashes and its keys stay, so that it is told 403 and not 401. Its agents are banned unless they serve an
    /// admitted satellite. Repeating it is no error.
    async fn revoke_satellite(&self, name: &str, now: Timestamp) -> StoreResult<Satellite>;

    /// Lets a revoked satellite in again: pending, in its groups, without its old robot and keys. `Conflict` where it is not revoked.
    async fn enable_satellite(&self, name: &str, how: Enabling, now: Timestamp) -> StoreResult<Satellite>;

    /// Approves a satellite that registered itself. `Conflict` where it does not wait for that.
    async fn approve_satellite(&self, name: &str, now: Timestamp) -> StoreResult<Satellite>;

    /// Makes every satellite stale that has been silent for too long; their names.
    ///
    /// `threshold`: a fixed one instead of three of each satellite's own intervals.
    async fn mark_stale(
        &self,
        now: Timestamp,
        threshold: Option<jiff::SignedDuration>,
    ) -> StoreResult<Vec<String>>;

    /// Withdrawals that are due, at most `most`; each is put off by `retry` so that another replica leaves it alone.
    async fn due_withdrawals(
        &self,
        now: Timestamp,
        retry: jiff::SignedDuration,
        most: u32,
    ) -> StoreResult<Vec<Withdrawal>>;

    /// What was to be withdrawn is gone.
    async fn withdrawn(&self, satellite: &SatelliteId) -> StoreResult<()>;

    /// Withdrawing failed and is tried again at `due`.
    async fn withdrawal_failed(
        &self,
        satellite: &SatelliteId,
        error: &str,
        due: Timestamp,
    ) -> StoreResult<()>;

    /// Whether an admitted satellite other than this one is served by the agent `parent_id`.
    async fn agent_serves_others(&self, parent_id: &str, satellite: &str) -> StoreResult<bool>;

    /// Claims a join token for a key, atomically ([`crate::identity::JoinToken::decide`]). What the satellite worked with until
    /// now stays good until the new key is used. An agent's key is kept with the agent and not with the satellite.
    async fn attest(
        &self,
        attempt: AttestAttempt,
        now: Timestamp,
    ) -> StoreResult<Result<IssueGrant, IssueRefusal>>;

    /// The satellite showed the SVID of `public_key`: the claim that it came from is closed, the key before it ends. Cheap to
    /// repeat.
    async fn identity_used(
        &self,
        satellite: &SatelliteId,
        public_key: &str,
        now: Timestamp,
    ) -> StoreResult<()>;

    /// Keeps a nonce until `expires_at`, and forgets those that ended. `Busy` where too many wait.
    async fn keep_nonce(&self, nonce: &Hashed, expires_at: Timestamp, now: Timestamp) -> StoreResult<()>;

    /// What a renewal by the satellite called `name` is checked against.
    async fn renewal_record(&self, name: &str) -> StoreResult<Option<RenewalRecord>>;

    /// Consumes the nonce and records the new key, atomically; the state and the keys are looked at again
    /// ([`crate::identity::may_renew`]). A refusal consumes the nonce, too.
    async fn renew(
        &self,
        attempt: RenewAttempt,
        now: Timestamp,
    ) -> StoreResult<Result<IssueGrant, IssueRefusal>>;

    /// The authorities of a trust domain, by the time from which they sign.
    async fn authorities(&self, trust_domain: &str) -> StoreResult<Vec<AuthorityRecord>>;

    /// Keeps a new authority; `false` where another replica kept one first that begins to sign at about the same time
    /// (nearer than a tenth of the time for which this one signs).
    async fn add_authority(&self, record: AuthorityRecord) -> StoreResult<bool>;

    /// Forgets an authority.
    async fn remove_authority(&self, id: &str) -> StoreResult<()>;

    /// A node agent, banned or not.
    async fn node_agent(&self, spiffe_id: &str) -> StoreResult<Option<NodeAgent>>;

    /// Every node agent that is not banned, by identity, of at most `most`.
    async fn node_agents(&self, most: u32) -> StoreResult<Vec<NodeAgent>>;

    /// A node agent renewed its SVID: the key seen in use before stays good until the new one is used. Nothing for one that
    /// is banned.
    async fn renew_agent(&self, spiffe_id: &str, new_key: &str, expires_at: Timestamp) -> StoreResult<()>;

    /// A node agent showed the SVID of this key: the key before it ends, and the claim that it came from. Cheap to repeat.
    async fn agent_used(&self, spiffe_id: &str, public_key: &str) -> StoreResult<()>;

    /// Bans the node agents that a satellite's registration names, unless they serve another one that is admitted.
    async fn ban_agents(&self, satellite: &SatelliteId, now: Timestamp) -> StoreResult<()>;

    /// The admitted satellites that are served by the agent of this parent identity (`/agent/<name>`).
    async fn agent_entries(&self, parent_id: &str) -> StoreResult<Vec<AgentEntry>>;
}
