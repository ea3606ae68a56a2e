//! SPIRE's server as the registrar.
//!
//! A satellite is one workload entry: its SPIFFE ID, its selectors, and the agent that may serve it. Where that agent
//! comes with a join token, its name is not known before it attests; so the entry's parent is the alias `/agent/<name>`,
//! which an entry that SPIRE makes with the token maps to whoever attests with it.
//!
//! SPIRE cannot void a token. What can be taken away is the alias of a token that nobody used: an agent that comes with
//! it afterwards attests, and is given no entry to serve.

mod entries;

use std::time::Duration;

use async_trait::async_trait;
use fleet_protocol::SatelliteName;
use fleet_protocol::api::{AttestationMethod, SpireAgent};
use identity::{SpiffeId, TrustBundle, TrustDomain};
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use spire::server::{AgentFilter, EntryFilter};
use spire::types::{Agent, MatchBehavior, SelectorMatch};
use spire::{ClientError, ServerClient};

use super::{Prepared, Registrar, RegistrarError, RegistrationRequest};
use crate::domain::identity::Withdrawal;

/// How long the question whether the server answers may take.
const PROBE: Duration = Duration::from_secs(3);

/// Registers satellites with a SPIRE server.
#[derive(Debug, Clone)]
pub struct SpireRegistrar {
    client: ServerClient,
    trust_domain: TrustDomain,
}

/// The alias entry of a join token, and the agent that it is for.
struct Alias {
    entry: String,
    agent: SpiffeId,
}

impl SpireRegistrar {
    /// Registers with the server of this client, in this trust domain.
    #[must_use]
    pub fn new(client: ServerClient, trust_domain: TrustDomain) -> Self {
        Self { client, trust_domain }
    }

    async fn parent(&self, request: &RegistrationRequest) -> Result<SpiffeId, RegistrarError> {
        match request.method {
            AttestationMethod::JoinToken => {
                let alias = SpiffeId::agent(&self.trust_domain, &request.name);
                match &request.parent_agent_id {
                    Some(named) if *named != alias => Err(RegistrarError::Invalid(format!(
                        "an agent that comes with a join token is {alias}, not {named}; leave parent_agent_id out"
                    ))),
                    _ => Ok(alias),
                }
            }
            AttestationMethod::X509pop => {
                if let Some(named) = &request.parent_agent_id
                    && self.attested(named, request.method).await?
                {
                    return Ok(named.clone());
                }
                self.agent_of_certificate(&request.name).await
            }
            AttestationMethod::Sshpop => {
                let named = request.parent_agent_id.as_ref().ok_or_else(|| {
                    RegistrarError::Invalid(
                        "parent_agent_id is required with sshpop: it is in the agent's log and in the list of agents"
                            .to_owned(),
                    )
                })?;
                if self.attested(named, request.method).await? {
                    return Ok(named.clone());
                }
                Err(RegistrarError::NotFound(format!(
                    "no agent {named} has attested to SPIRE; start the agent, then register the satellite"
                )))
            }
        }
    }

    /// Whether this agent attested, and by this method.
    async fn attested(&self, agent: &SpiffeId, method: AttestationMethod) -> Result<bool, RegistrarError> {
        let Some(found) = self.client.agent(agent).await.map_err(refused)? else { return Ok(false) };
        if found.attestation_type == method.as_str() {
            return Ok(true);
        }
        Err(RegistrarError::Invalid(format!(
            "agent {agent} attested by {}, not by {}",
            found.attestation_type,
            method.as_str()
        )))
    }

    /// The agent that showed the satellite's certificate.
    async fn agent_of_certificate(&self, name: &SatelliteName) -> Result<SpiffeId, RegistrarError> {
        let shown = entries::certificate_selector(name);
        let method = AttestationMethod::X509pop.as_str();
        let filter = AgentFilter {
            by_attestation_type: method.to_owned(),
            by_selector_match: Some(SelectorMatch {
                selectors: vec![shown.clone()],
                r#match: MatchBehavior::Superset.into(),
            }),
            ..AgentFilter::default()
        };
        let agents = self.client.agents(Some(filter)).await.map_err(refused)?;
        entries::latest(&agents, &shown).ok_or_else(|| {
            RegistrarError::NotFound(format!(
                "no agent with the selector {} has attested to SPIRE; start the agent with a certificate of the \
                 common name {name}, then register the satellite",
                shown.to_text()
            ))
        })
    }

    async fn aliases(&self, name: &SatelliteName) -> Result<Vec<Alias>, RegistrarError> {
        let alias = SpiffeId::agent(&self.trust_domain, name);
        let filter = EntryFilter { by_spiffe_id: Some((&alias).into()), ..EntryFilter::default() };
        let found = self.client.entries(filter).await.map_err(refused)?;
        let aliases = found.into_iter().filter_map(|entry| {
            let agent = entries::alias_of_token(&entry)?;
            Some(Alias { entry: entry.id, agent })
        });
        Ok(aliases.collect())
    }

