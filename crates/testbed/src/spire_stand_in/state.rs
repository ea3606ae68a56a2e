//! What the server knows, and what its calls do to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use spire::server as api;
use spire::types::{Agent, Bundle, Entry, JoinToken, Selector, SpiffeId, X509Certificate};
use tonic::{Code, Status};

use super::rules;

/// How long agents' SVIDs are good, in seconds.
const AGENT_LIFE: i64 = 3600;

#[derive(Debug)]
pub(super) struct State {
    trust_domain: String,
    authorities: Vec<Vec<u8>>,
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) agents: BTreeMap<u64, Agent>,
    tokens: BTreeMap<String, i64>,
    /// Rows are numbered as a database would.
    next: u64,
    pub(super) admins: BTreeSet<String>,
    pub(super) calls: Vec<String>,
    pub(super) handshakes: u32,
    pub(super) failures: VecDeque<(String, Code)>,
    pub(super) silent: BTreeSet<String>,
}

impl State {
    pub(super) fn new(trust_domain: &str, authorities: Vec<Vec<u8>>) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            authorities,
            entries: BTreeMap::new(),
            agents: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next: 0,
            admins: BTreeSet::new(),
            calls: Vec::new(),
            handshakes: 0,
            failures: VecDeque::new(),
            silent: BTreeSet::new(),
        }
    }

    fn row(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn bundle(&self) -> Bundle {
        let authority = |der: &Vec<u8>| X509Certificate { asn1: der.clone(), tainted: false };
        Bundle {
            trust_domain: self.trust_domain.clone(),
            x509_authorities: self.authorities.iter().map(authority).collect(),
            jwt_authorities: Vec::new(),
            refresh_hint: 0,
            sequence_number: 1,
        }
    }

    pub(super) fn create_join_token(
        &mut self,
        request: &api::CreateJoinTokenRequest,
    ) -> Result<JoinToken, Status> {
        if request.ttl < 1 {
            return Err(Status::invalid_argument("ttl is required, you must provide one"));
        }
        let alias = match &request.agent_id {
            None => None,
            Some(id) => Some(
                rules::workload(&self.trust_domain, Some(id))
                    .map_err(|why| Status::invalid_argument(format!("invalid agent ID: {why}")))?
                    .clone(),
            ),
        };
        let value = match request.token.as_str() {
            "" => token(),
            given => given.to_owned(),
        };
        if self.tokens.contains_key(&value) {
            return Err(Status::internal("failed to create token: UNIQUE constraint failed"));
        }
        let expires_at = now() + i64::from(request.ttl);
        self.tokens.insert(value.clone(), expires_at);
        if let Some(alias) = alias {
            let parent = self.agent_id("join_token", &value);
            let named = Selector { r#type: "spiffe_id".into(), value: parent.to_uri() };
            let entry = Entry {
                spiffe_id: Some(alias),
                parent_id: Some(parent),
                selectors: vec![named],
                ..Entry::default()
            };
            self.store(entry);
        }
        Ok(JoinToken { value, expires_at })
    }

    fn agent_id(&self, method: &str, proof: &str) -> SpiffeId {
        SpiffeId { trust_domain: self.trust_domain.clone(), path: format!("/spire/agent/{method}/{proof}") }
    }

    fn store(&mut self, mut entry: Entry) -> Entry {
        let row = self.row();
        if entry.id.is_empty() {
            entry.id = token();
        }
        entry.selectors.sort();
        entry.created_at = now();
        self.entries.insert(row, entry.clone());
        entry
    }

    /// The entry, and whether it was there before.
    pub(super) fn create_entry(&mut self, entry: &Entry) -> Result<(Entry, bool), Status> {
        self.check_entry(entry)
            .map_err(|why| Status::invalid_argument(format!("failed to convert entry: {why}")))?;
        if entry.x509_svid_ttl < 0 {
            return Err(Status::invalid_argument(
                "failed to create entry: datastore-validation: invalid registration entry: X509SvidTtl is not set",
            ));
        }
        let key = |entry: &Entry| {
            let selectors: BTreeSet<Selector> = entry.selectors.iter().cloned().collect();
            (entry.spiffe_id.clone(), entry.parent_id.clone(), selectors)
        };
        if let Some(found) = self.entries.values().find(|found| key(found) == key(entry)) {
            return Ok((found.clone(), true));
        }
        Ok((self.store(entry.clone()), false))
    }

    fn check_entry(&self, entry: &Entry) -> Result<(), String> {
        let domain = &self.trust_domain;
        rules::member(domain, entry.parent_id.as_ref()).map_err(|why| format!("invalid parent ID: {why}"))?;
        rules::workload(domain, entry.spiffe_id.as_ref())
            .map_err(|why| format!("invalid spiffe ID: {why}"))?;
        if entry.selectors.is_empty() {
            return Err("selector list is empty".to_owned());
        }
        rules::selectors(&entry.selectors)
    }

    pub(super) fn delete_entry(&mut self, id: &str) -> Result<(), Status> {
        if id.is_empty() {
            return Err(Status::invalid_argument("missing entry ID"));
        }
        let row = self.entries.iter().find(|(_, entry)| entry.id == id).map(|(row, _)| *row);
        row.and_then(|row| self.entries.remove(&row))
            .map(drop)
            .ok_or_else(|| Status::not_found("entry not found"))
    }

    pub(super) fn entry(&self, request: &api::GetEntryRequest) -> Result<Entry, Status> {
        if request.id.is_empty() {
            return Err(Status::invalid_argument("missing ID"));
        }
        let found = self.entries.values().find(|entry| entry.id == request.id);
        found.cloned().ok_or_else(|| Status::not_found("entry not found"))
    }

    pub(super) fn list_entries(
        &self,
        request: &api::ListEntriesRequest,
    ) -> Result<api::ListEntriesResponse, Status> {
        let filter = request.filter.clone().unwrap_or_default();
        let wrong =
            |what: &str, why: String| Status::invalid_argument(format!("malformed {what} filter: {why}"));
        let domain = &self.trust_domain;
        if filter.by_parent_id.is_some() {
            rules::member(domain, filter.by_parent_id.as_ref()).map_err(|why| wrong("parent ID", why))?;
        }
        if filter.by_spiffe_id.is_some() {
            rules::workload(domain, filter.by_spiffe_id.as_ref()).map_err(|why| wrong("SPIFFE ID", why))?;
        }
        if let Some(by) = &filter.by_selectors {
            rules::selectors(&by.selectors).map_err(|why| wrong("selectors", why))?;
            if by.selectors.is_empty() {
                return Err(wrong("selectors", "empty selector set".to_owned()));
            }
        }
        let found = self.entries.iter().filter(|(_, entry)| {
            filter.by_spiffe_id.as_ref().is_none_or(|id| entry.spiffe_id.as_ref() == Some(id))
                && filter.by_parent_id.as_ref().is_none_or(|id| entry.parent_id.as_ref() == Some(id))
                && filter.by_selectors.as_ref().is_none_or(|by| rules::passes(by, &entry.selectors))
        });
        let found = found.map(|(row, entry)| (*row, entry.clone()));
        let (entries, next_page_token) = rules::page(found, request.page_size, &request.page_token)
            .map_err(|why| Status::internal(format!("failed to list entries: {why}")))?;
        Ok(api::ListEntriesResponse { entries, next_page_token })
    }

    fn agents_passing<'a>(
        &'a self,
        filter: &'a api::AgentFilter,
    ) -> Result<impl Iterator<Item = (u64, Agent)> + 'a, Status> {
        if let Some(by) = &filter.by_selector_match {
            rules::selectors(&by.selectors)
                .map_err(|why| Status::invalid_argument(format!("failed to parse selectors: {why}")))?;
        }
        let found = self.agents.iter().filter(|(_, agent)| {
            (filter.by_attestation_type.is_empty() || filter.by_attestation_type == agent.attestation_type)
                && filter.by_banned.is_none_or(|banned| banned == agent.banned)
                && filter.by_can_reattest.is_none_or(|can| can == agent.can_reattest)
                && filter.by_selector_match.as_ref().is_none_or(|by| rules::passes(by, &agent.selectors))
        });
        Ok(found.map(|(row, agent)| (*row, agent.clone())))
    }

    pub(super) fn list_agents(
        &self,
        request: &api::ListAgentsRequest,
    ) -> Result<api::ListAgentsResponse, Status> {
        let filter = request.filter.clone().unwrap_or_default();
        let found = self.agents_passing(&filter)?;
        let (agents, next_page_token) = rules::page(found, request.page_size, &request.page_token)
            .map_err(|why| Status::internal(format!("failed to list agents: {why}")))?;
        Ok(api::ListAgentsResponse { agents, next_page_token })
    }

    pub(super) fn count_agents(&self, request: &api::CountAgentsRequest) -> Result<i32, Status> {
        let filter = request.filter.clone().unwrap_or_default();
        let count = self.agents_passing(&filter)?.count();
        Ok(i32::try_from(count).unwrap_or(i32::MAX))
    }

    fn agent_row(&self, request: &api::AgentRequest) -> Result<u64, Status> {
        let id = rules::agent(&self.trust_domain, request.id.as_ref())
            .map_err(|why| Status::invalid_argument(format!("invalid agent ID: {why}")))?;
        let row = self.agents.iter().find(|(_, agent)| agent.id.as_ref() == Some(id)).map(|(row, _)| *row);
        row.ok_or_else(|| Status::not_found("agent not found"))
    }

    pub(super) fn agent(&self, request: &api::AgentRequest) -> Result<Agent, Status> {
        let row = self.agent_row(request)?;
        self.agents.get(&row).cloned().ok_or_else(|| Status::not_found("agent not found"))
    }

    pub(super) fn ban_agent(&mut self, request: &api::AgentRequest) -> Result<(), Status> {
        let row = self.agent_row(request)?;
        if let Some(agent) = self.agents.get_mut(&row) {
            agent.banned = true;
            agent.x509svid_serial_number.clear();
        }
        Ok(())
    }

    pub(super) fn delete_agent(&mut self, request: &api::AgentRequest) -> Result<(), Status> {
        let row = self.agent_row(request)?;
        let Some(agent) = self.agents.remove(&row) else { return Ok(()) };
        if agent.attestation_type == "join_token" {
            let uri = agent.id.as_ref().map(SpiffeId::to_uri).unwrap_or_default();
            let is_alias = |entry: &Entry| {
                entry.parent_id == agent.id
                    && matches!(entry.selectors.as_slice(), [one] if one.r#type == "spiffe_id" && one.value == uri)
            };
            self.entries.retain(|_, entry| !is_alias(entry));
        }
        Ok(())
    }

    pub(super) fn attest_with_token(&mut self, token: &str) -> Result<String, Status> {
        let expires_at = self.tokens.remove(token).ok_or_else(|| {
            Status::invalid_argument("failed to attest: join token does not exist or has already been used")
        })?;
        if expires_at < now() {
            return Err(Status::invalid_argument("join token expired"));
        }
        let id = self.agent_id("join_token", token);
        self.admit(id, "join_token", Vec::new(), false)
    }

    pub(super) fn attest(&mut self, method: &str, proof: &str, selectors: &[&str]) -> Result<String, Status> {
        let id = self.agent_id(method, proof);
        let selectors = selectors.iter().filter_map(|text| Selector::parse(text)).collect();
        self.admit(id, method, selectors, true)
    }

    fn admit(
        &mut self,
        id: SpiffeId,
        method: &str,
        selectors: Vec<Selector>,
        can_reattest: bool,
    ) -> Result<String, Status> {
        let known = self.agents.iter().find(|(_, agent)| agent.id.as_ref() == Some(&id));
        if known.is_some_and(|(_, agent)| agent.banned) {
            return Err(Status::permission_denied("failed to attest: agent is banned"));
        }
        let row = known.map(|(row, _)| *row);
        let row = row.unwrap_or_else(|| self.row());
        let uri = id.to_uri();
        let agent = Agent {
            id: Some(id),
            attestation_type: method.to_owned(),
            x509svid_serial_number: row.to_string(),
            x509svid_expires_at: now() + AGENT_LIFE,
            selectors,
            banned: false,
            can_reattest,
            agent_version: String::new(),
        };
        self.agents.insert(row, agent);
        Ok(uri)
    }

    pub(super) fn expire(&mut self, agent: &str, at: i64) {
        let found =
            self.agents.values_mut().find(|known| known.id.as_ref().is_some_and(|id| id.to_uri() == agent));
        if let Some(found) = found {
            found.x509svid_expires_at = at;
        }
    }

    pub(super) fn authorized(&self, agent: &str) -> Vec<String> {
        let known =
            self.agents.values().find(|known| known.id.as_ref().is_some_and(|id| id.to_uri() == agent));
        let Some(known) = known.filter(|known| !known.banned) else { return Vec::new() };
        let theirs: BTreeSet<&Selector> = known.selectors.iter().collect();
        let server = SpiffeId { trust_domain: self.trust_domain.clone(), path: "/spire/server".into() };
        let given = self.entries.values().filter(|entry| {
            entry.parent_id.as_ref() == Some(&server)
                && entry.selectors.iter().all(|one| theirs.contains(one))
        });
        let mut names: Vec<SpiffeId> = known.id.iter().cloned().collect();
        names.extend(given.filter_map(|entry| entry.spiffe_id.clone()));
        let mut found = BTreeSet::new();
        while let Some(name) = names.pop() {
            let below = self.entries.values().filter(|entry| entry.parent_id.as_ref() == Some(&name));
            for id in below.filter_map(|entry| entry.spiffe_id.clone()) {
                if found.insert(id.to_uri()) {
                    names.push(id);
                }
            }
        }
        found.into_iter().collect()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Of a UUID's form, as SPIRE makes them.
fn token() -> String {
    let random = format!("{:032x}", rand::random::<u128>());
    let [a, b, c, d, e] = [&random[..8], &random[8..12], &random[12..16], &random[16..20], &random[20..]];
    format!("{a}-{b}-{c}-{d}-{e}")
}
