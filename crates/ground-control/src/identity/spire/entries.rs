//! What entries and agents are to us: decisions on values.

use std::collections::BTreeSet;

use fleet_protocol::SatelliteName;
use fleet_protocol::api::SpireAgent;
use identity::{SpiffeId, TrustDomain};
use jiff::Timestamp;
use spire::types::{Agent, Entry, Selector};

/// Under which SPIRE puts all agents.
const AGENTS: &str = "/spire/agent/";
/// Under which SPIRE puts agents that came with a join token.
const TOKEN_AGENTS: &str = "/spire/agent/join_token/";

/// The entry that lets a workload be a satellite.
pub(super) fn workload(id: &SpiffeId, parent: &SpiffeId, selectors: &[String]) -> Result<Entry, String> {
    if selectors.is_empty() {
        return Err("selectors are required: what the satellite's process must show, such as unix:uid:1000"
            .to_owned());
    }
    let selectors = selectors.iter().map(|text| {
        Selector::parse(text)
            .ok_or_else(|| format!("`{text}` is no selector; write type:value, such as unix:uid:1000"))
    });
    Ok(Entry {
        spiffe_id: Some(id.into()),
        parent_id: Some(parent.into()),
        selectors: selectors.collect::<Result<_, _>>()?,
        ..Entry::default()
    })
}

/// Those of an identity's entries that another agent serves or other selectors guard.
pub(super) fn older(entries: &[Entry], parent: &SpiffeId, selectors: &[String]) -> Vec<String> {
    let wanted: BTreeSet<&str> = selectors.iter().map(String::as_str).collect();
    let parent = parent.to_string();
    let kept = |entry: &Entry| {
        let theirs: BTreeSet<String> = entry.selectors.iter().map(Selector::to_text).collect();
        entry.parent_id.as_ref().is_some_and(|id| id.to_uri() == parent)
            && theirs.len() == wanted.len()
            && theirs.iter().all(|selector| wanted.contains(selector.as_str()))
    };
    entries.iter().filter(|entry| !kept(entry)).map(|entry| entry.id.clone()).collect()
}

/// The agent that an entry gives a second name to, where SPIRE made it together with a join token: its parent is that
/// agent, and its one selector too.
pub(super) fn alias_of_token(entry: &Entry) -> Option<SpiffeId> {
    let parent = entry.parent_id.as_ref()?;
    let [selector] = entry.selectors.as_slice() else { return None };
    let is_alias = parent.path.starts_with(TOKEN_AGENTS)
        && selector.r#type == "spiffe_id"
        && selector.value == parent.to_uri();
    is_alias.then(|| parent.to_id().ok()).flatten()
}

/// The agent that comes with a token.
pub(super) fn token_agent(trust_domain: &TrustDomain, token: &str) -> Option<SpiffeId> {
    format!("spiffe://{trust_domain}{TOKEN_AGENTS}{token}").parse().ok()
}

/// Whether attestation gives such a name.
pub(super) fn is_agent(id: &SpiffeId) -> bool {
    id.path().starts_with(AGENTS)
}

