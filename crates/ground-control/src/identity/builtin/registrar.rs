//! The built-in authority as the maker of identities: join tokens whose hash our own database keeps, and agents that came
//! with them.

use async_trait::async_trait;
use fleet_protocol::api::{AttestationMethod, SpireAgent};
use identity::SpiffeId;
use jiff::{SignedDuration, Timestamp};

use super::Authority;
use crate::domain::StoreError;
use crate::domain::identity::{NodeAgent, Withdrawal};
use crate::domain::secret;
use crate::identity::registrar::{Prepared, Registrar, RegistrarError, RegistrationRequest};

/// The most agents that are listed.
const LISTED: u32 = 10_000;
const METHOD: AttestationMethod = AttestationMethod::JoinToken;

fn unavailable(error: StoreError) -> RegistrarError {
    tracing::warn!(%error, "the database failed the built-in authority");
    RegistrarError::Unavailable("the database does not answer, try again in a moment".to_owned())
}

fn listed(agent: NodeAgent) -> SpireAgent {
    SpireAgent {
        spiffe_id: agent.spiffe_id,
        attestation_type: METHOD.as_str().to_owned(),
        // A join token shows nothing of the machine; the other name is what entries know the agent by.
        selectors: vec![format!("spiffe_id:{}", agent.satellite.parent_id)],
        expires_at: Some(agent.expires_at),
    }
}

#[async_trait]
impl Registrar for Authority {
    async fn prepare(&self, request: &RegistrationRequest) -> Result<Prepared, RegistrarError> {
        if request.method != METHOD {
            return Err(RegistrarError::Invalid(format!(
                "attestation_method: the built-in authority takes join_token only; for {} let Ground Control use a \
                 SPIRE server (SPIRE_SERVER_SOCKET or SPIRE_SERVER_ADDRESS)",
                request.method.as_str()
            )));
        }
        let agent = SpiffeId::agent(&self.trust_domain, &request.name);
        if let Some(other) = request.parent_agent_id.as_ref().filter(|other| **other != agent) {
            return Err(RegistrarError::Invalid(format!(
                "parent_agent_id: with the built-in authority the agent of satellite {} is {agent} and not {other}; \
                 leave it out",
                request.name
            )));
        }
        let life = SignedDuration::try_from(request.ttl).unwrap_or(SignedDuration::MAX);
        let expires_at = Timestamp::now().saturating_add(life).unwrap_or(Timestamp::MAX);
        Ok(Prepared {
            parent_agent_id: agent,
            join_token: Some((secret::generate(), expires_at)),
            token_is_ours: true,
            made: Vec::new(),
        })
    }

    async fn undo(&self, _request: &RegistrationRequest, _prepared: &Prepared) {
        // A token that the database never kept opens nothing.
    }

    async fn settle(
        &self,
        _request: &RegistrationRequest,
        _prepared: &Prepared,
    ) -> Result<(), RegistrarError> {
        // The database closed the unused tokens as it recorded the new one.
        Ok(())
    }

    async fn withdraw(&self, withdrawal: &Withdrawal) -> Result<(), RegistrarError> {
        // Every agent here came with a token of this one satellite.
        let satellite = &withdrawal.registration.satellite;
        self.store.ban_agents(satellite, Timestamp::now()).await.map_err(unavailable)
    }

    async fn connected(&self) -> bool {
        self.store.authorities(self.trust_domain.as_str()).await.is_ok()
    }

    async fn agents(&self, attestation_type: Option<&str>) -> Result<Vec<SpireAgent>, RegistrarError> {
        if attestation_type.is_some_and(|wanted| wanted != METHOD.as_str()) {
            return Ok(Vec::new());
        }
        let agents = self.store.node_agents(LISTED).await.map_err(unavailable)?;
        Ok(agents.into_iter().map(listed).collect())
    }

    async fn trust_bundle(&self) -> Result<String, RegistrarError> {
        Ok(self.bundle().to_pem())
    }
}
