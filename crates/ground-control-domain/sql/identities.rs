//! Identities of satellites: what an SVID is compared with, and which method of the store stands where.

use async_trait::async_trait;
use ground_control_domain::identity::{
    AgentEntry, AttestAttempt, AuthorityRecord, AutoRegister, AutoRegistered, Enabling, IdentityRecord,
    IssueGrant, IssueRefusal, NameRecord, NewRegistration, NodeAgent, Registration, RenewAttempt,
    RenewalRecord, Withdrawal,
};
use ground_control_domain::satellite::{Satellite, SatelliteState};
use ground_control_domain::secret::Hashed;
use ground_control_domain::store::Identities;
use ground_control_domain::{SatelliteId, StoreResult};
use jiff::{SignedDuration, Timestamp};

use super::{During, SqlStore, read, read_json};

/// A registration beside its satellite.
pub(super) struct RegistrationRow {
    pub(super) satellite_id: String,
    pub(super) name: String,
    pub(super) region: String,
    pub(super) attestation_method: String,
    pub(super) parent_id: String,
    pub(super) selectors: String,
}

impl RegistrationRow {
    pub(super) fn registration(self, operation: &'static str) -> StoreResult<Registration> {
        Ok(Registration {
            method: read(operation, &self.attestation_method)?,
            selectors: read_json(operation, &self.selectors)?,
            satellite: SatelliteId::from(self.satellite_id),
            name: self.name,
            region: self.region,
            parent_id: self.parent_id,
        })
    }
}

impl SqlStore {
    async fn look_up_name(&self, name: &str) -> StoreResult<NameRecord> {
        const OPERATION: &str = "look up an identity";
        let mut connection = self.database.read(OPERATION).await?;
        let row = sqlx::query!(
            r#"SELECT s.id AS "id!", s.name AS "name!", s.region AS "region!", s.state AS "state!",
                      s.identity_epoch AS "epoch!: i64",
                      (k.previous_key IS NOT NULL OR EXISTS (
                           SELECT 1 FROM join_tokens t WHERE t.satellite_id = s.id AND t.closed_at IS NULL
                               AND t.claimed_at IS NOT NULL AND t.public_key = k.public_key))
                          AS "awaits_use!: bool"
               FROM satellites s LEFT JOIN identity_keys k ON k.satellite_id = s.id
               WHERE s.name = $1
               ORDER BY CASE WHEN s.state = 'deleted' THEN 1 ELSE 0 END LIMIT 1"#,
            name
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?;
        let Some(row) = row else { return Ok(NameRecord::Unknown) };
        let state = read(OPERATION, &row.state)?;
        if state == SatelliteState::Deleted {
            return Ok(NameRecord::Deleted);
        }
        Ok(NameRecord::Known(IdentityRecord {
            satellite: SatelliteId::from(row.id),
            name: row.name,
            region: row.region,
            state,
            epoch: row.epoch,
            awaits_use: row.awaits_use,
        }))
    }

    async fn find_registration(&self, name: &str) -> StoreResult<Option<Registration>> {
        const OPERATION: &str = "look up a registration";
        let mut connection = self.database.read(OPERATION).await?;
        sqlx::query_as!(
            RegistrationRow,
            r#"SELECT s.id AS "satellite_id!", s.name AS "name!", s.region AS "region!",
                      r.attestation_method AS "attestation_method!", r.parent_id AS "parent_id!",
                      r.selectors AS "selectors!"
               FROM satellites s JOIN registrations r ON r.satellite_id = s.id
               WHERE s.name = $1 AND s.state <> 'deleted'"#,
            name
        )
        .fetch_optional(&mut *connection)
        .await
        .during(OPERATION)?
        .map(|row| row.registration(OPERATION))
        .transpose()
    }
}

#[async_trait]
impl Identities for SqlStore {
    async fn name_record(&self, name: &str) -> StoreResult<NameRecord> {
        self.look_up_name(name).await
    }

    async fn register_identity(
        &self,
        new: NewRegistration,
        now: Timestamp,
    ) -> StoreResult<(Satellite, bool)> {
        self.enrol(&new, now).await
    }

    async fn check_registration(&self, new: &NewRegistration) -> StoreResult<()> {
        self.check_enrolment(new).await
    }

    async fn registration(&self, name: &str) -> StoreResult<Option<Registration>> {
        self.find_registration(name).await
    }