/// What the agent of a satellite shows that attests by a certificate.
pub(super) fn certificate_selector(name: &SatelliteName) -> Selector {
    Selector { r#type: "x509pop".to_owned(), value: format!("subject:cn:{name}") }
}

/// Of several agents that showed the same thing (a certificate that was renewed makes another agent): one that is not
/// banned, then the one whose SVID lasts longest.
pub(super) fn latest(agents: &[Agent], shown: &Selector) -> Option<SpiffeId> {
    agents
        .iter()
        .filter(|agent| agent.selectors.contains(shown))
        .max_by_key(|agent| (!agent.banned, agent.x509svid_expires_at))
        .and_then(|agent| agent.id.as_ref()?.to_id().ok())
}

/// Whether an agent can still serve anybody.
pub(super) fn is_alive(agent: &Agent, now: Timestamp) -> bool {
    !agent.banned && (agent.can_reattest || agent.x509svid_expires_at > now.as_second())
}

/// An agent as the API tells of it.
pub(super) fn told(agent: Agent) -> Option<SpireAgent> {
    let expires_at = (agent.x509svid_expires_at > 0)
        .then(|| Timestamp::from_second(agent.x509svid_expires_at).ok())
        .flatten();
    let mut selectors: Vec<String> = agent.selectors.iter().map(Selector::to_text).collect();
    selectors.sort();
    Some(SpireAgent {
        spiffe_id: agent.id?.to_uri(),
        attestation_type: agent.attestation_type,
        selectors,
        expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(path: &str) -> SpiffeId {
        format!("spiffe://td{path}").parse().unwrap()
    }

    fn entry(name: &str, parent: &str, selectors: &[&str]) -> Entry {
        Entry {
            id: name.to_owned(),
            parent_id: Some((&id(parent)).into()),
            selectors: selectors.iter().map(|text| Selector::parse(text).unwrap()).collect(),
            ..Entry::default()
        }
    }

    fn agent(path: &str, banned: bool, expires: i64) -> Agent {
        Agent {
            id: Some((&id(path)).into()),
            banned,
            x509svid_expires_at: expires,
            selectors: vec![certificate_selector(&"edge-01".parse().unwrap())],
            ..Agent::default()
        }
    }

    #[test]
    fn a_workload_entry_says_who_where_and_what() {
        let made = workload(&id("/satellite/region/eu/a"), &id("/agent/a"), &["docker:label:x:y".to_owned()])
            .unwrap();
        assert_eq!(made.spiffe_id.unwrap().path, "/satellite/region/eu/a");
        assert_eq!(made.parent_id.unwrap().path, "/agent/a");
        assert_eq!(made.selectors, [Selector { r#type: "docker".to_owned(), value: "label:x:y".to_owned() }]);
        for bad in ["", "unix", "unix:", ":uid"] {
            assert!(workload(&id("/a"), &id("/b"), &[bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(workload(&id("/a"), &id("/b"), &[]).unwrap_err().contains("selectors are required"));
    }

    #[test]
    fn only_the_alias_of_a_join_token_is_one() {
        let uri = "spiffe_id:spiffe://td/spire/agent/join_token/t";
        let parent = "/spire/agent/join_token/t";
        assert_eq!(alias_of_token(&entry("e", parent, &[uri])), Some(id(parent)));
        assert_eq!(token_agent(&"td".parse().unwrap(), "t"), Some(id(parent)));
        assert_eq!(alias_of_token(&entry("e", parent, &[uri, "unix:uid:0"])), None);
        assert_eq!(alias_of_token(&entry("e", parent, &["unix:uid:0"])), None);
        assert_eq!(alias_of_token(&entry("e", "/spire/agent/join_token/u", &[uri])), None);
        assert_eq!(alias_of_token(&entry("e", "/spire/server", &["x509pop:subject:cn:a"])), None);
    }

    #[test]
    fn of_several_agents_the_latest_good_one_is_taken() {
        let shown = certificate_selector(&"edge-01".parse().unwrap());
        let agents = [
            agent("/spire/agent/x509pop/1", false, 10),
            agent("/spire/agent/x509pop/2", false, 20),
            agent("/spire/agent/x509pop/3", true, 30),
        ];
        assert_eq!(latest(&agents, &shown), Some(id("/spire/agent/x509pop/2")));
        assert_eq!(latest(&agents[2..], &shown), Some(id("/spire/agent/x509pop/3")));
        assert_eq!(latest(&agents, &certificate_selector(&"edge-02".parse().unwrap())), None);
    }

    #[test]
    fn an_agent_without_a_future_is_not_alive() {
        let now = Timestamp::from_second(100).unwrap();
        assert!(is_alive(&agent("/a", false, 101), now));
        assert!(!is_alive(&agent("/a", false, 100), now));
        assert!(!is_alive(&agent("/a", true, 101), now));
        assert!(is_alive(&Agent { can_reattest: true, ..agent("/a", false, 1) }, now));
    }

    proptest! {
        /// Whatever the order and number of selectors: the entry just made stays, every other one goes.
        #[test]
        fn settling_keeps_exactly_what_was_made(
            selectors in prop::collection::btree_set("unix:uid:[0-9]{1,3}", 1..5),
            others in prop::collection::vec(prop::collection::btree_set("unix:uid:[0-9]{1,3}", 1..5), 0..5),
        ) {
            let made: Vec<&str> = selectors.iter().rev().map(String::as_str).collect();
            let mut entries = vec![entry("made", "/agent/a", &made), entry("elsewhere", "/agent/b", &made)];
            for (at, other) in others.iter().enumerate() {
                let texts: Vec<&str> = other.iter().map(String::as_str).collect();
                entries.push(entry(&at.to_string(), "/agent/a", &texts));
            }
            let gone = older(&entries, &id("/agent/a"), &selectors.iter().cloned().collect::<Vec<_>>());
            prop_assert!(!gone.contains(&"made".to_owned()));
            prop_assert!(gone.contains(&"elsewhere".to_owned()));
            for (at, other) in others.iter().enumerate() {
                prop_assert_eq!(gone.contains(&at.to_string()), *other != selectors);
            }
        }
    }
}
