//! Identities of satellites.

use async_trait::async_trait;
use ground_control_domain::identity::{
    AgentEntry, AttestAttempt, AuthorityRecord, AutoRegister, AutoRegistered, Enabling, IssueGrant, IssueRefusal,
    NameRecord, NewRegistration, NodeAgent, Registration, RenewAttempt, RenewalRecord, Withdrawal,
};
use ground_control_domain::satellite::Satellite;
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::Identities;
use ground_control_domain::{SatelliteId, StoreError, StoreResult};
use jiff::Timestamp;

use super::SqlStore;

fn later<T>() -> StoreResult<T> {
    Err(StoreError::invalid("not there yet"))
}

#[async_trait]
#[allow(unused_variables, reason = "skeleton")]
impl Identities for SqlStore {
    async fn name_record(&self, name: &str) -> StoreResult<NameRecord> {
        later()
    }

    async fn register_identity(&self, new: NewRegistration, now: Timestamp) -> StoreResult<(Satellite, bool)> {
        later()
    }

    async fn check_registration(&self, new: &NewRegistration) -> StoreResult<()> {
        later()
    }

    async fn registration(&self, name: &str) -> StoreResult<Option<Registration>> {
        later()
    }

    async fn auto_register(
        &self,
        name: &str,
        region: &str,
        policy: AutoRegister,
        now: Timestamp,
    ) -> StoreResult<AutoRegistered> {
        later()
    }

    async fn grant_secret(&self, satellite: &SatelliteId, secret: &Hashed, now: Timestamp) -> StoreResult<bool> {
        later()
    }

    async fn revoke_satellite(&self, name: &str, now: Timestamp) -> StoreResult<Satellite> {
        later()
    }

    async fn enable_satellite(&self, name: &str, how: Enabling, now: Timestamp) -> StoreResult<Satellite> {
        later()
    }

    async fn approve_satellite(&self, name: &str, now: Timestamp) -> StoreResult<Satellite> {
        later()
    }

    async fn mark_stale(
        &self,
        now: Timestamp,
        threshold: Option<jiff::SignedDuration>,
    ) -> StoreResult<Vec<String>> {
        later()
    }

    async fn due_withdrawals(
        &self,
        now: Timestamp,
        retry: jiff::SignedDuration,
        most: u32,
    ) -> StoreResult<Vec<Withdrawal>> {
        later()
    }

    async fn withdrawn(&self, satellite: &SatelliteId) -> StoreResult<()> {
        later()
    }

    async fn withdrawal_failed(&self, satellite: &SatelliteId, error: &str, due: Timestamp) -> StoreResult<()> {
        later()
    }

    async fn agent_serves_others(&self, parent_id: &str, satellite: &str) -> StoreResult<bool> {
        later()
    }

    async fn attest(&self, attempt: AttestAttempt, now: Timestamp) -> StoreResult<Result<IssueGrant, IssueRefusal>> {
        later()
    }

    async fn identity_used(&self, satellite: &SatelliteId, public_key: &str, now: Timestamp) -> StoreResult<()> {
        later()
    }

    async fn keep_nonce(&self, nonce: &Hashed, expires_at: Timestamp, now: Timestamp) -> StoreResult<()> {
        later()
    }

    async fn renewal_record(&self, name: &str) -> StoreResult<Option<RenewalRecord>> {
        later()
    }

    async fn renew(&self, attempt: RenewAttempt, now: Timestamp) -> StoreResult<Result<IssueGrant, IssueRefusal>> {
        later()
    }

    async fn authorities(&self, trust_domain: &str) -> StoreResult<Vec<AuthorityRecord>> {
        later()
    }

    async fn add_authority(&self, record: AuthorityRecord) -> StoreResult<bool> {
        later()
    }

    async fn remove_authority(&self, id: &str) -> StoreResult<()> {
        later()
    }

    async fn node_agent(&self, spiffe_id: &str) -> StoreResult<Option<NodeAgent>> {
        later()
    }

    async fn node_agents(&self, most: u32) -> StoreResult<Vec<NodeAgent>> {
        later()
    }

    async fn renew_agent(&self, spiffe_id: &str, new_key: &str, expires_at: Timestamp) -> StoreResult<()> {
        later()
    }

    async fn agent_used(&self, spiffe_id: &str, public_key: &str) -> StoreResult<()> {
        later()
    }

    async fn ban_agents(&self, satellite: &SatelliteId, now: Timestamp) -> StoreResult<()> {
        later()
    }

    async fn agent_entries(&self, parent_id: &str) -> StoreResult<Vec<AgentEntry>> {
        later()
    }

}