    async fn auto_register(
        &self,
        name: &str,
        region: &str,
        policy: AutoRegister,
        now: Timestamp,
    ) -> StoreResult<AutoRegistered> {
        self.introduce(name, region, policy, now).await
    }

    async fn grant_secret(
        &self,
        satellite: &SatelliteId,
        secret: &Hashed,
        now: Timestamp,
    ) -> StoreResult<bool> {
        self.grant(satellite, secret, now).await
    }

    async fn revoke_satellite(&self, name: &str, now: Timestamp) -> StoreResult<Satellite> {
        self.revoke(name, now).await
    }

    async fn enable_satellite(&self, name: &str, how: Enabling, now: Timestamp) -> StoreResult<Satellite> {
        self.enable(name, how, now).await
    }

    async fn approve_satellite(&self, name: &str, now: Timestamp) -> StoreResult<Satellite> {
        self.approve(name, now).await
    }

    async fn mark_stale(
        &self,
        now: Timestamp,
        threshold: Option<SignedDuration>,
    ) -> StoreResult<Vec<String>> {
        self.mark_silent(now, threshold).await
    }

    async fn due_withdrawals(
        &self,
        now: Timestamp,
        retry: SignedDuration,
        most: u32,
    ) -> StoreResult<Vec<Withdrawal>> {
        self.claim_withdrawals(now, retry, most).await
    }

    async fn withdrawn(&self, satellite: &SatelliteId) -> StoreResult<()> {
        self.end_withdrawal(satellite).await
    }

    async fn withdrawal_failed(
        &self,
        satellite: &SatelliteId,
        error: &str,
        due: Timestamp,
    ) -> StoreResult<()> {
        self.put_off_withdrawal(satellite, error, due).await
    }

    async fn agent_serves_others(&self, parent_id: &str, satellite: &str) -> StoreResult<bool> {
        self.is_parent_of_others(parent_id, satellite).await
    }

    async fn attest(
        &self,
        attempt: AttestAttempt,
        now: Timestamp,
    ) -> StoreResult<Result<IssueGrant, IssueRefusal>> {
        self.claim_join_token(attempt, now).await
    }

    async fn identity_used(
        &self,
        satellite: &SatelliteId,
        public_key: &str,
        now: Timestamp,
    ) -> StoreResult<()> {
        self.key_used(satellite, public_key, now).await
    }

    async fn keep_nonce(&self, nonce: &Hashed, expires_at: Timestamp, now: Timestamp) -> StoreResult<()> {
        self.remember_nonce(nonce, expires_at, now).await
    }

    async fn renewal_record(&self, name: &str) -> StoreResult<Option<RenewalRecord>> {
        self.find_renewal(name).await
    }

    async fn renew(
        &self,
        attempt: RenewAttempt,
        now: Timestamp,
    ) -> StoreResult<Result<IssueGrant, IssueRefusal>> {
        self.renew_identity(attempt, now).await
    }

    async fn authorities(&self, trust_domain: &str) -> StoreResult<Vec<AuthorityRecord>> {
        self.list_authorities(trust_domain).await
    }

    async fn add_authority(&self, record: AuthorityRecord) -> StoreResult<bool> {
        self.keep_authority(record).await
    }

    async fn remove_authority(&self, id: &str) -> StoreResult<()> {
        self.forget_authority(id).await
    }

    async fn node_agent(&self, spiffe_id: &str) -> StoreResult<Option<NodeAgent>> {
        self.find_agent(spiffe_id).await
    }

    async fn node_agents(&self, most: u32) -> StoreResult<Vec<NodeAgent>> {
        self.list_agents(most).await
    }

    async fn renew_agent(&self, spiffe_id: &str, new_key: &str, expires_at: Timestamp) -> StoreResult<()> {
        self.agent_renewed(spiffe_id, new_key, expires_at).await
    }

    async fn agent_used(&self, spiffe_id: &str, public_key: &str) -> StoreResult<()> {
        self.agent_key_used(spiffe_id, public_key).await
    }

    async fn ban_agents(&self, satellite: &SatelliteId, now: Timestamp) -> StoreResult<()> {
        self.ban_agents_of(satellite, now).await
    }

    async fn agent_entries(&self, parent_id: &str) -> StoreResult<Vec<AgentEntry>> {
        self.entries_of(parent_id).await
    }
}