    async fn delete(&self, ids: &[String]) -> Result<(), RegistrarError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.client.delete_entries(ids).await.map_err(refused)
    }

    /// Whether entries remain that this agent serves, by its own name or by one that SPIRE's operator gave it.
    async fn is_needed(&self, agent: &Agent, id: &SpiffeId) -> Result<bool, RegistrarError> {
        let under =
            |parent: &SpiffeId| EntryFilter { by_parent_id: Some(parent.into()), ..EntryFilter::default() };
        let own = self.client.entries(under(id)).await.map_err(refused)?;
        if own.iter().any(|entry| entries::alias_of_token(entry).is_none()) {
            return Ok(true);
        }
        if agent.selectors.is_empty() {
            return Ok(false);
        }
        let given = EntryFilter {
            by_selectors: Some(SelectorMatch {
                selectors: agent.selectors.clone(),
                r#match: MatchBehavior::Subset.into(),
            }),
            ..under(&SpiffeId::spire_server(&self.trust_domain))
        };
        for name in self
            .client
            .entries(given)
            .await
            .map_err(refused)?
            .iter()
            .filter_map(|entry| entry.spiffe_id.as_ref())
        {
            let filter = EntryFilter { by_parent_id: Some(name.clone()), ..EntryFilter::default() };
            if !self.client.entries(filter).await.map_err(refused)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Bans an agent that serves nobody; one that is gone, or serves others, is left alone.
    async fn ban_unneeded(&self, id: &SpiffeId) -> Result<(), RegistrarError> {
        match self.client.agent(id).await.map_err(refused)? {
            Some(agent) if !agent.banned && !self.is_needed(&agent, id).await? => {
                self.client.ban_agent(id).await.map(|_| ()).map_err(refused)
            }
            _ => Ok(()),
        }
    }

    /// Removes the aliases of tokens that are good for nothing any more, all but the one of `kept`.
    async fn forget_tokens(
        &self,
        name: &SatelliteName,
        kept: Option<&SpiffeId>,
    ) -> Result<(), RegistrarError> {
        let mut stale = Vec::new();
        for alias in self.aliases(name).await? {
            if Some(&alias.agent) == kept {
                continue;
            }
            let agent = self.client.agent(&alias.agent).await.map_err(refused)?;
            if !agent.is_some_and(|agent| entries::is_alive(&agent, Timestamp::now())) {
                stale.push(alias.entry);
            }
        }
        self.delete(&stale).await
    }

    /// Withdraws the aliases: those of agents that serve others stay, with their agents.
    async fn withdraw_aliases(&self, name: &SatelliteName, unused: bool) -> Result<(), RegistrarError> {
        let alias = SpiffeId::agent(&self.trust_domain, name);
        let filter = EntryFilter { by_parent_id: Some((&alias).into()), ..EntryFilter::default() };
        let serves_others = !unused || !self.client.entries(filter).await.map_err(refused)?.is_empty();
        if serves_others {
            return self.forget_tokens(name, None).await;
        }
        let mut gone = Vec::new();
        for alias in self.aliases(name).await? {
            self.ban_unneeded(&alias.agent).await?;
            gone.push(alias.entry);
        }
        self.delete(&gone).await
    }
}

#[async_trait]
impl Registrar for SpireRegistrar {
    async fn prepare(&self, request: &RegistrationRequest) -> Result<Prepared, RegistrarError> {
        let parent_agent_id = self.parent(request).await?;
        let entry = entries::workload(&request.spiffe_id, &parent_agent_id, &request.selectors)
            .map_err(RegistrarError::Invalid)?;
        let created = self.client.create_entry(entry).await.map_err(refused)?;
        let made: Vec<String> = if created.existed { Vec::new() } else { vec![created.entry.id] };
        let join_token = match request.method {
            AttestationMethod::JoinToken => {
                match self.client.create_join_token(request.ttl, &parent_agent_id).await {
                    Ok(token) => {
                        let end = Timestamp::from_second(token.expires_at).unwrap_or(Timestamp::MAX);
                        Some((token.value, end))
                    }
                    Err(error) => {
                        self.undo_entries(request, &made).await;
                        return Err(refused(error));
                    }
                }
            }
            AttestationMethod::X509pop | AttestationMethod::Sshpop => None,
        };
        Ok(Prepared { parent_agent_id, join_token, token_is_ours: false, made })
    }

    async fn undo(&self, request: &RegistrationRequest, prepared: &Prepared) {
        let mut made = prepared.made.clone();
        if let Some(agent) = token_agent(&self.trust_domain, prepared) {
            match self.aliases(&request.name).await {
                Ok(aliases) => {
                    made.extend(
                        aliases.into_iter().filter(|alias| alias.agent == agent).map(|alias| alias.entry),
                    );
                }
                Err(error) => {
                    tracing::warn!(satellite = %request.name, %error, "alias of an unused join token not removed");
                }
            }
        }
        self.undo_entries(request, &made).await;
    }

    async fn settle(&self, request: &RegistrationRequest, prepared: &Prepared) -> Result<(), RegistrarError> {
        let filter =
            EntryFilter { by_spiffe_id: Some((&request.spiffe_id).into()), ..EntryFilter::default() };
        let found = self.client.entries(filter).await.map_err(refused)?;
        let older = entries::older(&found, &prepared.parent_agent_id, &request.selectors);
        self.delete(&older).await?;
        self.forget_tokens(&request.name, token_agent(&self.trust_domain, prepared).as_ref()).await?;
        if entries::is_agent(&prepared.parent_agent_id)
            && let Some(agent) = self.client.agent(&prepared.parent_agent_id).await.map_err(refused)?
            && agent.banned
        {
            // Its node attests again under the same name; until then the entry waits for it.
            self.client.delete_agent(&prepared.parent_agent_id).await.map_err(refused)?;
            tracing::info!(agent = %prepared.parent_agent_id, "ban of a spire agent lifted");
        }
        Ok(())
    }

    async fn withdraw(&self, withdrawal: &Withdrawal) -> Result<(), RegistrarError> {
        let registration = &withdrawal.registration;
        let unreadable = |what: &str| {
            RegistrarError::Invalid(format!(
                "the recorded {what} of satellite {} cannot be read",
                registration.name
            ))
        };
        let name: SatelliteName = registration.name.parse().map_err(|_| unreadable("name"))?;
        let region = registration.region.parse().map_err(|_| unreadable("region"))?;
        let id = SpiffeId::satellite(&self.trust_domain, &region, &name);
        let filter = EntryFilter { by_spiffe_id: Some((&id).into()), ..EntryFilter::default() };
        let found = self.client.entries(filter).await.map_err(refused)?;
        self.delete(&found.into_iter().map(|entry| entry.id).collect::<Vec<_>>()).await?;
        self.withdraw_aliases(&name, withdrawal.agent_is_unused).await?;
        match registration.parent_id.parse::<SpiffeId>() {
            Ok(parent) if withdrawal.agent_is_unused && self.may_ban(&parent) => {
                self.ban_unneeded(&parent).await
            }
            _ => Ok(()),
        }
    }

    async fn connected(&self) -> bool {
        matches!(tokio::time::timeout(PROBE, self.client.count_agents()).await, Ok(Ok(_)))
    }

    /// Banned agents are left out: they are shut out, and have no SVID.
    async fn agents(&self, attestation_type: Option<&str>) -> Result<Vec<SpireAgent>, RegistrarError> {
        let filter = AgentFilter {
            by_attestation_type: attestation_type.unwrap_or_default().to_owned(),
            by_banned: Some(false),
            ..AgentFilter::default()
        };
        let agents = self.client.agents(Some(filter)).await.map_err(refused)?;
        Ok(agents.into_iter().filter_map(entries::told).collect())
    }

    async fn trust_bundle(&self) -> Result<String, RegistrarError> {
        let bundle = self.client.bundle().await.map_err(refused)?;
        let unusable = |why: String| {
            RegistrarError::Unavailable(format!(
                "the trust bundle of the SPIRE server at {} cannot be used: {why}",
                self.client.server()
            ))
        };
        if bundle.trust_domain != self.trust_domain.as_str() {
            return Err(unusable(format!(
                "it is that of {}, and ours is {}; set SPIFFE_TRUST_DOMAIN",
                bundle.trust_domain, self.trust_domain
            )));
        }
        let authorities =
            bundle.x509_authorities.into_iter().map(|authority| authority.asn1.into()).collect();
        let bundle = TrustBundle::from_der(self.trust_domain.clone(), authorities);
        bundle.map(|bundle| bundle.to_pem()).map_err(|error| unusable(error.to_string()))
    }
}

impl SpireRegistrar {
    fn may_ban(&self, agent: &SpiffeId) -> bool {
        agent.trust_domain() == &self.trust_domain && entries::is_agent(agent)
    }

    async fn undo_entries(&self, request: &RegistrationRequest, ids: &[String]) {
        if let Err(error) = self.delete(ids).await {
            tracing::warn!(satellite = %request.name, %error, "spire entries of a failed registration not removed");
        }
    }
}

/// The agent that will come with the token just made.
fn token_agent(trust_domain: &TrustDomain, prepared: &Prepared) -> Option<SpiffeId> {
    let (token, _) = prepared.join_token.as_ref()?;
    entries::token_agent(trust_domain, token.expose_secret())
}

fn refused(error: ClientError) -> RegistrarError {
    match error {
        ClientError::Invalid { .. } => RegistrarError::Invalid(error.to_string()),
        ClientError::Unreachable { .. }
        | ClientError::NoIdentity { .. }
        | ClientError::Denied { .. }
        | ClientError::Failed { .. }
        | ClientError::Answer { .. } => RegistrarError::Unavailable(error.to_string()),
    }
}
